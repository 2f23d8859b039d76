"""Results: frozen, to JSON and back without loss, readable as a table, and silent about secrets."""

import dataclasses
import json
import platform
import sys

import pytest

from hf_lotus.evaluation.provenance import _without_secrets, provenance
from hf_lotus.evaluation.results import FORMAT_VERSION, Controls, ModelResult, UnlearningResult, to_markdown
from hf_lotus.utils.files import write_whole
from hf_lotus.utils.text import plain

ORIGINAL = ModelResult(
    "original", 0.9394, 0.93825, unseen_accuracy=0.802, rf_jsd=0.01571, rf_jsd_z=46.04, seconds=None
)
LOTUS = ModelResult("lotus", 1 / 3, 0.93, unseen_accuracy=0.8, rf_jsd=0.0062, rf_jsd_z=14.3, seconds=61.25)
CONTROLS = Controls(unseen_accuracy=0.802, rf_jsd_null_mean=0.0019, rf_jsd_null_std=0.00031)

TABLE = """\
| Model                    | Forget acc. | Retain acc. | Unseen acc. |          RF-JSD | RF-JSD z | Seconds |
|--------------------------|------------:|------------:|------------:|----------------:|---------:|--------:|
| original                 |       0.939 |       0.938 |       0.802 |          0.0157 |     46.0 |       – |
| lotus                    |       0.333 |       0.930 |       0.800 |          0.0062 |     14.3 |    61.2 |
| *reference: unseen data* |       0.802 |           – |           – | 0.0019 ± 0.0003 |        – |       – |

- Classes without unseen samples: 7."""


@pytest.fixture
def result() -> UnlearningResult:
    about = {"seed": 3, "selector": {"by": "rows"}, "rounds": [{"temperature": 1.25}], "dataset": "données"}
    return UnlearningResult((ORIGINAL, LOTUS), CONTROLS, ("Classes without unseen samples: 7.",), about)


def document(**changes) -> str:
    """A stored result with some of its fields changed."""
    model = {"name": "original", "forget_accuracy": 0.5, "retain_accuracy": 0.5}
    whole = {"format_version": FORMAT_VERSION, "models": [model], "controls": {}, "notes": [], "provenance": {}}
    return json.dumps({name: value for name, value in {**whole, **changes}.items() if value is not ...})


class TestJson:
    def test_round_trip_is_exact(self, result, tmp_path):
        path = tmp_path / "results.json"
        result.to_json(path)
        again = UnlearningResult.from_json(str(path))
        assert again == result
        assert again["lotus"].forget_accuracy == 1 / 3 and again["lotus"].jsd is None
        assert json.loads(path.read_text())["format_version"] == 1

    def test_nothing_but_the_whole_file_is_left(self, result, tmp_path):
        result.to_json(tmp_path / "results.json")
        result.to_json(tmp_path / "results.json")
        assert [path.name for path in tmp_path.iterdir()] == ["results.json"]

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_figure_that_is_not_finite_is_refused_and_the_last_good_file_kept(self, result, tmp_path, value):
        path = tmp_path / "results.json"
        result.to_json(path)
        good = path.read_bytes()
        bad = dataclasses.replace(result, models=(ModelResult("lotus", value, 0.5),))
        with pytest.raises(ValueError, match=r"results\.json was not written, as a figure is not finite"):
            bad.to_json(path)
        assert path.read_bytes() == good and len(list(tmp_path.iterdir())) == 1

    def test_a_failed_write_leaves_nothing_behind(self, tmp_path):
        with pytest.raises(UnicodeEncodeError):
            write_whole(tmp_path / "card.md", "half of it \ud800")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (document(format_version=2), r"not a result of format version 1 \(it says 2\)\. Read it with the version"),
            (document(format_version=...), r"\(it says None\)"),
            ("[1, 2]", r"\(it says None\)"),
            ('{"models": ', "is not valid JSON"),
            (document(models=[{"name": "x", "forget_accuracy": 1, "retain_accuracy": 1, "luck": 7}]), "luck"),
            (document(models=[{"name": "x", "forget_accuracy": 1}]), "retain_accuracy"),
            (document(models=...), "not a result that this version can read: 'models'"),
            (document(controls={"moon": 1}), "moon"),
            (document(weather="fine"), "weather"),
        ],
    )
    def test_what_it_does_not_know_is_refused(self, tmp_path, text, message):
        path = tmp_path / "results.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as error:
            UnlearningResult.from_json(path)
        assert str(path) in str(error.value)

    def test_the_stored_document_of_these_tests_is_a_good_one(self, tmp_path):
        (tmp_path / "results.json").write_text(document())
        assert UnlearningResult.from_json(tmp_path / "results.json")["original"].retain_accuracy == 0.5


class TestResult:
    def test_is_frozen(self, result):
        for part, name in ((result, "notes"), (result.models[0], "forget_accuracy"), (result.controls, "jsd_floor")):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, name, 1)

    def test_a_model_is_found_by_its_name(self, result):
        assert result["lotus"] is LOTUS
        with pytest.raises(KeyError, match="No model named 'retrain'; there are original, lotus"):
            result["retrain"]

    def test_metrics_are_those_that_were_measured(self):
        assert ModelResult("x", 0.5, 0.0, jsd=None, seconds=2.0).metrics() == {
            "forget_accuracy": 0.5, "retain_accuracy": 0.0, "seconds": 2.0,
        }  # fmt: skip


class TestTable:
    def test_line_by_line(self, result):
        assert result.to_markdown() == TABLE

    def test_without_controls_there_is_no_reference_row(self):
        table = UnlearningResult((ORIGINAL,), Controls()).to_markdown()
        assert len(table.splitlines()) == 3 and "reference" not in table

    def test_every_control_stands_under_the_metric_that_it_calibrates(self):
        full = ModelResult("m", *(0.1,) * 12)
        controls = Controls(0.81, 0.82, 0.83, 0.0001, 0.85)
        header, _, _, reference = UnlearningResult((full,), controls).to_markdown().splitlines()
        cells = dict(
            zip(*([cell.strip() for cell in line.split("|")[1:-1]] for line in (header, reference)), strict=True)
        )
        assert {name: value for name, value in cells.items() if value != "–"} == {
            "Model": "*reference: unseen data*", "Forget acc.": "0.810", "MIA member rate": "0.820",
            "JSD": "0.8500", "RF-JSD": "0.8300 ± 0.0001",
        }  # fmt: skip

    def test_several_comparisons_in_one_table(self, result):
        lines = to_markdown({"ViT": result, "ResNet": dataclasses.replace(result, notes=())}).splitlines()
        names = [line.split("|")[1].strip() for line in lines[2:8]]
        assert names == [
            "ViT original", "ViT lotus", "ViT *reference: unseen data*",
            "ResNet original", "ResNet lotus", "ResNet *reference: unseen data*",
        ]  # fmt: skip
        assert lines[8:] == ["", "- ViT: Classes without unseen samples: 7."]

    def test_a_name_cannot_break_the_table(self):
        hostile = ModelResult("a|b\n| c <b>*x*", 0.5, 0.5)
        lines = UnlearningResult((hostile,), Controls()).to_markdown().splitlines()
        assert len(lines) == 3
        assert lines[2] == r"| a\|b \| c &lt;b&gt;\*x\* |       0.500 |       0.500 |"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("google/vit-base-patch16-224", "google/vit-base-patch16-224"),
        ("neggrad_plus", "neggrad_plus"),
        ("_all_ - of it", r"\_all\_ \- of it"),
        ("[x](y) `z` ~~a~~ $b$ #c \\", r"\[x\](y) \`z\` \~\~a\~\~ \$b\$ \#c \\"),
        ("<img src=x> & more", "&lt;img src=x&gt; &amp; more"),
        ("two\n\r\n lines\t", "two lines"),
        (3.5, "3.5"),
    ],
)
def test_text_of_a_users_stays_text(text, escaped):
    assert plain(text) == escaped


class TestProvenance:
    def test_says_with_what_and_by_which_command(self, monkeypatch):
        monkeypatch.setattr(
            sys, "argv", ["/home/someone/bin/hf-lotus", "unlearn", "--hub_token", "hf_secret", "--seed", "3"]
        )
        about = provenance(seed=3, samples={"forget": 5})
        assert about["command"] == "hf-lotus unlearn --hub_token *** --seed 3"
        assert about["seed"] == 3 and about["samples"] == {"forget": 5}
        assert about["versions"]["python"] == platform.python_version()
        assert about["versions"]["torch"] and about["versions"]["transformers"]
        assert about["hardware"]["device"] and about["hardware"]["cpus"] >= 1
        json.dumps(about, allow_nan=False)

    @pytest.mark.parametrize(
        ("given", "shown"),
        [
            ("--hub_token X --lr 1", "--hub_token *** --lr 1"),
            ("--hub_token=X --lr 1", "--hub_token=*** --lr 1"),
            ("--hub_token=a=b", "--hub_token=***"),
            ("--HUB-TOKEN X", "--HUB-TOKEN ***"),
            ("--hub_token", "--hub_token"),
            ("--push_to_hub_token --lr 1", "--push_to_hub_token --lr 1"),
            ("--wandb_api_key X", "--wandb_api_key ***"),
            ("--password=X", "--password=***"),
            ("--note hf_" + "aB3" * 11, "--note ***"),
            ("--model hf_lotus --rows 1 2", "--model hf_lotus --rows 1 2"),
        ],
    )
    def test_secrets_are_hidden(self, given, shown):
        assert _without_secrets(given.split()) == shown.split()
