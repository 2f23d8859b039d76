"""The README's blocks run as they are written, in a folder that has what they name."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hf_lotus import UnlearningResult
from tests.conftest import TINY_MODELS
from tests.support.hub_server import HubServer
from tests.support.small_data_sets import cifar10

ROOT = Path(__file__).parents[1]
FREE_PORT = ["--main_process_port", "0"]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# A benchmark is tried out here; its recipe as a whole takes from an hour to days.
REDUCED = ["--tiny_model", "--max_rounds", "1", "--max_training_rounds", "1", "--use_cpu"]
REDUCED += ["--methods", "lotus", "ssd", "--seeds", "1"]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def commands():
    joined = "\n".join(blocks("bash")).replace("\\\n", " ")
    return [line.split("#")[0].strip() for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits, processor):
    """`your-name/photos` and `your-name/resnet-photos` as local folders, which stand for repositories of the Hub."""
    root = tmp_path_factory.mktemp("readme")
    users = digits.remove_columns("user_id").add_column("user_id", [f"u{row % 45}" for row in range(len(digits))])
    splits = {"train": range(200), "validation": range(200, 300), "test": range(300, 400)}
    shuffled = users.shuffle(seed=0)
    (root / "your-name" / "photos").mkdir(parents=True)
    for name, rows in splits.items():
        shuffled.select(rows).to_parquet(root / "your-name" / "photos" / f"{name}-00000.parquet")
    cifar10(root / "uoft-cs" / "cifar10")
    TINY_MODELS["resnet"]().save_pretrained(root / "your-name" / "resnet-photos")
    processor.save_pretrained(root / "your-name" / "resnet-photos")
    return root


def run(command, folder, **variables):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_commands(folder, digits):
    """In the README's order: unlearn, measure, compare; publish to a Hub on this machine, verify; serve requests."""
    written = [shlex.split(line) for line in commands() if line.startswith("hf-lotus")]
    assert [words[1] for words in written] == [
        "unlearn",
        "evaluate",
        "compare",
        *["benchmark"] * 2,
        "unlearn",
        "push",
        *["verify"] * 3,
        *["request"] * 3,
    ]
    for words in written[:3]:
        assert "| original" in run([sys.executable, "-m", "hf_lotus.cli.main", *words[1:]], folder)
    for words in written[3:5]:
        command = [sys.executable, "-m", "hf_lotus.cli.main", *words[1:], *REDUCED]
        assert "report.html, report.md and results.json are in" in run(command, folder)
    # The tests have no GPU, and other launches on their machine.
    launched = run([sys.executable, "-m", "hf_lotus.cli.main", *written[5][1:], "--use_cpu", *FREE_PORT], folder)
    assert launched.count("| original") == 1
    assert UnlearningResult.from_json(folder / "unlearned_by_two" / "results.json").provenance["processes"] == 2
    digits[0]["image"].save(folder / "picture.png")
    expected = ["is published", "the figures, measured again: needs", "ok      lotus: rf jsd", "the forget set"]
    expected += ["Request ticket-118", "| ticket-118", "What was to be kept, by each model"]
    with HubServer() as hub:
        for words, printed in zip(written[6:], expected, strict=True):
            command = [sys.executable, "-m", "hf_lotus.cli.main", *words[1:]]
            assert printed in run(command, folder, **hub.environment(folder / "home"), HF_HUB_OFFLINE="0")
    for output in ("unlearned", "evaluation", "comparison/seed-2"):
        UnlearningResult.from_json(folder / output / "results.json")


def test_the_python_blocks_run(folder):
    unlearn, metric = blocks("python")
    assert "| lotus" in run([sys.executable, "-c", unlearn], folder)
    assert "'rf_jsd': 0.0" in run([sys.executable, "-c", metric], folder)


def test_every_make_target_exists():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    named = [line.split()[1] for line in commands() if line.startswith("make ")]
    assert named and set(named) <= set(targets)


def test_every_other_command_is_an_install():
    assert all(line.startswith(("hf-lotus ", "make ", "pip install ")) for line in commands())


def test_every_linked_file_exists():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links and all((ROOT / link).exists() for link in links)


def test_ci_runs_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in script and "make test" in commands()
