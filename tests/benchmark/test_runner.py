"""Benchmarks: what was made is taken again, settings never mix, and every recipe runs at a reduced size."""

import json
from dataclasses import replace

import pytest

from hf_lotus import UnlearningArguments, UnlearningResult
from hf_lotus.benchmark.contenders import choose
from hf_lotus.benchmark.recipe import load_recipe, recipe_names
from hf_lotus.benchmark.runner import Benchmark
from hf_lotus.cli.main import main
from tests.support.every_method import by_kind

pytestmark = pytest.mark.usefixtures("datasets_cache")


@pytest.fixture
def bench(small_recipe, tmp_path):
    """A function: runs a recipe at a reduced size with two methods, and gives its results and its folder."""

    def run(name="cifar10-small", methods=("lotus", "ssd"), seeds=(1,), recipe=None, **options):
        recipe = recipe or small_recipe(name)
        arguments = UnlearningArguments(str(tmp_path / "out"), use_cpu=True, disable_tqdm=True)
        benchmark = Benchmark(recipe, tmp_path / "out", arguments, **options)
        results = benchmark.run(list(seeds), choose(list(methods), recipe.methods, has_retrain=True))
        return results, benchmark.folder

    return run


def without_cost(result):
    """All but what the process cost that told it."""
    return replace(result, provenance={key: value for key, value in result.provenance.items() if key != "cost"})


class TestBenchmark:
    def test_it_resumes_and_a_further_method_and_seed_join_what_is_there(self, bench, trained):
        (first,), folder = bench(methods=("lotus",))
        assert trained == ["_Training", "_Training", "lotus"]
        assert [model.name for model in first.models] == ["original", "lotus", "retrain"]
        assert first["retrain"].seconds > 0 and first["retrain"].avg_gap == 0 and first["lotus"].jsd is not None
        assert UnlearningResult.from_json(folder / "seed-1" / "results.json").models == first.models
        trained.clear()
        again, same = bench(methods=("lotus", "ssd"), seeds=(1, 2))
        assert same == folder and again[0]["lotus"] == first["lotus"]
        assert trained == ["ssd", "_Training", "_Training", "lotus", "ssd"]
        details = again[0].provenance["details"]
        assert set(details) == {"original", "lotus", "ssd", "retrain"}
        assert {"temperature", "forget_accuracy"} <= details["lotus"]["rounds"][0].keys()
        assert details["lotus"]["rounds"][-1].keys() >= {"retain_accuracy", "test_accuracy"}  # evaluated by round

    def test_seeds_of_training_and_evaluation_apart_and_a_further_retrained_model(self, bench, trained):
        apart = {"training_seeds": (7, 8), "evaluation_seeds": (5, 6), "retrain_again": 1}
        (first, second), folder = bench(methods=("ssd",), measure_relearning=True, **apart)
        # For each training seed the original and two retrained models; and the relearning of four rows, by two seeds.
        assert [name for name in trained if name != "finetune"] == 2 * (3 * ["_Training"] + ["ssd"])
        assert trained.count("finetune") == 2 * 4 * 2
        assert sorted(path.name for path in folder.glob("*/")) == ["training-7-seed-1", "training-8-seed-1"]
        for result, training in ((first, 7), (second, 8)):
            assert [m.name for m in result.models] == ["original", "ssd", "retrain", "retrain again"]
            assert result["retrain again"].seconds > 0 and result["retrain again"].avg_gap > 0
            about = result.provenance
            assert (about["training_seed"], about["seed"], about["evaluation_seed"]) == (training, 1, 5)
            assert about["evaluations"]["6"]["retrain"]["rf_jsd_z"] != result["retrain"].rf_jsd_z
        assert first["original"].retain_accuracy != second["original"].retain_accuracy
        trained.clear()
        again = bench(methods=("ssd",), measure_relearning=True, **apart)[0]
        assert [without_cost(result) for result in again] == [without_cost(first), without_cost(second)]
        assert trained == []

    def test_other_settings_go_into_other_folders_and_share_what_is_the_same(
        self, bench, small_recipe, trained, tmp_path
    ):
        folders = [bench(methods=("ssd",))[1]]
        trained.clear()
        folders.append(
            bench(methods=("ssd",), recipe=replace(small_recipe("cifar10-small"), forget={"fraction": 0.5}))[1]
        )
        assert trained == ["_Training", "ssd"]  # the original is the same
        folders.append(bench(methods=("ssd",), paper_protocol=True)[1])
        folders.append(bench(methods=("ssd",), recipe=small_recipe("cifar10-small", max_train_rows=120))[1])
        assert len(set(folders)) == 4 and all(folder.is_dir() for folder in folders)

    def test_given_models_are_taken_and_a_retrained_one_only_for_one_forget_set(self, bench, trained, tmp_path):
        bench(methods=("ssd",))
        models = sorted(str(path) for path in (tmp_path / "out" / "models").iterdir() if path.is_dir())
        trained.clear()
        given = {"original_model": models[0], "retrain_model": models[1]}
        (result,), _ = bench(methods=("ssd",), **given)
        assert trained == ["ssd"] and result["retrain"].seconds is None
        with pytest.raises(ValueError, match="each of the 2 seeds has its own. Give one seed, or paper_protocol"):
            bench(methods=("ssd",), seeds=(1, 2), **given)

    def test_no_method_takes_more_rounds_than_allowed(self, bench):
        (result,), _ = bench(methods=("lotus", "scrub", "unsir"))
        settings = result.provenance["methods"]
        assert [settings[name]["arguments"]["num_train_epochs"] for name in ("lotus", "scrub", "unsir")] == [1, 1, 1]


# One of each family and of each kind of forget set; of every recipe the data is made ready in `test_data`.
KINDS = {"resnet18-tiny-imagenet-pizza", "vit-mufac", "vit-imagenet"}
PAPERS = by_kind((name for name in recipe_names() if not name.startswith("cifar10-")), KINDS)


def test_the_kinds_are_recipes():
    assert set(recipe_names()) >= KINDS


@pytest.mark.parametrize("name", PAPERS)
def test_every_recipe_runs_at_a_reduced_size(data_folder, tmp_path, name, capsys):
    """Two methods of each; that every method runs is shown once, below."""
    command = [
        "benchmark",
        name,
        "--dataset_name",
        data_folder(name),
        "--output_dir",
        tmp_path,
        "--methods",
        "lotus",
        "ssd",
    ]
    command += ["--max_train_rows", "120", "--max_test_rows", "60", "--max_rounds", "1", "--max_training_rounds", "1"]
    command += ["--tiny_model", "--use_cpu", "--disable_tqdm", "--seeds", "3407", "--paper_protocol"]
    assert main(list(map(str, command))) == 0
    (folder,) = (path for path in tmp_path.iterdir() if path.name.startswith(f"{name}-"))
    document = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    rows = [model["name"] for model in document["runs"][0]["models"]]
    assert rows == ["original", "lotus", "ssd", *([] if name == "vit-imagenet" else ["retrain"])]
    for report in ("report.html", "report.md"):
        text = (folder / report).read_text(encoding="utf-8")
        assert (
            "Beside the paper" in text
            and "smaller than its recipe" in text
            and "max_rounds 1" in text.replace("\\", "")
            and "lotus (paper)" in text
        )
    assert "| lotus " in capsys.readouterr().out


def test_every_method_runs_and_the_paper_stays_out_of_the_own_protocol(data_folder, tmp_path):
    command = ["benchmark", "resnet18-cifar10", "--dataset_name", data_folder("cifar10"), "--output_dir", tmp_path]
    command += ["--max_rounds", "1", "--max_training_rounds", "1", "--tiny_model", "--use_cpu", "--disable_tqdm"]
    assert main([*map(str, command), "--seeds", "13"]) == 0
    (folder,) = (path for path in tmp_path.iterdir() if path.name != "models")
    (run,) = json.loads((folder / "results.json").read_text(encoding="utf-8"))["runs"]
    assert len(run["models"]) == 3 + len(load_recipe("resnet18-cifar10").methods)  # original, retrain, retrain again
    assert "(paper)" not in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "Name a recipe: hf-lotus benchmark RECIPE"),
        (["resnet18-cifar"], "Did you mean 'resnet18-cifar10'"),
        (["cifar10-small", "--methods", "lotos"], "Did you mean 'lotus'"),
        (["cifar10-small", "--methods", "retrain"], "'retrain' is no row of a benchmark"),
        (["cifar10-small", "--max_rounds", "0"], "max_rounds must be 1 or more, got 0"),
        (["cifar10-small", "--paper_protocol"], "no figures for 'cifar10-small'; it has for resnet18-cifar10"),
    ],
)
def test_what_cannot_be_run_is_told(words, told, capsys):
    assert main(["benchmark", *words]) == 2
    assert told in capsys.readouterr().err
