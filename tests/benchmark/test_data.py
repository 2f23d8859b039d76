"""The data of benchmarks: every schema, what each recipe forgets of it, and the same at a reduced size."""

from dataclasses import replace

import numpy as np
import pytest
from datasets import load_dataset

from hf_lotus.benchmark.data import forget_split, load_benchmark_data
from hf_lotus.benchmark.recipe import recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_finds_its_columns_and_what_it_forgets(small_recipe, name):
    recipe = small_recipe(name, max_train_rows=None)
    if "mufac" in name:  # the small folder has fewer rows than the fixed forget set
        recipe = replace(recipe, max_train_rows=10_000)
    if name == "cifar10-pool":  # a fiftieth of the few rows of a class would be none
        recipe = replace(recipe, forget={"fraction": 0.1})
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


def test_each_seed_has_its_own_split_and_the_paper_one_for_all(small_recipe):
    recipe = small_recipe("resnet18-cifar10", max_train_rows=None)
    own = [load_benchmark_data(recipe, seed).split for seed in (1, 2)]
    assert own[0].digest != own[1].digest
    papers = [load_benchmark_data(recipe, seed, paper_split=True) for seed in (1, 2)]
    assert papers[0].split.digest == papers[1].split.digest
    labels = np.asarray(papers[0].split.dataset["label"])
    expected = [row for label in range(10) for row in np.flatnonzero(labels == label)[:2]]
    assert papers[0].split.forget_rows.tolist() == sorted(expected)
    assert papers[0].unseen._indices.column(0).to_pylist() != papers[1].unseen._indices.column(0).to_pylist()


def test_a_reduced_data_set_is_the_same_for_every_seed_and_keeps_its_classes(small_recipe):
    recipe = small_recipe("resnet18-cifar100", max_train_rows=60, max_test_rows=20)
    first, second = (load_benchmark_data(recipe, seed) for seed in (1, 2))
    assert first.split.dataset._fingerprint == second.split.dataset._fingerprint
    assert np.bincount(first.split.dataset["fine_label"]).tolist() == [6] * 10
    assert len(first.unseen) + len(first.test) == 20
    with pytest.raises(ValueError, match="2 rows of train leave none of any class"):
        load_benchmark_data(replace(recipe, max_train_rows=2), 1)


def test_a_fixed_split_of_a_data_set_that_is_too_small_is_refused(small_recipe):
    recipe = small_recipe("resnet18-mufac", max_train_rows=None)
    with pytest.raises(ValueError, match="forgets the first 1062 rows of train, which has 180"):
        load_benchmark_data(recipe, 1)
    recipe = replace(
        small_recipe("vit-imagenet"), forget={"per_class": 50, "retain_per_class": 45}, max_train_rows=None
    )
    with pytest.raises(ValueError, match="A class has 60 rows in train, and the recipe asks for 95"):
        load_benchmark_data(recipe, 1)


def test_rows_of_each_class_are_drawn_by_seed_or_are_the_first(small_recipe, data_folder):
    recipe = small_recipe("vit-imagenet", max_train_rows=None)
    train = load_dataset(str(data_folder("imagenet")))["train"]
    first = forget_split(train, recipe, 1, "label", paper_split=True)
    assert first.forget_rows.tolist() == list(range(5 * 6)) and first.retain_rows.tolist() == list(range(30, 300))
    drawn = [forget_split(train, recipe, seed, "label").forget_rows.tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
