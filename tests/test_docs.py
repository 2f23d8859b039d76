"""The pages: their blocks run as they are written, in a folder that has what they name; links, lengths and tables."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from docs_tables import DOCS, pages, renewed, table

from hf_lotus import METHODS, UnlearningResult
from hf_lotus.cli.main import COMMANDS, main
from tests.conftest import TINY_MODELS
from tests.support import tiny_text
from tests.support.hub_client import local_hub
from tests.support.small_data_sets import cifar10

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in pages()}
# The client's own, of its own HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

# Lines of bash blocks that are not run, each with the reason.
NOT_RUN = {
    "pip install torch": "these tests run where it has been done",
    "pip install .": "likewise",
    'pip install ".[metrics]"': "likewise",
    "make demo": "trains four models: a minute or two; its target must exist",
    "make test": "runs this test; its target must exist",
    "make quality": "a check of the style, which CI makes; its target must exist",
    "make types": "likewise of the types",
    "make house": "test_layering.py draws it; its target must exist",
    "pip install 'hf-lotus[signing]'": "from a registry, which these tests do not ask",
    "pip install 'hf-lotus[bom]'": "likewise",
    (
        "model_signing verify key unlearned --signature unlearned/model.sig --public_key owner.pem.pub"
    ): "another program: test_signing.py runs it",
    "hf-lotus lineage your-name/resnet-photos": "that id is a folder here: test_lineage.py asks a Hub",
    "hf-lotus prove MODEL --image PICTURE --label 3 --salt_file SALT --output proof.json": "test_prove.py runs it",
    "hf-lotus prove MODEL --check proof.json": "test_prove.py runs it",
    (
        "hf-lotus pool --recipe cifar10-pool --models 32 --forget_sets ada.json bob.json --output_dir pool"
    ): "trains 32 models: cli/test_pool.py runs two",
    "hf-lotus pool --unlearn lotus --forget_set ada --output_dir pool": "likewise",
    (
        "hf-lotus unlearn --accelerate_config ddp --num_processes 2 --model_name_or_path your-name/resnet-photos "
        "--dataset_name your-name/photos --forget_column user_id --forget_values u17 u42 --output_dir unlearned_by_two"
    ): "cli/test_launch.py starts two ranks with these flags",
    "make docs": "test_the_site_is_built, where mkdocs is installed; its target must exist",
    "make benchmark": "measures for minutes, with nothing else on the machine; its target must exist",
}
# Languages of blocks that say nothing to run.
SILENT = {
    "bibtex": "a citation",
    "toml": "of a distribution that is not here: test_architectures.py makes one",
    "console": "needs packages and recordings that these tests do not download",
}

# What a command is given besides: less to do, of what other tests do in full. A benchmark takes from an hour to days.
REDUCED = {
    "benchmark": "--tiny_model --max_rounds 1 --max_training_rounds 1 --use_cpu --methods lotus ssd --seeds 1",
    "compare": "--num_train_epochs 1 --retrain_again 0 --no_measure_relearning --no_keep_best",
    "unlearn --method auto": "--auto_budget 6000 --auto_methods finetune",
}

# A command begins so, or has this in it → what it must print; the first that fits.
PRINTS = {
    "unlearn": "| original",
    "evaluate": "| original",
    "audit": "audit.json and audit.html are in",
    "compare": "| original",
    "benchmark": "report.html, report.md and results.json are in",
    "push": "is published",
    "--image": "the forget set",
    "--original_model": "ok      lotus: rf jsd",
    "verify": "the figures, measured again: needs",
    "sign": "files are signed",
    "--key": "the signature",
    "bom": "bom.cdx.json",
    "request add": "Request ticket-118",
    "request list": "| ticket-118",
    "request run": "What was to be kept, by each model",
}
# Command → the one that must have been run before it.
BEFORE = {
    "evaluate": "unlearn",
    "audit": "unlearn",
    "push": "unlearn",
    "sign": "unlearn",
    "bom": "unlearn",
    "verify": "push",
}


def blocks(page, *languages):
    found = re.findall(r"^```(\w+)\n(.*?)^```", PAGES[page], re.M | re.S)
    return [(language, text) for language, text in found if not languages or language in languages]


def commands(text):
    """The lines of a bash block, without comments."""
    joined = text.replace("\\\n", " ")
    return [" ".join(line.split("#")[0].split()) for line in joined.splitlines() if line.strip()]


EVERY_COMMAND = [line for page in PAGES for _, text in blocks(page, "bash") for line in commands(text)]
WITH_BLOCKS = [page for page in PAGES if blocks(page, "bash", "python")]


class Place:
    """A folder with what the pages name, and what was printed by the commands that have been run there."""

    def __init__(self, root):
        self.root, self.printed = root, {}

    def run(self, line):
        """Run a command, once, after what it needs; the same command on another page is not run again."""
        if line in self.printed:
            return self.printed[line]
        words = shlex.split(line)[1:]
        if words[0] in BEFORE:
            self.run(next(one for one in EVERY_COMMAND if one.startswith(f"hf-lotus {BEFORE[words[0]]}")))
        self.printed[line] = self._call(words)
        expected = next(text for what, text in PRINTS.items() if line[9:].startswith(what) or what in words)
        assert expected in self.printed[line], line
        return self.printed[line]

    def _call(self, words):
        """In this process, which has everything imported."""
        printed, log = io.StringIO(), io.StringIO()
        line = " ".join(words)
        reduced = [word for start, more in REDUCED.items() if line.startswith(start) for word in more.split()]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(log):
            status = main([*words, *reduced])
        assert status == 0, (words, log.getvalue()[-3000:])
        return printed.getvalue()


def known_by_heart(data, processor):
    """A model that knows a data set better than others: of one that does not, LoTUS finds nothing to unlearn."""
    pixels = processor(list(data["image"]), return_tensors="pt")["pixel_values"]
    labels = torch.tensor(list(data["label"]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TINY_MODELS["resnet"]().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(pixels).logits, labels).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def place(tmp_path_factory, digits, processor):
    """`your-name/photos` and `your-name/resnet-photos` as local folders; a Hub on this machine to publish to."""
    root = tmp_path_factory.mktemp("docs")
    users = digits.remove_columns("user_id").add_column("user_id", [f"u{row % 45}" for row in range(len(digits))])
    splits = {"train": range(200), "validation": range(200, 300), "test": range(300, 400)}
    shuffled = users.shuffle(seed=0)
    (root / "your-name" / "photos").mkdir(parents=True)
    for name, rows in splits.items():
        shuffled.select(rows).to_parquet(root / "your-name" / "photos" / f"{name}-00000.parquet")
    cifar10(root / "uoft-cs" / "cifar10")
    known_by_heart(shuffled.select(splits["train"]), processor).save_pretrained(root / "your-name" / "resnet-photos")
    processor.save_pretrained(root / "your-name" / "resnet-photos")
    digits[0]["image"].save(root / "picture.png")
    tiny_text.write(root / "your-name", model="bert-reviews", data="reviews")
    with pytest.MonkeyPatch.context() as patch, local_hub(root / "home", patch):
        patch.chdir(root)
        patch.setattr("datasets.config.HF_DATASETS_CACHE", root / "home" / "datasets")
        yield Place(root)


def execute(code, page):
    """Run a Python block in this process: what it printed, and its names."""
    printed, names = io.StringIO(), {"__name__": "__main__"}
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(code, page, "exec"), names)
    return printed.getvalue(), names


class TestBlocks:
    @pytest.mark.parametrize("page", WITH_BLOCKS)
    def test_bash(self, page, place):
        for _, text in blocks(page, "bash"):
            for line in commands(text):
                if line not in NOT_RUN:
                    assert line.startswith("hf-lotus "), f"{page}: {line!r} is not run, and NOT_RUN has no reason"
                    place.run(line)

    def test_what_the_commands_leave(self, place):
        left = {
            "unlearn": "unlearned",
            "evaluate": "evaluation",
            "compare": "comparison/seed-2",
        }
        for start, folder in left.items():
            place.run(next(line for line in EVERY_COMMAND if line.startswith(f"hf-lotus {start}")))
            assert UnlearningResult.from_json(place.root / folder / "results.json").models

    def test_every_subcommand_of_daily_use_is_shown(self):
        shown = {line.split()[1] for line in EVERY_COMMAND if line.startswith("hf-lotus ")}
        assert shown == COMMANDS.keys() - {"card", "publish-metric", "demo"}  # named in the text
        for name in COMMANDS:
            assert any(f"hf-lotus {name}" in text for text in PAGES.values())

    def test_python_readme(self, place):
        printed, _ = execute(blocks("README.md", "python")[0][1], "README.md")
        assert "| lotus" in printed

    def test_python_unlearn(self, place):
        printed, _ = execute(blocks("docs/unlearn.md", "python")[0][1], "docs/unlearn.md")
        assert "| lotus" in printed
        left = {path.name for path in (place.root / "unlearned_in_python").iterdir()}
        assert {"model.safetensors", "results.json", "forget_set.json", "README.md", "entropy.png"} <= left

    def test_python_audit(self, place):
        place.run(next(line for line in EVERY_COMMAND if line.startswith("hf-lotus audit")))
        printed, _ = execute(blocks("docs/audit.md", "python")[0][1], "docs/audit.md")
        assert "Of " in printed and "--retrain_model" in printed

    def test_python_metric(self, place):
        printed, _ = execute(blocks("docs/metrics.md", "python")[0][1], "docs/metrics.md")
        assert "'rf_jsd': 0.0" in printed

    def test_python_three_samples(self, place):
        printed, _ = execute(blocks("docs/metrics.md", "python")[1][1], "docs/metrics.md")
        assert float(printed.split()[-1]) < 0.05  # it lies nearer to the original, by construction

    def test_python_method(self, make):
        _, names = execute(blocks("docs/methods.md", "python")[0][1], "docs/methods.md")
        trainer = make(method=names["Ascent"](), arguments={"num_train_epochs": 1})
        assert trainer.train().global_step > 0

    def test_python_compare(self, place):
        printed, _ = execute(blocks("docs/compare.md", "python")[0][1], "docs/compare.md")
        assert all(f"| {row}" in printed for row in ("original", "lotus", "scrub+r", "retrain"))

    def test_yaml_compare(self, place):
        (place.root / "compare.yaml").write_text(blocks("docs/compare.md", "yaml")[0][1], encoding="utf-8")
        common = "--model_name_or_path your-name/resnet-photos --dataset_name your-name/photos --seeds 0"
        printed = place.run(f"hf-lotus compare --config compare.yaml {common} --output_dir by_file --use_cpu")
        assert all(f"| {row} " in printed for row in ("original", "lotus", "lotus_8", "salun_lotus", "retrain"))

    def test_no_block_is_left_out(self):
        tested = {
            "README.md": 1,
            "docs/unlearn.md": 1,
            "docs/audit.md": 1,
            "docs/metrics.md": 2,
            "docs/methods.md": 1,
            "docs/compare.md": 1,
        }
        for page in PAGES:
            assert len(blocks(page, "python")) == tested.get(page, 0), page
            assert len(blocks(page, "yaml")) == (page == "docs/compare.md")
            assert {language for language, _ in blocks(page)} <= {"bash", "python", "yaml", *SILENT}
        assert set(NOT_RUN) <= set(EVERY_COMMAND)

    def test_every_make_target_exists(self):
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
        named = {target for text in PAGES.values() for target in re.findall(r"make (\w+)(?=`| *#|\n)", text)}
        assert {"demo", "test", "quality", "docs", "benchmark"} <= named <= set(targets)

    def test_ci_runs_the_pages_test_command(self):
        script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
        assert "make test" in script and "make test" in EVERY_COMMAND


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


class TestPages:
    @pytest.mark.parametrize("page", PAGES)
    def test_every_link_leads_somewhere(self, page):
        text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.M | re.S)
        found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)", text, re.M)
        for label in re.findall(r"\]\[([^\]]+)\]", text):
            assert f"\n[{label}]: " in text
        for link in found:
            if link.startswith("https://"):
                continue
            file, _, anchor = link.partition("#")
            target = (ROOT / page).parent / file if file else ROOT / page
            assert target.exists(), link
            if anchor:
                headings = re.findall(r"^#+ (.+)", target.read_text(encoding="utf-8"), re.M)
                assert anchor in map(slug, headings), link
            # The site has the pages alone.
            assert page == "README.md" or target.resolve().is_relative_to(DOCS), link

    @pytest.mark.parametrize("page", PAGES)
    def test_no_table_is_wider_than_a_screen(self, page):
        widest = max((len(line) for line in PAGES[page].splitlines() if line.startswith("|")), default=0)
        assert widest <= (120 if page == "README.md" else 170)

    def test_the_readme_is_a_front_door(self):
        assert len(PAGES["README.md"].splitlines()) <= 165

    @pytest.mark.parametrize("page", PAGES)
    def test_tables_of_results_are_of_their_files(self, page):
        assert renewed(PAGES[page]) == PAGES[page], "python benchmarks/docs_tables.py renews the tables"

    def test_an_unknown_column_is_told(self):
        with pytest.raises(ValueError, match="There is no column JDS; there are JSD"):
            table([["Model", "JSD"], ["lotus", "*0.1*"]], ["JDS"])

    def test_columns_by_hand(self):
        rows = [["Model", "A", "B"], ["lotus", "1", "**2**"]]
        assert table(rows, ["B"]) == "| Model |     B |\n|-------|------:|\n| lotus | **2** |"
        assert table(rows, ["B", "unmarked"]) == "| Model | B |\n|-------|--:|\n| lotus | 2 |"

    @pytest.mark.parametrize("page", ["README.md", "docs/methods.md"])
    def test_the_table_of_methods_has_every_method(self, page):
        assert re.findall(r"^\| `(\w+)` \|", PAGES[page], re.M) == list(METHODS)

    def test_every_recipe_is_named(self):
        text = PAGES["docs/reproduce.md"]
        for path in (ROOT / "hf_lotus").rglob("recipes/*.yaml"):
            family, _, rest = path.stem.partition("-")
            assert path.stem in text or (f"`{family}-`" in text and f"`{rest}`" in text), path.stem

    def test_every_page_is_on_the_site(self):
        config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
        assert all(page.removeprefix("docs/") in config for page in PAGES if page != "README.md")

    def test_every_public_name_is_in_the_reference(self):
        import hf_lotus

        named = set(re.findall(r"^::: hf_lotus\.(\w+)$", PAGES["docs/api.md"], re.M))
        assert named == set(hf_lotus.__all__) - {"__version__", "METHODS"}

    @pytest.mark.exhaustive  # `make docs`, which CI runs beside the tests, builds it and is as strict
    def test_the_site_is_built(self, tmp_path):
        pytest.importorskip("material", reason="the extra `docs` is not installed")
        command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "UnlearningTrainer" in (tmp_path / "api.html").read_text(encoding="utf-8")
        theirs = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="https?://')
        assert not any(theirs.search(page.read_text(encoding="utf-8")) for page in tmp_path.glob("*.html"))

    def test_the_config_of_the_site_is_strict_and_asks_no_other_host(self):
        text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
        config = yaml.safe_load(text)
        assert config["strict"] and config["theme"]["font"] is False
