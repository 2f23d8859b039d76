"""`hf-lotus audit` as a user has it: a model in a folder, published with its audit, verified; and outputs alone."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from hf_lotus import ForgetSetRecord, UnlearningResult
from hf_lotus.cli.main import main
from hf_lotus.evaluation.findings import TIERS, AuditReport
from tests.conftest import TINY_MODELS
from tests.support.made_evidence import World

CARD, RECORD, RESULTS = "README.md", "forget_set.json", "results.json"


@pytest.fixture(scope="module")
def place(tmp_path_factory, model_and_data, processor):
    """A data set, a model, two retrained ones, that model unlearned, and a file of the rows."""
    root = tmp_path_factory.mktemp("audit")
    model_and_data(root)
    (root / "rows.json").write_text(json.dumps(list(range(90))))
    with torch.random.fork_rng():
        for seed, name in enumerate(("retrained", "again"), start=1):
            torch.manual_seed(seed)
            TINY_MODELS["resnet"]().save_pretrained(root / name)
            processor.save_pretrained(root / name)
    flags = [
        "--model_name_or_path",
        root / "model",
        "--dataset_name",
        root / "data",
        "--output_dir",
        root / "unlearned",
    ]
    flags += [
        "--forget_rows",
        root / "rows.json",
        "--method",
        "finetune",
        "--num_train_epochs",
        "1",
        "--use_cpu",
        "True",
    ]
    assert main(["unlearn", *map(str, flags), "--disable_tqdm", "True", "--save_strategy", "no"]) == 0
    return root


def words(root, *options, model="unlearned", output="out"):
    given = {"original_model": root / "model", "retrain_model": root / "retrained", "dataset_name": root / "data",
             "forget_rows": root / "rows.json", "output_dir": root / output}  # fmt: skip
    flags = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["audit", str(root / model), *flags, "--use_cpu", *map(str, options)]


@pytest.fixture(scope="module")
def published(place):
    """The model's folder, with its audit in it."""
    shutil.copytree(place / "unlearned", place / "published")
    assert main(words(place, "--retrain_models", place / "again", model="published", output="published")) == 0
    return place / "published"


@pytest.fixture
def whole(published, tmp_path):
    shutil.copytree(published, tmp_path / "model")
    return tmp_path / "model"


def verified(folder, capsys):
    capsys.readouterr()
    status = main(["verify", str(folder)])
    return status, capsys.readouterr().out


def test_the_document_has_every_tier_with_its_n_and_interval_or_the_reason(published):
    document = json.loads((published / "audit.json").read_text())
    for tier in TIERS:
        entry = document[tier]
        assert (entry["n"] is not None and entry["interval"]) or entry["reason"], tier
    assert 0 <= document["relative_test"]["p_value"] <= 1 and 0 <= document["relative_test_unseen"]["p_value"] <= 1
    rows = [reading["model"] for reading in document["relative_test"]["models"]]
    assert rows == ["unlearned", "original", "retrain", "retrain again"]
    assert document["asked"]["samples"]["forget"] == 90 and document["asked"]["selector"] == {"by": "file"}
    assert "rows.json" not in json.dumps(document["asked"])


def test_results_card_and_record_tell_of_it_and_verify_holds(published, capsys):
    report = AuditReport.from_json(published / "audit.json")
    record = ForgetSetRecord.from_json(published / RECORD)
    assert record.audit["tiers"] == report.figures() == UnlearningResult.from_json(published / RESULTS).audit["tiers"]
    card = ModelCard.load(published / CARD).text
    assert "## Is it gone, or only quiet?" in card and "[audit.html](audit.html)" in card
    status, printed = verified(published, capsys)
    assert status == 0 and "ok      the audit is the one that the record tells of" in printed


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("audit.json", '"level": 0.05', '"level": 0.06'),
        ("audit.json", '"verdict": "', '"verdict":  "'),
        (RESULTS, '"document": "audit.json"', '"document": "audit.jsno"'),
        (RECORD, '"n": 90', '"n": 91'),
        ("audit.json", None, None),
    ],
)
def test_what_is_tampered_with_fails(whole, file, old, new, capsys):
    if old is None:
        (whole / file).unlink()
    else:
        text = (whole / file).read_text()
        assert old in text
        (whole / file).write_text(text.replace(old, new, 1))
    status, printed = verified(whole, capsys)
    assert status == 1 and "FAILED" in printed


def test_an_audit_that_was_put_beside_another_model_fails(place, published, tmp_path, capsys):
    shutil.copytree(place / "unlearned", tmp_path / "other")
    assert verified(tmp_path / "other", capsys)[0] == 0
    shutil.copy(published / "audit.json", tmp_path / "other")
    status, printed = verified(tmp_path / "other", capsys)
    assert status == 1 and "the record tells of none" in printed


def test_a_new_folder_is_left_with_the_audit_alone_and_the_model_as_it_was(place, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in (place / "unlearned").iterdir()}
    assert main(words(place, "--retrain_models", place / "again", output=tmp_path / "out")) == 0
    assert {path.name: path.read_bytes() for path in (place / "unlearned").iterdir()} == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audit.html", "audit.json"]
    printed = capsys.readouterr().out
    assert "| Relearning" in printed and "audit.json and audit.html are in" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--retrain_model", "MODEL"], "those of the original"),
        (["--forget_rows", "nothing.json"], "nothing.json"),
        (["--pool", "nothing"], "nothing"),
        (["--forget_set", "1"], "go with --outputs"),
        (["--name", "original"], "name of another row"),
        (["--unseen_split", "train"], "share"),
        (["--output_dir", "UNLEARNED", "--name", "x", "MODEL"], "unrecognized|one of both|not the audited one"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(place, tmp_path, capsys, change, message):
    change = [str(place / "model") if word == "MODEL" else word for word in change]
    if "UNLEARNED" in change:
        command = words(place, model="model", output="unlearned")
    else:
        command = [*words(place, output=tmp_path / "out"), *change]
    before = {path.name: path.read_bytes() for path in (place / "unlearned").iterdir()}
    assert main(command) == 2
    assert re.search(message, capsys.readouterr().err) and not (tmp_path / "out").exists()
    assert {path.name: path.read_bytes() for path in (place / "unlearned").iterdir()} == before


def test_a_model_or_outputs_and_what_they_need(place, capsys):
    assert main(["audit"]) == 2 and "one of both" in capsys.readouterr().err
    assert main(["audit", str(place / "model")]) == 2
    assert "--original_model and --dataset_name" in capsys.readouterr().err
    assert main(["audit", "--outputs", "x.npz", "--original_model", "m"]) == 2
    assert "cannot stand beside --outputs" in capsys.readouterr().err


def test_outputs_of_another_toolbox_are_audited_without_a_model(tmp_path, capsys):
    world = World(0, 90, 200)
    split = np.array(["forget"] * 90 + ["unseen"] * 200)
    labels = np.concatenate([world.labels["forget"], world.labels["unseen"]])

    def margins(knows):
        return np.concatenate([world.confidence("forget", knows), world.confidence("unseen")])

    models = {"unlearned": margins(2.0), "original": margins(2.0), "retrain": np.stack([margins(0), margins(0)])}
    np.savez(tmp_path / "theirs.npz", split=split, labels=labels, kind="margins", **models)
    given = ["--outputs", tmp_path / "theirs.npz", "--output_dir", tmp_path / "out", "--name", "theirs"]
    assert main(["audit", *map(str, given)]) == 0
    document = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert document["relative_test"]["verdict"] == document["rmia"]["verdict"] == "found: not forgotten"
    assert "It trains the model on" in document["relearning_excess"]["reason"]
    assert "Of 3 tests, 3 found" in capsys.readouterr().out
