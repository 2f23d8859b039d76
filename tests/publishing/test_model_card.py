"""The card: parsed by the Hub's own reader, true to the result, and unmoved by hostile names."""

import re
from html.parser import HTMLParser

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from hf_lotus.evaluation.results import Controls, ModelResult, UnlearningResult
from hf_lotus.methods import METHODS
from hf_lotus.publishing.citations import citations
from hf_lotus.publishing.model_card import write_model_card
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.publishing.sources import hub_id

PROVENANCE = {
    "model": "google/vit-base-patch16-224",
    "dataset": "uoft-cs/cifar10",
    "selector": {"by": "class", "classes": ["cat", "dog"]},
    "samples": {"forget": 5000, "retain": 45000},
    "method": {"name": "lotus", "alpha": 2.0},
    "arguments": {"learning_rate": 1e-06},
    "seed": 3,
    "versions": {"torch": "2.13.0"},
}
HOSTILE = [
    "a: b\n---\n# c",
    "x'\"y: [1, {2}] & *anchor !tag %",
    "| a | b |\n|---|---|",
    "`code` ``` **bold** [text](https://example.org) ![image](x)",
    "<script>alert(1)</script> <!-- </h1>",
    "{{ table }} {% raw %} \\ $x$ ~~y~~",
    "- item\r\n1. more\u2028line",
    "---",
]


def write(folder, name: str = "lotus", **about) -> ModelCard:
    """Write the card of a small comparison and read it back as the Hub does."""
    measured = ModelResult(name, 0.81, 0.93, 0.8, 0.79, mia_member_rate=0.6, unseen_member_rate=0.62, seconds=9.0)
    models = (ModelResult("original", 0.94, 0.93), measured)
    provenance = {key: value for key, value in {**PROVENANCE, **about}.items() if value is not None}
    folder.mkdir(exist_ok=True)
    write_model_card(folder, UnlearningResult(models, Controls(), ("A note.",), provenance), name)
    return ModelCard.load(folder / "README.md")


class TestCard:
    def test_metadata(self, tmp_path):
        data = write(tmp_path / "vit-without-cats").data
        assert data.base_model == "google/vit-base-patch16-224" and data.datasets == ["uoft-cs/cifar10"]
        assert data.library_name == "transformers" and data.pipeline_tag == "image-classification"
        assert data.tags == ["machine-unlearning", "lotus", "hf-lotus"]
        assert data.model_name == "vit-without-cats"

    def test_every_metric_but_the_time_is_an_evaluation_result_of_its_split(self, tmp_path):
        results = write(tmp_path).data.eval_results
        found = {(result.dataset_split, result.metric_type): result.metric_value for result in results}
        assert found == {
            ("forget", "accuracy"): 0.81, ("retain", "accuracy"): 0.93, ("unseen", "accuracy"): 0.8,
            ("test", "accuracy"): 0.79, ("forget", "mia_member_rate"): 0.6, ("unseen", "unseen_member_rate"): 0.62,
        }  # fmt: skip
        assert {result.dataset_type for result in results} == {"uoft-cs/cifar10"}
        assert {result.dataset_name for result in results} == {"cifar10"}

    def test_text_says_what_was_forgotten_how_and_what_was_measured(self, tmp_path):
        text = write(tmp_path).text
        for line in (
            "# vit-base-patch16-224, unlearned with lotus",
            "- Base model: [google/vit-base-patch16-224](https://huggingface.co/google/vit-base-patch16-224)",
            "- Data set: [uoft-cs/cifar10](https://huggingface.co/datasets/uoft-cs/cifar10)",
            "- Chosen by: class; classes: cat, dog",
            "- Forgotten: 5000 samples; retained: 45000",
            "| lotus    |       0.810 |       0.930 |       0.800 |     0.790 |           0.600 |     9.0 |",
            "- A note.",
            "| method alpha | 2.0 |",
            "| learning_rate | 1e-06 |",
            "| seed | 3 |",
            "| torch | 2.13.0 |",
        ):
            assert line in text.splitlines(), line
        assert "evidence, not proof" in text and "spartalis2025lotus" in text

    def test_what_is_not_recorded_is_said_to_be_so(self, tmp_path):
        card = write(tmp_path, **dict.fromkeys(PROVENANCE))
        assert card.data.base_model is None and card.data.datasets is None
        assert {result.dataset_type for result in card.data.eval_results} == {"unknown"}
        for line in ("- Base model: not recorded", "- Data set: not recorded", "- Chosen by: not recorded"):
            assert line in card.text.splitlines()
        assert "- Forgotten: ? samples; retained: ?" in card.text and "None" not in str(card)

    def test_the_selector_tells_of_nobody(self, tmp_path):
        text = write(tmp_path, selector={"by": "file", "file": "alice.json", "users": ["u7"]}).text
        assert "- Chosen by: file" in text.splitlines() and "alice" not in text and "u7" not in text

    def test_a_failed_card_leaves_the_last_good_one(self, tmp_path, monkeypatch):
        before = str(write(tmp_path))
        monkeypatch.setattr("hf_lotus.publishing.model_card.citations", lambda method: {}["missing"])
        with pytest.raises(KeyError):
            write(tmp_path)
        assert (tmp_path / "README.md").read_text(encoding="utf-8") == before
        assert [path.name for path in tmp_path.iterdir()] == ["README.md"]

    def test_a_name_that_was_not_measured(self, tmp_path):
        result = UnlearningResult((ModelResult("original", 1, 1),), Controls())
        with pytest.raises(KeyError, match="No model named 'lotus'"):
            write_model_card(tmp_path, result, "lotus")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", HOSTILE)
class TestHostileNames:
    def test_stay_text_in_the_metadata(self, tmp_path, text):
        data = write(tmp_path, name=text, model=text, dataset=text).data
        assert data.base_model is None and data.datasets is None
        assert data.tags == ["machine-unlearning", text, "hf-lotus"]
        assert len(data.eval_results) == 6 and data.library_name == "transformers"

    def test_add_no_line_no_cell_and_no_markup_to_the_text(self, tmp_path, text):
        about = {
            "model": text, "dataset": text, "method": {text: text}, "versions": {text: text},
            "selector": {text: text}, "samples": {"forget": text, "retain": text},
        }  # fmt: skip
        hostile = write(tmp_path, name=text, **about).text.splitlines()
        tame = write(tmp_path, name="name", **{**about, "model": "a name", "dataset": "a name", "method": {"k": "v"},
                     "versions": {"l": "v"}, "selector": {"k": "v"}, "samples": {}}).text.splitlines()  # fmt: skip
        assert len(hostile) == len(tame)
        for line, like in zip(hostile, tame, strict=True):
            assert _marks(line) == _marks(like), line
        assert re.match("^# .*, unlearned with ", hostile[next(n for n, line in enumerate(hostile) if line)])

    def test_do_not_end_the_metadata_early(self, tmp_path, text):
        write(tmp_path, name=text)
        head, body = re.match(r"---\n(.*?)\n---\n(.*)", (tmp_path / "README.md").read_text(), re.S).groups()
        assert yaml.safe_load(head)["model-index"][0]["results"][0]["task"]["type"] == "image-classification"
        assert body.lstrip().startswith("# vit-base-patch16-224, unlearned with ")


def _marks(line: str) -> list[str]:
    """What Markdown and HTML would read as marks in a line: those that no backslash stands before."""
    marks = re.findall(r"[`*\[\]|<>$~#]", re.sub(r"\\.", "", line))
    return re.findall(r"^\s*(?:#+|[-+] |\d+\. )", line) + marks


def record_of(text: str, **changes) -> ForgetSetRecord:
    """A record in which everything that may be anybody's text is `text`."""
    what = {
        "rows": 3,
        "selector": {"by": text, "column": text, "classes": [text, text]},
        "digests": {"algorithm": "hmac-sha256", "content": "pixels", "salt_commitment": "ab" * 32,
                    "merkle_root": "cd" * 32, "samples": ["ef" * 32] * 3},
        "class_histogram": [{"label": 1, "name": text, "rows": 2}, {"label": 2, "name": None, "rows": 1}],
        "dataset": {"name": text, "id": None, "config": text, "split": text, "revision": text, "fingerprint": text},
        "base_model": {"name": text, "id": None, "revision": text, "license": {"license": text}},
        "method": {"name": text, text: text},
        "arguments": {text: [text]},
        "seeds": {"seed": 1},
        "versions": {text: text},
        "hardware": {"device": text},
        "files": {text: "ab" * 32},
        "requests": [text, text],
        "previous": "12" * 32,
        "task": "image-classification",
    }  # fmt: skip
    return ForgetSetRecord(**{**what, **changes})


def write_record(folder, text: str, **changes) -> tuple[str, ForgetSetRecord]:
    models = (ModelResult("original", 0.94, 0.93), ModelResult(text, 0.81, 0.93, mia_member_rate=0.6, seconds=9.0))
    measured = UnlearningResult(models, Controls(unseen_accuracy=0.8), (), {"samples": {"forget": 3, "retain": 97}})
    record = record_of(text, **changes).measured(measured, text)
    folder.mkdir(exist_ok=True)
    write_model_card(folder, measured, text, record, tags=[text], model_name=text)
    return (folder / "README.md").read_text(encoding="utf-8"), record


def rendered(card: str) -> str:
    """The card's text as HTML, tables and raw HTML included, as generously as any renderer reads it."""
    body = ModelCard(card).text
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body)


class Outline(HTMLParser):
    """The elements of a page and their links, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, *[value for name, value in attributes if name in ("href", "src")]))

    def handle_data(self, data):
        self.text += data


class TestCardOfARecord:
    def test_says_what_was_forgotten_and_how_to_verify_it(self, tmp_path):
        text, record = write_record(
            tmp_path / "unlearned",
            "lotus",
            dataset=dict.fromkeys(("config", "split", "fingerprint")) | {"name": "someone/photos",
                         "id": "someone/photos", "revision": "ab12"},
            base_model={"name": "someone/vit", "id": "someone/vit", "revision": None,
                        "license": {"license": "other", "license_name": "own"}},
            selector={"by": "column", "column": "user_id", "num_values": 2},
            requests=["2026-001"],
        )  # fmt: skip
        (tmp_path / "unlearned" / "entropy.png").touch()
        for line in (
            "- Base model: [someone/vit](https://huggingface.co/someone/vit)",
            "- Data set: [someone/photos](https://huggingface.co/datasets/someone/photos/tree/ab12)",
            "- Chosen by: column; column: user_id; num_values: 2",
            "- Forgotten: 3 samples; retained: 97",
            "- Samples of each class: lotus: 2, 2: 1",
            "- Requests served: 2026-001",
            f"- Record: [forget_set.json](forget_set.json), digest `{record.digest}`",
            f"- Merkle root of the samples' salted digests: `{'cd' * 32}`",
            f"- Digest of the record before it: `{'12' * 32}`",
            "hf-lotus verify MODEL --dataset_name someone/photos --salt_file SALT",
        ):
            assert line in text.splitlines(), line
        data = ModelCard(text).data
        assert data.base_model == "someone/vit" and data.base_model_relation == "finetune"
        assert (data.license, data.license_name, data.datasets) == ("other", "own", ["someone/photos"])
        assert "entropy.png" not in text, "there was no figure yet"
        assert "salt_commitment" not in text and "ef" * 32 not in text

    def test_without_digests_classes_or_results(self, tmp_path):
        record = record_of("lotus", digests=None, class_histogram=None, requests=(), previous=None, results=None)
        write_model_card(tmp_path, None, "lotus", record)
        text = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert "Merkle" not in text and "of each class" not in text and "Requests" not in text
        assert "Nothing has been measured." in text and not ModelCard(text).data.eval_results

    def test_open_rows_need_no_salt(self, tmp_path):
        write_model_card(tmp_path, None, "lotus", record_of("lotus", row_numbers=[1, 2, 3], digests=None))
        text = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert "tells nobody" not in text and "The record lists the rows that were forgotten." in text
        assert "hf-lotus verify MODEL --dataset_name DATA_SET\n" in text and "SALT" not in text

    @pytest.mark.parametrize("name", [*METHODS, "own"])
    def test_every_method_of_a_paper_cites_it(self, name):
        cited = citations({"name": name, "inner": {"name": "random_labels"}} if name == "salun" else {"name": name})
        numbers = re.findall(r"arXiv:([\d.]+)", METHODS[name].__doc__) if name in METHODS else []
        assert all(number in cited for number in numbers[:1]) and "2503.18314" in cited
        assert cited.count("@") == len(set(re.findall(r"eprint +=.*", cited)))

    def test_weights_that_are_not_finished(self, tmp_path):
        write_model_card(tmp_path, None, "lotus", record_of("lotus", status="in progress"))
        card = ModelCard.load(tmp_path / "README.md")
        assert "**Unlearning has not ended.**" in card.text and "is to unlearn" in card.text
        assert card.data.tags == ["machine-unlearning", "lotus", "hf-lotus", "unfinished"]

    def test_weights_that_did_not_change_have_unlearned_nothing(self, tmp_path):
        card, record = write_record(tmp_path, "x", unchanged=True)
        first = card.split("\n# ")[1].split("\n\n")[1]
        assert first.startswith("**Nothing was unlearned.**") and "bit for bit" in first
        assert "has **unlearned**" not in card and f"- To be forgotten: {record.rows} samples" in card

    def test_limits_are_told(self, tmp_path):
        text = " ".join(write_record(tmp_path, "lotus")[0].split())
        for told in ("evidence, not proof", "stronger attacks", "still know the samples", "not that it was"):
            assert told in text

    @pytest.mark.parametrize("text", HOSTILE)
    def test_hostile_text_in_a_record_stays_text(self, tmp_path, text):
        """The page has the same elements and links as that of a tame record, and shows the text as it is."""
        hostile, record = write_record(tmp_path / "a", text)
        tame, _ = write_record(tmp_path / "b", "a name")
        page, like = Outline(rendered(hostile)), Outline(rendered(tame))
        assert page.elements == like.elements
        assert " ".join(text.split()) in " ".join(page.text.split())
        data = ModelCard(hostile).data
        assert data.tags[1] == text and data.license == text and data.model_name == text
        assert yaml.safe_load(hostile.split("\n---\n")[0].removeprefix("---\n")) == data.to_dict()
        assert record.digest in hostile

    def test_the_page_has_its_headings_tables_and_code(self, tmp_path):
        elements = [element[0] for element in Outline(rendered(write_record(tmp_path, "lotus")[0])).elements]
        counts = {tag: elements.count(tag) for tag in ("h1", "h2", "table", "pre", "ul")}
        assert counts == {"h1": 1, "h2": 6, "table": 2, "pre": 4, "ul": 1}


class TestHubId:
    @pytest.mark.parametrize("name", ["google/vit-base-patch16-224", "cifar10", "a/B_c.d-e"])
    def test_names_of_repositories(self, name):
        assert hub_id(name) == name

    @pytest.mark.parametrize(
        "name",
        [None, "", "./model", "../model", "/home/someone/model", "~/model", "a/b/c", "a/..", "C:\\model", "two words",
         "a/b\n", "-x/y", "https://example.org/x"],
    )  # fmt: skip
    def test_everything_else_is_none(self, name):
        assert hub_id(name) is None

    def test_a_local_folder_is_no_repository_even_if_it_looks_like_one(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "out" / "model").mkdir(parents=True)
        assert hub_id("out/model") is None and hub_id("out") is None and hub_id("other/model") == "other/model"

    @pytest.mark.parametrize("place", ["/home/someone/secret/my-vit", "../secret/my-vit", "secret/of/my-vit/"])
    def test_a_card_names_no_place_on_one_machine(self, tmp_path, place):
        card = write(tmp_path, model=place, dataset=place)
        assert card.data.base_model is None and card.data.datasets is None
        assert "secret" not in str(card) and "- Base model: my-vit" in card.text.splitlines()
