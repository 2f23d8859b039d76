"""Benchmarks: models trained once and taken again, data of every schema, settings that never mix."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import load_dataset

from hf_lotus import UnlearningArguments, UnlearningResult
from hf_lotus.benchmark import Benchmark
from hf_lotus.benchmark_data import forget_split, load_benchmark_data
from hf_lotus.cli.compare import choose
from hf_lotus.cli.main import main
from hf_lotus.images import ready
from hf_lotus.predictions import predict
from hf_lotus.recipe import load_recipe, recipe_names
from hf_lotus.trainer import UnlearningTrainer
from hf_lotus.training import image_processor, initial_model, trained_model

from . import small_data_sets
from .conftest import TINY_MODELS

LAYOUTS = {
    "cifar100": small_data_sets.cifar100,
    "cifar10": small_data_sets.cifar10,
    "tiny-imagenet": small_data_sets.tiny_imagenet,
    "imagenet": small_data_sets.imagenet,
    "mufac": small_data_sets.mufac,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A function: name of a recipe → a small data set of the layout that it names."""
    root, made = tmp_path_factory.mktemp("data"), {}

    def folder(recipe):
        layout = next(name for name in LAYOUTS if name in recipe)
        if layout not in made:
            made[layout] = LAYOUTS[layout](root / layout)
        return made[layout]

    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture
def small(folders):
    """A function: name of a recipe → it at a reduced size, on a small data set."""

    def build(name, **limits):
        recipe = load_recipe(name)
        recipe = replace(recipe, dataset={**recipe.dataset, "dataset_name": str(folders(name))})
        return replace(recipe.tiny(), **{"max_train_rows": 240, "max_rounds": 1, "max_training_rounds": 1, **limits})

    return build


@pytest.fixture
def bench(small, tmp_path):
    """A function: runs a recipe at a reduced size with two methods, and gives its results and its folder."""

    def run(name="cifar10-small", methods=("lotus", "ssd"), seeds=(1,), recipe=None, **options):
        recipe = recipe or small(name)
        arguments = UnlearningArguments(str(tmp_path / "out"), use_cpu=True, disable_tqdm=True)
        benchmark = Benchmark(recipe, tmp_path / "out", arguments, **options)
        results = benchmark.run(list(seeds), choose(list(methods), recipe.methods, has_retrain=True))
        return results, benchmark.folder

    return run


@pytest.fixture
def trained(monkeypatch):
    """The methods that took steps, or edited weights, in order."""
    names, train = [], UnlearningTrainer.train
    monkeypatch.setattr(
        UnlearningTrainer, "train", lambda self, *a, **k: names.append(self.method_name) or train(self, *a, **k)
    )
    return names


class TestData:
    @pytest.mark.parametrize("name", recipe_names())
    def test_every_recipe_finds_its_columns_and_what_it_forgets(self, small, name):
        recipe = small(name, max_train_rows=None)
        if "mufac" in name:  # the small folder has fewer rows than the fixed forget set
            recipe = replace(recipe, max_train_rows=10_000)
        if name == "vit-imagenet":
            recipe = replace(recipe, forget={"per_class": 5, "retain_per_class": 45})
        data = load_benchmark_data(recipe, seed=3)
        forget, train = data.split.forget_rows, data.split.dataset
        labels = np.asarray(train[recipe.dataset["label_column"]])[forget]
        if recipe.is_class_wise:
            assert {train.features[recipe.dataset["label_column"]].int2str(int(label)) for label in labels} == {
                recipe.forget["class"]
            }
        elif "fraction" in recipe.forget:
            assert len(forget) == recipe.forget["fraction"] * len(train)
        elif "per_class" in recipe.forget:
            assert (np.bincount(labels) == 5).all() and len(data.split.retain_rows) == 9 * len(forget)
        else:
            assert forget.tolist() == list(range(len(train) // 6))
        held_out = len(data.unseen) + len(data.test)
        assert held_out == {"mufac": 128}.get(name.split("-")[1], len(data.unseen) * 2)

    def test_each_seed_has_its_own_split_and_the_paper_one_for_all(self, small):
        recipe = small("resnet18-cifar10", max_train_rows=None)
        own = [load_benchmark_data(recipe, seed).split for seed in (1, 2)]
        assert own[0].digest != own[1].digest
        papers = [load_benchmark_data(recipe, seed, paper_split=True) for seed in (1, 2)]
        assert papers[0].split.digest == papers[1].split.digest
        labels = np.asarray(papers[0].split.dataset["label"])
        expected = [row for label in range(10) for row in np.flatnonzero(labels == label)[:2]]
        assert papers[0].split.forget_rows.tolist() == sorted(expected)
        assert papers[0].unseen._indices.column(0).to_pylist() != papers[1].unseen._indices.column(0).to_pylist()

    def test_a_reduced_data_set_is_the_same_for_every_seed_and_keeps_its_classes(self, small):
        recipe = small("resnet18-cifar100", max_train_rows=60, max_test_rows=20)
        first, second = (load_benchmark_data(recipe, seed) for seed in (1, 2))
        assert first.split.dataset._fingerprint == second.split.dataset._fingerprint
        assert np.bincount(first.split.dataset["fine_label"]).tolist() == [6] * 10
        assert len(first.unseen) + len(first.test) == 20
        with pytest.raises(ValueError, match="2 rows of train leave none of any class"):
            load_benchmark_data(replace(recipe, max_train_rows=2), 1)

    def test_a_fixed_split_of_a_data_set_that_is_too_small_is_refused(self, small):
        recipe = small("resnet18-mufac", max_train_rows=None)
        with pytest.raises(ValueError, match="forgets the first 1062 rows of train, which has 180"):
            load_benchmark_data(recipe, 1)
        recipe = replace(small("vit-imagenet"), forget={"per_class": 50, "retain_per_class": 45}, max_train_rows=None)
        with pytest.raises(ValueError, match="A class has 60 rows in train, and the recipe asks for 95"):
            load_benchmark_data(recipe, 1)

    def test_rows_of_each_class_are_drawn_by_seed_or_are_the_first(self, small, folders):
        recipe = small("vit-imagenet", max_train_rows=None)
        train = load_dataset(str(folders("imagenet")))["train"]
        first = forget_split(train, recipe, 1, "label", paper_split=True)
        assert first.forget_rows.tolist() == list(range(5 * 6)) and first.retain_rows.tolist() == list(range(30, 300))
        drawn = [forget_split(train, recipe, seed, "label").forget_rows.tolist() for seed in (1, 1, 2)]
        assert drawn[0] == drawn[1] != drawn[2]


class TestTraining:
    @pytest.fixture
    def train(self, small, tmp_path):
        recipe = small("cifar10-small")
        processor = image_processor(recipe)

        def run(seed=1, rows=60, data_seed=1, **arguments):
            data = load_benchmark_data(recipe, data_seed).split.dataset
            names = data.features["label"].names
            args = UnlearningArguments(
                str(tmp_path), use_cpu=True, disable_tqdm=True, seed=seed,
                **{"num_train_epochs": 3, "learning_rate": 0.1, "optim": "sgd", **arguments},
            )  # fmt: skip
            model = initial_model(recipe, names, seed)
            return trained_model(model, data.select(range(rows)), processor, args, tmp_path / "models")

        return run

    def test_a_model_learns_is_kept_and_taken_again(self, train, trained, small, tmp_path):
        first = train(rows=200, num_train_epochs=20)
        again = train(rows=200, num_train_epochs=20)
        assert trained == ["_Training"]
        for ours, theirs in zip(first.model.state_dict().values(), again.model.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs)
        assert again.seconds == first.seconds > 0
        recipe = small("cifar10-small")
        images = ready(load_benchmark_data(recipe, 1).split.dataset, image_processor(recipe))
        assert predict(again.model, images, progress=False).accuracy > 0.5  # of ten classes
        assert first.model.config.id2label[3] == "cat"
        (kept,) = (path for path in (tmp_path / "models").iterdir() if path.is_dir())
        record = json.loads((kept / "training.json").read_text())
        assert record["determined_by"]["arguments"]["learning_rate"] == 0.1 and kept.name == record["key"][:16]
        assert (kept / "preprocessor_config.json").is_file()

    @pytest.mark.parametrize("change", [{"seed": 2}, {"rows": 61}, {"learning_rate": 0.2}, {"num_train_epochs": 2}])
    def test_whatever_determines_a_model_is_in_its_digest(self, train, trained, change):
        train(num_train_epochs=1)
        train(**{"num_train_epochs": 1, **change})
        assert len(trained) == 2

    def test_a_training_that_was_broken_off_goes_on(self, train, monkeypatch, tmp_path):
        whole = train()
        (kept,) = (path for path in (tmp_path / "models").iterdir() if path.is_dir())
        kept.rename(tmp_path / "whole")
        taken = []
        step = UnlearningTrainer.training_step

        def broken(self, *args, **kwargs):
            taken.append(self.state.global_step)
            if self.state.global_step == 16:  # in the third epoch of eight batches
                raise KeyboardInterrupt
            return step(self, *args, **kwargs)

        monkeypatch.setattr(UnlearningTrainer, "training_step", broken)
        with pytest.raises(KeyboardInterrupt):
            train()
        assert not kept.exists()
        taken.clear()
        monkeypatch.setattr(
            UnlearningTrainer, "training_step", lambda self, *a, **k: taken.append(1) or step(self, *a, **k)
        )
        resumed = train()
        assert len(taken) == 8
        for ours, theirs in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs)

    def test_weights_that_were_trained_before_get_a_new_head_and_random_ones_follow_the_seed(self, tmp_path):
        TINY_MODELS["vit"]().save_pretrained(tmp_path / "vit")
        recipe = replace(load_recipe("vit-cifar10"), model={"name_or_path": str(tmp_path / "vit")})
        first, same, other = (initial_model(recipe, ["cat", "dog", "fox"], seed) for seed in (1, 1, 2))
        assert first.config.id2label == {0: "cat", 1: "dog", 2: "fox"} and first.classifier.weight.shape[0] == 3
        assert torch.equal(first.classifier.weight, same.classifier.weight)
        assert not torch.equal(first.classifier.weight, other.classifier.weight)
        bodies = [model.vit.state_dict().values() for model in (first, other)]
        assert all(torch.equal(a, b) for a, b in zip(*bodies, strict=True))
        published = initial_model(replace(recipe, training=None), ["unused"], seed=1)
        assert published.classifier.weight.shape[0] == 10


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

    def test_other_settings_go_into_other_folders_and_share_what_is_the_same(self, bench, small, trained, tmp_path):
        folders = [bench(methods=("ssd",))[1]]
        trained.clear()
        folders.append(bench(methods=("ssd",), recipe=replace(small("cifar10-small"), forget={"fraction": 0.5}))[1])
        assert trained == ["_Training", "ssd"]  # the original is the same
        folders.append(bench(methods=("ssd",), paper_protocol=True)[1])
        folders.append(bench(methods=("ssd",), recipe=small("cifar10-small", max_train_rows=120))[1])
        assert len(set(folders)) == 4 and all(folder.is_dir() for folder in folders)

    def test_given_models_are_taken_and_a_retrained_one_only_for_one_forget_set(self, bench, trained, tmp_path):
        bench(methods=("ssd",))
        models = sorted(str(path) for path in (tmp_path / "out" / "models").iterdir() if path.is_dir())
        trained.clear()
        given = {"original_model": models[0], "retrain_model": models[1]}
        (result,), _ = bench(methods=("ssd",), **given)
        assert trained == ["ssd"] and result["retrain"].seconds is None
        with pytest.raises(ValueError, match="each of the 2 seeds has its own. Give one seed by --seeds"):
            bench(methods=("ssd",), seeds=(1, 2), **given)

    def test_no_method_takes_more_rounds_than_allowed(self, bench):
        (result,), _ = bench(methods=("lotus", "scrub", "unsir"))
        settings = result.provenance["methods"]
        assert [settings[name]["arguments"]["num_train_epochs"] for name in ("lotus", "scrub", "unsir")] == [1, 1, 1]


@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "cifar10-small"])
def test_every_recipe_runs_at_a_reduced_size(folders, tmp_path, name, capsys):
    """Two methods of each; that every method runs is shown once, below."""
    command = [
        "benchmark",
        name,
        "--dataset_name",
        folders(name),
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
        assert "Beside the paper" in text and "made at a reduced size" in text and "lotus (paper)" in text
    assert "| lotus " in capsys.readouterr().out


def test_every_method_runs_and_the_paper_stays_out_of_the_own_protocol(folders, tmp_path):
    command = ["benchmark", "resnet18-cifar10", "--dataset_name", folders("cifar10"), "--output_dir", tmp_path]
    command += ["--max_rounds", "1", "--max_training_rounds", "1", "--tiny_model", "--use_cpu", "--disable_tqdm"]
    assert main([*map(str, command), "--seeds", "13"]) == 0
    (folder,) = (path for path in tmp_path.iterdir() if path.name != "models")
    (run,) = json.loads((folder / "results.json").read_text(encoding="utf-8"))["runs"]
    assert len(run["models"]) == 2 + len(load_recipe("resnet18-cifar10").methods)
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
