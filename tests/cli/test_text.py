"""The command line on texts, from a checkpoint in a folder to a verified model: forget an author."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_lotus import ForgetSetRecord, UnlearningResult
from hf_lotus.cli.main import main
from hf_lotus.requests.queue import RequestQueue
from tests.support import tiny_text
from tests.support.hub_client import local_hub

# The client's own, of its own HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
AUTHOR = ["--forget_column", "author", "--forget_values", "a3"]
TRAINING = ["--num_train_epochs", "1", "--use_cpu", "True", "--disable_tqdm", "True", "--learning_rate", "1e-3"]


@pytest.fixture
def owner(tmp_path, monkeypatch):
    """A folder with a tiny BERT and texts, where commands run; and a function that runs one."""
    tiny_text.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["hf-lotus", *map(str, words)])
        return main()

    return run


def unlearn(owner, *more):
    options = ["--model_name_or_path", "model", "--dataset_name", "data", "--output_dir", "out", "--stop_margin", 2]
    return owner("unlearn", *options, *AUTHOR, *TRAINING, *more)


def test_an_author_is_forgotten_measured_verified_and_published(owner, tmp_path, monkeypatch, capsys):
    (tmp_path / "one.txt").write_text(tiny_text.texts()[3]["text"])
    (tmp_path / "other.txt").write_text("a text that nobody wrote")
    assert unlearn(owner) == 0
    printed = capsys.readouterr().out
    assert "Identical texts:" in printed and "| lotus" in printed
    out = tmp_path / "out"
    AutoModelForSequenceClassification.from_pretrained(out)
    assert AutoTokenizer.from_pretrained(out)("a rose")["input_ids"] == tiny_text.tokenizer()("a rose")["input_ids"]
    record, card = ForgetSetRecord.from_json(out / "forget_set.json"), ModelCard.load(out / "README.md")
    assert (record.rows, record.task, record.digests["content"]) == (12, "text-classification", "text")
    assert card.data.pipeline_tag == "text-classification" and "This text classifier has" in card.text
    assert "--text TEXT" in card.text and "--image" not in card.text
    said = "".join(path.read_text() for path in (out / "README.md", out / "forget_set.json", out / "results.json"))
    assert not re.search(r"\ba3\b", said) and tiny_text.texts()[3]["text"] not in said

    salt = ["--salt_file", "out.forget_set.salt"]
    verify = ["verify", "out", *salt, "--dataset_name", "data", "--original_model", "model", "--device", "cpu"]
    assert owner(*verify) == 0
    assert "ok      lotus: rf jsd" in capsys.readouterr().out
    assert owner("verify", "out", *salt, "--text", "one.txt", "--expect", "in") == 0
    assert "IN the forget set" in capsys.readouterr().out
    assert owner("verify", "out", *salt, "--text", "other.txt", "--expect", "in") == 1
    assert owner("verify", "out", *salt, "--image", "one.txt") == 0
    assert "the record has no digests of pictures" in capsys.readouterr().out

    options = ["--model_name_or_path", "out", "--original_model", "model", "--name", "lotus", "--output_dir", "again"]
    assert owner("evaluate", *options, "--dataset_name", "data", "--device", "cpu", *AUTHOR) == 0
    again = UnlearningResult.from_json(tmp_path / "again" / "results.json")["lotus"].metrics()
    # What is published is rounded, by the number of samples; the owner's is not.
    full = json.loads((tmp_path / "out.forget_set.owner.json").read_text())["record"]["results"]["models"]
    told = next(row for row in full if row["name"] == "lotus")
    assert again == pytest.approx({name: told[name] for name in again}, abs=1e-6)
    assert ModelCard.load(tmp_path / "again" / "README.md").data.pipeline_tag == "text-classification"

    with local_hub(tmp_path, monkeypatch) as hub:
        assert owner("push", "out", "me/forgotten") == 0
        names = set(hub.repos["models", "me/forgotten"].files)
        assert {"model.safetensors", "tokenizer.json", "tokenizer_config.json", "forget_set.json"} <= names
        assert owner("verify", "me/forgotten") == 0


def test_an_audit_calls_texts_texts_and_relearns_on_some_of_them(owner, tmp_path, capsys):
    audited = tiny_text.tiny_bert()
    audited.classifier.bias.data += 0.1
    audited.save_pretrained("audited")
    given = ["--original_model", "model", "--dataset_name", "data", *AUTHOR, "--relearn_rows", 40, "--use_cpu"]
    assert owner("audit", "audited", *given) == 0
    report = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert (report["asked"]["kind"], report["asked"]["relearn_rows"]) == ("text", 40)
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert "forgotten texts" in page and "picture" not in page


@pytest.mark.exhaustive  # many short runs; the choice itself knows nothing of kinds
def test_a_method_is_chosen_for_texts(owner, tmp_path, capsys):
    options = ["--model_name_or_path", "model", "--dataset_name", "data", "--output_dir", "out", *AUTHOR]
    options += ["--method", "auto", "--auto_methods", "finetune", "--auto_budget", 2500]
    assert owner("unlearn", *options, "--use_cpu", "--disable_tqdm", "True") == 0
    tried = UnlearningResult.from_json("out/results.json").provenance["auto"]["tried"]
    assert {each["name"] for each in tried} == {"lotus", "finetune"}
    assert ForgetSetRecord.from_json("out/forget_set.json").task == "text-classification"


def test_texts_cut_off_and_columns_named_are_recorded_and_taken_again(owner, tmp_path, capsys):
    assert unlearn(owner, "--text_column", "text", "--max_length", 6, "--task", "text-classification") == 0
    loading = json.loads((tmp_path / "out" / "forget_set.json").read_text())["loading"]
    assert (loading["text_column"], loading["max_length"]) == (["text"], 6)
    options = [
        "--salt_file",
        "out.forget_set.salt",
        "--dataset_name",
        "data",
        "--original_model",
        "model",
        "--device",
        "cpu",
    ]
    assert owner("verify", "out", *options) == 0
    assert "FAILED" not in capsys.readouterr().out


@pytest.mark.exhaustive
def test_many_methods_in_one_table_and_those_that_texts_have_no_use_for_left_out(owner, tmp_path, capsys):
    options = ["--model_name_or_path", "model", "--dataset_name", "data", "--output_dir", "compared"]
    methods = ["lotus", "margin_matching", "unsir", "retrain"]
    assert owner("compare", *options, *AUTHOR, *TRAINING, "--methods", *methods, "--retrain_again", 0) == 0
    printed = capsys.readouterr().out
    assert "unsir is left out: unsir cannot unlearn a BertForSequenceClassification" in printed
    best = ModelCard.load(tmp_path / "compared" / "best" / "README.md")
    assert best.data.pipeline_tag == "text-classification"


def test_deletion_requests_of_authors(owner, capsys):
    for number, author in enumerate(["a3", "a7"]):
        request = ["--forget_column", "author", "--forget_values", author, "--id", f"r{number}"]
        assert owner("request", "add", *request) == 0
        options = ["--model_name_or_path", "model", "--dataset_name", "data", "--stop_margin", 2, *TRAINING]
        assert owner("request", "run", *options, "--save_strategy", "no") == 0
    latest = RequestQueue("requests").latest()
    record = ForgetSetRecord.from_json(latest.model / "forget_set.json")
    assert (record.rows, list(record.requests), record.task) == (24, ["r0", "r1"], "text-classification")
    options = ["--dataset_name", "data", "--salt_file", "requests/salt", "--original_model", "model"]
    assert owner("verify", latest.model, *options, "--device", "cpu") == 0
    assert "ok      lotus: rf jsd" in capsys.readouterr().out


def test_which_model_it_is_can_be_said_wrongly(owner, capsys):
    assert unlearn(owner, "--task", "image-classification") == 2
    assert "a model for text-classification (bert), not for image-classification." in capsys.readouterr().err


def test_the_example_script(owner, monkeypatch, capsys):
    script = Path(__file__).parents[2] / "examples" / "unlearn_text_classification.py"
    options = ["--model_name_or_path", "model", "--dataset_name", "data", "--output_dir", "by_script", *AUTHOR]
    monkeypatch.setattr(sys, "argv", [str(script), *options, *TRAINING, "--max_length", "16"])
    runpy.run_path(str(script), run_name="__main__")
    assert UnlearningResult.from_json("by_script/results.json").models[1].name == "margin_matching"
    assert "| margin_matching " in capsys.readouterr().out
