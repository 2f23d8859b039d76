"""`hf-lotus compare` as a user runs it, on a checkpoint and a data set in folders."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import yaml

from hf_lotus import ForgetRetainSplit, UnlearningResult
from hf_lotus.benchmark.contenders import choose
from hf_lotus.cli.main import main
from hf_lotus.methods import METHODS
from tests.conftest import TINY_MODELS

EXAMPLE = Path(__file__).parents[2] / "examples" / "compare_methods.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory, digits, processor):
    """A tiny ResNet with its processor, and a data set in parquet."""
    root = tmp_path_factory.mktemp("user")
    held_out = ForgetRetainSplit.from_fraction(digits.remove_columns("user_id"), 0.3, seed=3)
    (root / "data").mkdir()
    held_out.retain.to_parquet(root / "data" / "train-00000.parquet")
    held_out.forget.to_parquet(root / "data" / "test-00000.parquet")
    TINY_MODELS["resnet"]().save_pretrained(root / "model")
    processor.save_pretrained(root / "model")
    return root


@pytest.fixture
def compare(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def run(*options):
        argv = ["compare", "--model_name_or_path", folders / "model", "--dataset_name", folders / "data"]
        argv += ["--output_dir", tmp_path / "out", "--use_cpu", "--disable_tqdm", "True", "--num_train_epochs", "1"]
        return main([str(word) for word in (*argv, *options)]), tmp_path / "out"

    return run


def test_all_methods_in_one_table_with_original_and_retrain(compare, capsys):
    status, out = compare("--methods", "all", "--forget_fraction", "0.1")
    assert status == 0
    names = [model.name for model in UnlearningResult.from_json(out / "results.json").models]
    assert names == ["original", *(name for name in METHODS if name != "retrain"), "retrain", "retrain again"]
    printed = capsys.readouterr().out
    assert (out / "comparison.md").read_text() in printed
    for heading in ("Forget acc.", "MIA member rate", "MIA efficacy", "JSD", "RF-JSD", "ZRF", "Avg Gap", "Seconds"):
        assert f" {heading} " in printed


@pytest.mark.exhaustive
def test_what_a_transformer_has_nothing_of_is_left_out_of_all_with_a_note(compare, tmp_path, processor, capsys):
    TINY_MODELS["vit"]().save_pretrained(tmp_path / "vit")
    processor.save_pretrained(tmp_path / "vit")
    only = ["--retrain_again", "0", "--measure_relearning", "False", "--keep_best", "False"]
    status, out = compare("--model_name_or_path", tmp_path / "vit", "--forget_fraction", "0.1", *only)
    assert status == 0
    result = UnlearningResult.from_json(out / "results.json")
    others = [name for name in METHODS if name not in ("retrain", "ct")]
    assert [model.name for model in result.models] == ["original", *others, "retrain"]
    note = "ct is left out: ct cannot unlearn a ViTForImageClassification: ct transposes spatial kernels"
    assert any(text.startswith(note) for text in result.notes) and note in capsys.readouterr().out


@pytest.mark.exhaustive
def test_class_wise_methods_in_one_table(compare):
    """The noise of UNSIR's classes is costly, and has its own tests."""
    status, out = compare("--methods", *(n for n in METHODS if n != "unsir"), "--forget_class", "digit 3")
    assert status == 0
    result = UnlearningResult.from_json(out / "results.json")
    assert "Whole classes are forgotten" in result.notes[0] and len(result.models) == len(METHODS) + 1  # retrain again


def test_seeds_have_forget_sets_of_their_own_and_a_mean(compare, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("forget_fraction: 0.1\nmethods:\n  finetune:\n  mine: {method: neggrad_plus, alpha: 0.9}\n")
    assert compare("--config", recipe, "--seeds", "3", "4")[0] == 0
    results = [UnlearningResult.from_json(tmp_path / "out" / f"seed-{seed}" / "results.json") for seed in (3, 4)]
    assert len({result.provenance["split_digest"] for result in results}) == 2
    assert [result.provenance["seed"] for result in results] == [3, 4]
    assert results[0].provenance["methods"]["mine"]["alpha"] == 0.9
    assert "over 2 runs (seeds 3, 4), each with its own forget set." in capsys.readouterr().out


def test_all_means_the_rows_of_the_recipe_or_every_method_and_retrain_only_where_none_is_given():
    assert list(choose(["all"], {}, has_retrain=False)) == list(METHODS)
    assert "retrain" not in choose(["all"], {}, has_retrain=True)
    recipe = {"a": {"method": "scrub"}, "gold": {"method": "retrain"}, "lotus": None}
    assert list(choose(["all"], recipe, has_retrain=False)) == ["a", "gold", "lotus"]
    assert list(choose(["all"], recipe, has_retrain=True)) == ["a", "lotus"]
    assert list(choose(["a", "ssd"], recipe, has_retrain=True)) == ["a", "ssd"]
    with pytest.raises(ValueError, match="Did you mean 'scrub'"):
        choose(["skrub"], {}, has_retrain=True)


@pytest.mark.parametrize("path", sorted(EXAMPLE.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_the_recipes_that_are_shipped_name_nothing_unknown(path):
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))["methods"]
    assert list(choose(["all"], recipe, has_retrain=False)) == list(recipe)


def test_a_wrong_method_is_told_before_anything_is_loaded(compare, capsys):
    status, _ = compare("--methods", "lotos", "--forget_fraction", "0.1")
    assert status == 2 and "Did you mean 'lotus'" in capsys.readouterr().err


def test_the_example_compares_in_python(folders, tmp_path, monkeypatch, capsys):
    command = [EXAMPLE, "--model_name_or_path", folders / "model", "--dataset_name", folders / "data"]
    command += ["--output_dir", tmp_path / "out", "--num_train_epochs", "1", "--use_cpu", "--disable_tqdm", "True"]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    printed = capsys.readouterr().out
    assert "| salun (lotus)" in printed and "**Bold**" in printed
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["models"]) == 12
