"""`unlearn --method auto` and `--measure_relearning`, several retrained models, and pushing what compare keeps."""

import json
import shutil

import pytest

from hf_lotus import UnlearningResult
from hf_lotus.cli.main import main
from hf_lotus.publishing.disclosure import read_owners_record
from hf_lotus.publishing.record import ForgetSetRecord, owner_path
from hf_lotus.publishing.verification import require_whole


@pytest.fixture(scope="module")
def user(tmp_path_factory, model_and_data):
    root = tmp_path_factory.mktemp("user")
    model_and_data(root)
    return root


@pytest.fixture
def command(user, tmp_path, monkeypatch):
    """A function: command and options → its status; the data, the forget set and the output folder are given."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def run(name, *options, forget=("--forget_values", "u3", "u4", "--forget_column", "user_id")):
        argv = [name, "--dataset_name", user / "data", *forget, "--output_dir", tmp_path / "out", *options]
        return main([str(word) for word in argv])

    return run


def trained(user):
    return ["--model_name_or_path", user / "model", "--use_cpu", "--disable_tqdm", "True"]


def result_of(folder):
    return UnlearningResult.from_json(folder / "results.json")


def test_auto_says_what_it_tried_and_leaves_a_model_to_push(command, user, tmp_path, capsys):
    options = [*trained(user), "--method", "auto", "--auto_methods", "finetune", "--auto_budget", "6000"]
    assert command("unlearn", *options) == 0
    printed = capsys.readouterr().out
    assert "candidates, at most" in printed and "(chosen)" in printed and " lotus " in printed
    require_whole(tmp_path / "out")
    result, record = result_of(tmp_path / "out"), ForgetSetRecord.from_json(tmp_path / "out" / "forget_set.json")
    assert {each["name"] for each in result.provenance["auto"]["tried"]} >= {"lotus", "finetune"}
    assert record.selector["by"] == "column" and "were chosen by the least" in record.results["notes"][-1]
    assert (tmp_path / "out.forget_set.salt").is_file() and not list((tmp_path / "out").glob("*.salt"))
    # Again: nothing is tried anew, and the same model is left.
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    (tmp_path / "out" / "model.safetensors").unlink()
    assert command("unlearn", *options) == 0
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--auto_budget", "50"], "budget of 50 samples is too small for anything"),
        (["--auto_budget", "9000", "--learning_rate", "1e-3"], "learning_rate is what the search chooses"),
        (["--auto_budget", "9000", "--resume_from_checkpoint", "True"], "goes on by itself"),
    ],
)
def test_auto_refuses_what_it_cannot_do(command, user, options, told, capsys):
    assert command("unlearn", *trained(user), "--method", "auto", *options) == 2
    assert told in capsys.readouterr().err


def test_unlearn_measures_relearning_and_holds_against_several_retrained_models(command, user, tmp_path, capsys):
    shutil.copytree(user / "model", tmp_path / "again")
    several = ["--retrain_models", user / "model", tmp_path / "again", "--evaluation_seed", "5"]
    options = ["--num_train_epochs", "1", "--method", "finetune", "--measure_relearning", *several]
    assert command("unlearn", *trained(user), *options) == 0
    result, record = result_of(tmp_path / "out"), ForgetSetRecord.from_json(tmp_path / "out" / "forget_set.json")
    assert [m.name for m in result.models] == ["original", "finetune", "retrain", "retrain again"]
    assert all(model.relearning_excess is not None for model in result.models)
    assert result["finetune"].forget_difference is not None and record.seeds["evaluation_seed"] == 5
    assert record.seeds["seed"] == 42 and "Relearning excess" in (tmp_path / "out" / "README.md").read_text()
    capsys.readouterr()
    # Measured again from the record, with all retrained models, and with one of them too few.
    salt = ["--salt_file", tmp_path / "out.forget_set.salt", "--original_model", user / "model"]
    check = ["verify", tmp_path / "out", "--dataset_name", user / "data", "--device", "cpu", *salt]
    assert main([str(word) for word in [*check, "--retrain_models", user / "model", tmp_path / "again"]]) == 0
    assert "needs retrain_model" not in capsys.readouterr().out
    assert main([str(word) for word in [*check, "--retrain_model", user / "model"]]) == 0
    assert "finetune: avg gap" in (told := capsys.readouterr().out) and "needs retrain_model" in told


@pytest.mark.exhaustive
def test_evaluate_measures_the_same_as_unlearn(command, user, tmp_path):
    several = ["--retrain_models", user / "model", user / "model"]
    base = [*trained(user), "--num_train_epochs", "1", "--method", "finetune", "--measure_relearning", *several]
    assert command("unlearn", *base) == 0
    kept = owner_path(tmp_path / "out")
    shutil.move(tmp_path / "out", tmp_path / "unlearned")
    given = ["--model_name_or_path", tmp_path / "unlearned", "--original_model", user / "model", "--name", "mine"]
    assert command("evaluate", *given, "--measure_relearning", "--device", "cpu", *several) == 0
    # What is published is rounded; what its owner keeps is not.
    public = ForgetSetRecord.from_json(tmp_path / "unlearned" / "forget_set.json")
    theirs = read_owners_record(kept, public).result["finetune"]
    ours = result_of(tmp_path / "out")["mine"]
    assert ours.relearning_excess == pytest.approx(theirs.relearning_excess)
    assert ours.avg_gap == pytest.approx(theirs.avg_gap)
    # The same model given twice is one model.
    assert [m.name for m in result_of(tmp_path / "out").models] == ["original", "mine", "retrain"]


def test_compare_has_the_floor_the_differences_and_a_model_that_push_takes(
    command, user, tmp_path, capsys, monkeypatch
):
    options = ["--methods", "finetune", "neggrad_plus", "retrain", "--num_train_epochs", "1"]
    assert command("compare", *trained(user), *options, "--early_stopping_patience", "1") == 0
    printed, result = capsys.readouterr().out, result_of(tmp_path / "out")
    assert [m.name for m in result.models][-2:] == ["retrain", "retrain again"]
    assert all(m.relearning_excess is not None for m in result.models) and result.controls.avg_gap_floor > 0
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert table in printed and "with their signs" in table and "Avg Gap / floor" in table
    best = tmp_path / "out" / "best"
    assert f"ready for hf-lotus push: {best}" in printed
    require_whole(best)
    assert ForgetSetRecord.from_json(best / "forget_set.json").selector["by"] == "column"
    assert (tmp_path / "out.forget_set.salt").is_file() and not list((tmp_path / "out").glob("*.salt"))
    sent = {}
    monkeypatch.setattr(
        "hf_lotus.publishing.hub._commit",
        lambda api, paths, repo, *_: sent.update(at={path.parent for path in paths}) or Sent,
    )
    monkeypatch.setenv("HF_TOKEN", "a token")
    assert main(["push", str(best), "me/mine"]) == 0
    assert sent["at"] == {best}


class Sent:
    commit_url = "https://example.org"


@pytest.mark.exhaustive
def test_compare_tells_what_each_seed_adds(command, user, tmp_path, capsys):
    options = ["--methods", "finetune", "retrain", "--num_train_epochs", "1", "--retrain_again", "0"]
    seeds = ["--seeds", "1", "2", "--training_seeds", "3", "4", "--evaluation_seeds", "5", "6"]
    plain = ["--no_measure_relearning", "--no_keep_best"]
    share = ("--forget_fraction", "0.2")
    assert command("compare", *trained(user), *options, *seeds, *plain, forget=share) == 0
    table = (tmp_path / "out" / "comparison.md").read_text()
    assert "What each seed adds" in table and "| training (2) | unlearning (2) | evaluation (2) |" in table
    folders = sorted(path.parent.name for path in (tmp_path / "out").glob("*/results.json"))
    assert folders == [f"training-{t}-seed-{s}" for t in (3, 4) for s in (1, 2)]
    first = json.loads((tmp_path / "out" / folders[0] / "results.json").read_text())["provenance"]
    assert (first["seed"], first["training_seed"], first["evaluation_seed"]) == (1, 3, 5)
    assert not list((tmp_path / "out").glob("*/best"))
