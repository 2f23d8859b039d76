"""The data of a benchmark's run: what a recipe forgets, and the same at a reduced size."""

from __future__ import annotations

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict

from hf_lotus.benchmark.recipe import Recipe
from hf_lotus.data.columns import find_label_column, read_labels
from hf_lotus.data.loading import DatasetArguments, LoadedData, load_splits
from hf_lotus.data.splits import ForgetRetainSplit, stratified_rows
from hf_lotus.utils.text import nearest


def load_benchmark_data(recipe: Recipe, seed: int, *, paper_split: bool = False) -> LoadedData:
    """Load a recipe's data set and choose what to forget, what is unseen, and what to test on.

    Args:
        recipe: the settings.
        seed: seed of the run: of the forget split, and of which half of a test split is unseen.
        paper_split: choose the first rows of each class in place of random ones, as the code of LoTUS does for every
            seed; which half of a test split is unseen still depends on the seed.
    """
    arguments = DatasetArguments(**{**recipe.dataset, "split_seed": seed})

    def reduced(data: DatasetDict) -> DatasetDict:
        return _reduced(data, recipe, arguments)

    def select(train: Dataset, _: DatasetArguments, label_column: str) -> ForgetRetainSplit:
        return forget_split(train, recipe, seed, label_column, paper_split)

    return load_splits(arguments, None, select, reduced)


def _reduced(data: DatasetDict, recipe: Recipe, arguments: DatasetArguments) -> DatasetDict:
    """Leave out of each split what the recipe does not let take part, by class in proportion."""
    parts = {}
    for name, split in data.items():
        limit = recipe.max_train_rows if name == arguments.train_split else recipe.max_test_rows
        if limit is None or limit >= len(split):
            parts[name] = split
            continue
        labels = read_labels(split, find_label_column(split, arguments.label_column))
        # The same rows for every seed: a reduced benchmark has one data set, as a whole one has.
        rows = stratified_rows(labels, limit / len(split), seed=0)
        if len(rows) == 0:
            raise ValueError(f"{limit} rows of {name} leave none of any class: take at least one a class.")
        parts[name] = split.select(rows)
    return DatasetDict(parts)


def forget_split(
    train: Dataset, recipe: Recipe, seed: int, label_column: str, paper_split: bool = False
) -> ForgetRetainSplit:
    """What a recipe forgets of the train split.

    Raises:
        ValueError: if a class to forget does not exist, or nothing would be forgotten.
    """
    forget = recipe.forget
    if recipe.is_class_wise:
        return ForgetRetainSplit.from_class(train, forget["class"], label_column)
    if "first" in forget:
        return _first_rows(train, recipe)
    if "per_class" in forget:
        return _per_class(train, recipe, seed, label_column, paper_split)
    if not paper_split:
        return ForgetRetainSplit.from_fraction(train, forget["fraction"], seed, label_column)
    rows = [r[: int(len(r) * forget["fraction"])] for r in _rows_of_classes(train, label_column)]
    return ForgetRetainSplit(train, np.concatenate(rows), selector={"by": "first rows of each class", **forget})


def _first_rows(train: Dataset, recipe: Recipe) -> ForgetRetainSplit:
    count = recipe.forget["first"]
    if recipe.max_train_rows is not None:
        count = max(1, min(count, len(train) // 6))  # MUFAC's share
    if count >= len(train):
        raise ValueError(
            f"The recipe forgets the first {count} rows of train, which has {len(train)}: is it the whole data set? A "
            "part of one is asked for by max_train_rows."
        )
    return ForgetRetainSplit(train, np.arange(count), selector={"by": "first rows", "first": count})


def _per_class(train: Dataset, recipe: Recipe, seed: int, label_column: str, paper_split: bool) -> ForgetRetainSplit:
    """So many rows of each class to forget, and so many to retain; the rest takes no part."""
    forget, retain = recipe.forget["per_class"], recipe.forget.get("retain_per_class")
    generator = np.random.default_rng(seed)
    forgotten, retained = [], []
    for rows in _rows_of_classes(train, label_column):
        rows = rows if paper_split else generator.permutation(rows)
        wanted = forget + (retain or 1)
        if len(rows) < wanted and recipe.max_train_rows is None:
            raise ValueError(
                f"A class has {len(rows)} rows in train, and the recipe asks for {wanted}. A part of a data set is "
                "asked for by max_train_rows."
            )
        # Of a class that was reduced, the same share.
        count = forget if len(rows) >= wanted else max(1, round(len(rows) * forget / wanted))
        forgotten.append(rows[:count])
        retained.append(rows[count:] if retain is None else rows[count : count + retain])
    return ForgetRetainSplit(
        train, np.concatenate(forgotten), np.concatenate(retained), {"by": "rows of each class", **recipe.forget}
    )


def _rows_of_classes(train: Dataset, label_column: str) -> list[np.ndarray]:
    labels = read_labels(train, label_column)
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def class_names(dataset: Dataset, label_column: str | None) -> list[str]:
    """The names of a data set's classes, by number; the numbers themselves where it has none."""
    column = find_label_column(dataset, label_column)
    feature = dataset.features[column]
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    return [str(number) for number in range(int(read_labels(dataset, column).max()) + 1)]


def require_split(data: LoadedData, name: str) -> Dataset:
    """The unseen or the test set of a run; `ValueError` where the data set has none."""
    if (part := data.sets[name]) is None:
        there = [other for other, found in data.sets.items() if found is not None]
        raise ValueError(f"The data set has no {name} part, and a benchmark measures on it. {nearest(name, there)}")
    return part
