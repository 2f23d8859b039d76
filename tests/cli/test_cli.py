"""The command line on a checkpoint and a data set in folders, as a user has them."""

import json
import os
import re
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml
from datasets import DatasetDict
from huggingface_hub import ModelCard
from transformers import AutoModelForImageClassification

from hf_lotus import UnlearningResult
from hf_lotus.cli.main import COMMANDS, main
from tests.support.in_full import result_in_full
from tests.support.ranks import on_ranks, script

EXAMPLE = Path(__file__).parents[2] / "examples" / "unlearn_image_classification.py"


@pytest.fixture(scope="session")
def folders(tmp_path_factory, digits, processor):
    """A trained tiny ResNet with its processor, a data set in parquet, and a file of rows to forget."""
    from hf_lotus import ForgetRetainSplit
    from tests.conftest import TINY_MODELS

    root = tmp_path_factory.mktemp("user")
    held_out = ForgetRetainSplit.from_fraction(digits, 0.3, seed=3)
    (root / "data").mkdir()
    held_out.retain.to_parquet(root / "data" / "train-00000.parquet")
    held_out.forget.to_parquet(root / "data" / "test-00000.parquet")
    for name in ("model", "retrained"):
        model = TINY_MODELS["resnet"]()
        model.save_pretrained(root / name)
        processor.save_pretrained(root / name)
    (root / "rows.json").write_text(json.dumps(list(range(5, 45))))
    return root


@pytest.fixture
def unlearn(folders, tmp_path, monkeypatch):
    """A function: options → (exit status, output folder) of `hf-lotus unlearn` on the folders."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def run(*options, output="out"):
        defaults = ["--model_name_or_path", str(folders / "model"), "--dataset_name", str(folders / "data")]
        defaults += ["--output_dir", str(tmp_path / output)]
        defaults += ["--num_train_epochs", "2", "--use_cpu", "True", "--disable_tqdm", "True"]
        if "finetune" not in options:
            # An untrained model is often below LoTUS's bound already; these tests are not about stopping.
            defaults += ["--stop_margin", "2"]
        # As on a command line, where what is recorded comes from.
        command = ["hf-lotus", "unlearn", *defaults, *map(str, options)]
        monkeypatch.setattr(sys, "argv", command)
        return main(), tmp_path / output

    return run


def test_a_patience_is_all_that_a_choice_by_the_retrain_free_gap_needs(unlearn, folders):
    more = ["--early_stopping_patience", 1, "--num_train_epochs", 4, "--learning_rate", 0.02]
    more += ["--keep_checkpoints", True]
    status, out = unlearn("--forget_rows", folders / "rows.json", *more)
    assert status == 0
    (best,) = out.glob("checkpoint-*")
    state = json.loads((best / "trainer_state.json").read_text())
    result = result_in_full(out)
    assert result["lotus"].retrain_free_gap == pytest.approx(state["best_metric"], abs=1e-12)
    # One more round was taken, which was not better, unless the best was the last.
    assert len(result.provenance["rounds"]) == min(round(state["epoch"]) + 1, 4)


def test_unlearn_writes_model_results_card_and_figure(unlearn, folders, capsys):
    status, out = unlearn("--forget_rows", folders / "rows.json", "--retrain_model", folders / "retrained")
    assert status == 0
    AutoModelForImageClassification.from_pretrained(out)
    result = UnlearningResult.from_json(out / "results.json")
    assert [model.name for model in result.models] == ["original", "lotus", "retrain"]
    about = result.provenance
    assert about["samples"] == {"forget": 40, "retain": 240, "unseen": 60, "test": 60}
    assert about["method"] == {"name": "lotus", "alpha": 2.0, "retain_fraction": 0.3, "stop_margin": 2.0}
    assert (about["arguments"]["optim"], about["arguments"]["learning_rate"]) == ("adamw_torch_fused", 1e-4)
    assert ModelCard.load(out / "README.md").data.tags == ["machine-unlearning", "lotus", "hf-lotus"]
    assert (out / "entropy.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert result_in_full(out).to_markdown() in printed and "Identical images" in printed


def test_evaluate_measures_what_unlearn_measured(unlearn, folders, tmp_path):
    selection = ["--forget_rows", folders / "rows.json", "--retrain_model", folders / "retrained"]
    _, out = unlearn(*selection)
    again = tmp_path / "again"
    status = main(
        ["evaluate", "--model_name_or_path", str(out), "--original_model", str(folders / "model"), "--name", "lotus",
         "--dataset_name", str(folders / "data"), "--output_dir", str(again), "--device", "cpu", *map(str, selection)]
    )  # fmt: skip
    assert status == 0
    first, second = result_in_full(out), UnlearningResult.from_json(again / "results.json")
    assert second["lotus"].metrics() == pytest.approx(
        {name: value for name, value in first["lotus"].metrics().items() if name != "seconds"}, abs=1e-9
    )
    assert second.controls == first.controls


@pytest.mark.parametrize(
    ("options", "forgotten", "selector"),
    [
        (["--forget_class", "digit 3"], 28, {"by": "class", "classes": ["digit 3"]}),
        (["--forget_column", "user_id", "--forget_values", "u7", "u1"], None, {"by": "column", "num_values": 2}),
        (["--forget_fraction", "0.25", "--method", "finetune"], 70, {"by": "fraction", "fraction": 0.25}),
    ],
)
def test_the_other_ways_to_choose(unlearn, options, forgotten, selector):
    status, out = unlearn(*options)
    assert status == 0
    about = UnlearningResult.from_json(out / "results.json").provenance
    assert selector.items() <= about["selector"].items()
    assert forgotten in (None, about["samples"]["forget"])
    assert not re.search(r"\bu7\b|\bu1\b", (out / "results.json").read_text() + (out / "README.md").read_text())


def test_a_file_of_options_under_the_flags(unlearn, folders, tmp_path):
    config = {"forget_rows": str(folders / "rows.json"), "alpha": 8, "learning_rate": "1e-3", "num_train_epochs": 5}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**config, "duplicates": "ignore", "horizontal_flip": True}))
    status, out = unlearn("--config", tmp_path / "run.yaml", "--alpha", "4")
    assert status == 0
    about = UnlearningResult.from_json(out / "results.json").provenance
    assert about["method"]["alpha"] == 4.0
    assert (about["arguments"]["learning_rate"], about["arguments"]["num_train_epochs"]) == (1e-3, 2.0)


def test_a_validation_split_is_the_unseen_set(unlearn, folders, tmp_path, digits):
    DatasetDict(
        train=digits.select(range(200)), validation=digits.select(range(200, 300)), test=digits.select(range(300, 400))
    ).save_to_disk(tmp_path / "saved")
    status, out = unlearn("--dataset_name", tmp_path / "saved", "--forget_fraction", "0.2")
    assert status == 0
    samples = UnlearningResult.from_json(out / "results.json").provenance["samples"]
    assert (samples["unseen"], samples["test"]) == (100, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--forget_class", "digit 33"], "no class 'digit 33' to forget. Did you mean 'digit 3'"),
        ([], "exactly one of forget_rows, forget_class"),
        (["--forget_class", "1", "--forget_fraction", "0.1"], "got forget_class, forget_fraction"),
        (["--forget_column", "user_id"], "forget_column and forget_values go together"),
        (["--forget_column", "user", "--forget_values", "u1"], "no column 'user'. Did you mean 'user_id'"),
        (["--forget_fraction", "0.1", "--train_split", "trian"], "no split 'trian'. Did you mean 'train'"),
        (["--forget_fraction", "0.1", "--method", "lotos"], "no method 'lotos'. Did you mean 'lotus'"),
        (["--forget_rows", "nowhere.json"], "nowhere.json"),
    ],
)
def test_errors_say_what_to_do_and_write_nothing(unlearn, capsys, options, message):
    status, out = unlearn(*options)
    assert status == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_an_unknown_option_in_a_file(unlearn, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("forget_fractoin: 0.1\n")
    assert unlearn("--config", tmp_path / "run.yaml")[0] == 2
    assert "'forget_fractoin', which does not exist. Did you mean 'forget_fraction'" in capsys.readouterr().err


def test_identical_images_are_reported_moved_and_dropped(unlearn, folders, tmp_path, digits, capsys):
    twins = digits.select([*range(200), 0, 1, 2])
    DatasetDict(train=twins, test=digits.select([*range(200, 400), 3])).save_to_disk(tmp_path / "twins")
    (tmp_path / "rows.txt").write_text("\n".join(map(str, range(10))))
    expected = {"report": (10, 193, 201), "move": (13, 190, 200), "drop": (10, 190, 200)}
    for how, (forget, retain, held_out) in expected.items():
        status, out = unlearn("--dataset_name", tmp_path / "twins", "--forget_rows", tmp_path / "rows.txt",
                              "--duplicates", how, output=how)  # fmt: skip
        assert status == 0
        assert "3 of forget & retain" in capsys.readouterr().out
        samples = UnlearningResult.from_json(out / "results.json").provenance["samples"]
        assert (samples["forget"], samples["retain"]) == (forget, retain)
        assert samples["unseen"] + samples["test"] == held_out


def test_evaluate_refuses_the_name_of_another_row_and_other_classes(folders, tmp_path, capsys):
    common = ["--original_model", str(folders / "model"), "--dataset_name", str(folders / "data"), "--device", "cpu"]
    common += ["--forget_fraction", "0.1", "--output_dir", str(tmp_path / "out")]
    assert main(["evaluate", "--model_name_or_path", str(folders / "model"), "--name", "retrain", *common]) == 2
    assert "call the unlearned model something else" in capsys.readouterr().err
    other = AutoModelForImageClassification.from_pretrained(folders / "model")
    other.config.id2label = {number: f"digit {9 - number}" for number in range(10)}
    ordered = AutoModelForImageClassification.from_pretrained(folders / "model")
    ordered.config.id2label = {number: f"digit {number}" for number in range(10)}
    for name, model in {"reversed": other, "ordered": ordered}.items():
        model.save_pretrained(tmp_path / name)
    common[1] = str(tmp_path / "ordered")
    assert main(["evaluate", "--model_name_or_path", str(tmp_path / "reversed"), *common]) == 2
    assert "another order" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_resuming_by_flag(unlearn, folders, capsys):
    options = ["--forget_rows", folders / "rows.json", "--seed", "5", "--keep_checkpoints", "True"]
    unlearn(*options)
    assert unlearn(*options)[0] == 2
    assert "out is not empty (README.md, checkpoint-" in capsys.readouterr().err
    again = unlearn(*options, "--overwrite_output_dir", "True")
    first = UnlearningResult.from_json(again[1] / "results.json")
    status, out = unlearn(*options, "--resume_from_checkpoint", "True")
    assert status == 0
    again = UnlearningResult.from_json(out / "results.json")
    assert again["lotus"].metrics() | {"seconds": 0} == first["lotus"].metrics() | {"seconds": 0}
    before = sorted(out.iterdir())
    assert unlearn(*options, "--resume_from_checkpoint", "nowhere/checkpoint-9")[0] == 2
    assert sorted(out.iterdir()) == before, "nothing of an earlier run is lost"
    assert "no checkpoint folder 'nowhere/checkpoint-9'" in capsys.readouterr().err


def test_malformed_yaml(unlearn, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("alpha: [1")
    assert unlearn("--config", tmp_path / "run.yaml")[0] == 2
    assert "not valid YAML" in capsys.readouterr().err


def test_help_lists_every_command_and_the_methods_fields(capsys):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(command in listed for command in COMMANDS)
    with pytest.raises(SystemExit) as stopped:
        main(["unlearn", "--method", "lotus", "--help"])
    assert stopped.value.code == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "--alpha ALPHA [LoTUS] α, how fast the temperature rises" in listed
    assert "--gradient_accumulation_steps" in listed


def test_an_unknown_command(capsys):
    assert main(["forget"]) == 2
    assert "unknown command 'forget'" in capsys.readouterr().err


def arguments(folders, out):
    options = ["--model_name_or_path", folders / "model", "--dataset_name", folders / "data", "--output_dir", out,
               "--forget_fraction", "0.11", "--num_train_epochs", "2", "--use_cpu", "True", "--seed", "3",
               "--per_device_train_batch_size", "16", "--disable_tqdm", "True"]  # fmt: skip
    return list(map(str, [EXAMPLE, *options]))


def launched(command, folders, out):
    """In two processes that a launcher starts."""
    command = [sys.executable, "-m", *command, *arguments(folders, out)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def forked(folders, out):
    """In two processes that are told of each other as launchers do it."""
    told = out.with_suffix(".txt")
    on_ranks(script, arguments(folders, out), told)
    return told.read_text()


# Those that launch, and import all in each process, are as many seconds for the little that `test_launch` has not.
LAUNCHERS = {
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"],
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
}
STARTS = {"forked": forked, **{name: partial(launched, command) for name, command in LAUNCHERS.items()}}


@pytest.mark.parametrize(
    "start", ["forked", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in LAUNCHERS)]
)
def test_the_example_runs_alone_and_on_two_ranks(start, folders, tmp_path, monkeypatch, capsys):
    """Two real ranks: 31 forget samples do not divide by two, and the accuracies are exact all the same."""
    monkeypatch.setattr(sys, "argv", arguments(folders, tmp_path / "alone"))
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    alone = result_in_full(tmp_path / "alone")
    assert alone.to_markdown() in capsys.readouterr().out
    printed = STARTS[start](folders, tmp_path / "both")
    both = result_in_full(tmp_path / "both")
    assert both.provenance["processes"] == 2
    assert printed.count("| original") == 1
    assert both.provenance["samples"] == alone.provenance["samples"]
    assert both["original"].metrics() == pytest.approx(alone["original"].metrics(), rel=1e-6)
    first, reference = both.provenance["rounds"][0], alone.provenance["rounds"][0]
    assert first["temperature"] == reference["temperature"]
