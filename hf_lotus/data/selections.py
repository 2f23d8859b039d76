"""Choose what to forget by what a model makes of its training data, or make the confusion that is to be forgotten.

A random forget set is mostly of samples that a model would get right without them: a method that does nothing then
looks as good as retraining. Hard ones and confused ones tell methods apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from datasets import Dataset

from hf_lotus.data.columns import find_label_column, read_labels, require_map_style
from hf_lotus.data.splits import ForgetRetainSplit, check_fraction, class_names, class_number, stratified_rows
from hf_lotus.functional.confusion import confusion_scores
from hf_lotus.functional.memorisation import highest_of_each_class, memorisation


def split_by_memorisation(
    dataset: Dataset,
    logits: np.ndarray,
    fraction: float,
    *,
    hardest: bool = True,
    proxy: str = "confidence",
    label_column: str | None = None,
) -> ForgetRetainSplit:
    """Forget the hardest, or the easiest, fraction of each class: what a model memorised most, or least.

    Hard are the training rows of whose true class the original is least confident: what it could only learn by heart,
    it would lose without them. They are chosen within each class, as `ForgetRetainSplit.from_fraction` does, so that
    the two differ in hardness alone, and no class is forgotten for being hard. Of equal rows the first are taken.

    Args:
        dataset: the training set of the model to unlearn.
        logits: of that model on every row, shape (rows, classes).
        fraction: of each class, between 0 and 1.
        hardest: whether the hardest are forgotten, or the easiest.
        proxy: what tells them, one of `hf_lotus.functional.memorisation.PROXIES`.
        label_column: found from the features if None.

    Raises:
        ValueError: if the fraction is not between 0 and 1 or chooses no row, or the logits are not of these rows.
    """
    require_map_style(dataset, "data set to split")
    check_fraction(fraction)
    labels = read_labels(dataset, find_label_column(dataset, label_column))
    scores = memorisation(_of_rows(logits, dataset), labels, proxy)
    rows = highest_of_each_class(scores if hardest else -scores, labels, fraction)
    if len(rows) == 0:
        raise ValueError(f"A fraction of {fraction} chooses no row of any class; forget more.")
    selector = {"by": "hardest" if hardest else "easiest", "fraction": fraction, "proxy": proxy}
    return ForgetRetainSplit(dataset, rows, selector=selector)


def split_by_confusion(
    dataset: Dataset,
    logits: np.ndarray,
    classes: Sequence[str | int],
    fraction: float,
    *,
    label_column: str | None = None,
) -> ForgetRetainSplit:
    """Forget the rows of two classes that a model most takes for the other one: what may be mislabelled.

    They are the fraction of each of the two with the highest `confusion_scores`, the other class's logit less its own.
    That is all that a trained model can tell: it does not prove that a label is wrong, and a model that knows its data
    by heart may predict every label as it is. Where labels must be known to be wrong, `split_with_confusion` swaps
    them before training.

    Args:
        dataset: the training set of the model to unlearn.
        logits: of that model on every row, shape (rows, classes).
        classes: two classes, named or numbered.
        fraction: of each of the two, between 0 and 1.
        label_column: found from the features if None.

    Raises:
        ValueError: if there are not two classes, one does not exist, the fraction is not between 0 and 1 or chooses no
            row, or the logits are not of these rows.
    """
    labels, pair, names = _two_classes(dataset, classes, fraction, label_column)
    scores = confusion_scores(_of_rows(logits, dataset), labels, *pair)
    ours = np.flatnonzero(np.isin(labels, pair))
    rows = _chosen(ours[highest_of_each_class(scores[ours], labels[ours], fraction)], fraction)
    return ForgetRetainSplit(dataset, rows, selector={"by": "confusion", "classes": names, "fraction": fraction})


def split_with_confusion(
    dataset: Dataset,
    classes: Sequence[str | int],
    fraction: float,
    seed: int = 0,
    label_column: str | None = None,
) -> ForgetRetainSplit:
    """The interclass confusion test (arXiv:2201.06640, arXiv:2302.09880): swap some labels, and forget those rows.

    Train the original on the split's `dataset`, whose labels are swapped, and the retrained model on its `retain`,
    whose labels are right. How much of the confusion is left, `hf_lotus.functional.confusion.confusion_error` tells on
    test data.

    Args:
        dataset: a training set with right labels; not changed.
        classes: two classes, named or numbered.
        fraction: of each of the two, between 0 and 1, drawn with `seed`.
        seed: seed of the draw.
        label_column: found from the features if None.

    Raises:
        ValueError: if there are not two classes, one does not exist, or the fraction is not between 0 and 1 or chooses
            no row.
    """
    labels, pair, names = _two_classes(dataset, classes, fraction, label_column)
    ours = np.flatnonzero(np.isin(labels, pair))
    rows = _chosen(ours[stratified_rows(labels[ours], fraction, seed)], fraction)
    swapped = labels.copy()
    swapped[rows] = sum(pair) - labels[rows]
    column = find_label_column(dataset, label_column)
    confused = dataset.remove_columns([column]).add_column(column, swapped, feature=dataset.features[column])
    selector = {"by": "swapped labels", "classes": names, "fraction": fraction, "seed": seed}
    return ForgetRetainSplit(confused, rows, selector=selector)


def _of_rows(logits: np.ndarray, dataset: Dataset) -> np.ndarray:
    if len(logits) != len(dataset):
        raise ValueError(f"There are logits of {len(logits)} rows, and the data set has {len(dataset)}: give all.")
    return logits


def _chosen(rows: np.ndarray, fraction: float) -> np.ndarray:
    if len(rows) == 0:
        raise ValueError(f"A fraction of {fraction} chooses no row of either class; forget more.")
    return rows


def _two_classes(
    dataset: Dataset, classes: Sequence[str | int], fraction: float, label_column: str | None
) -> tuple[np.ndarray, tuple[int, int], list[str]]:
    """The labels of all rows, and the numbers and names of two classes, once they are known to be two."""
    require_map_style(dataset, "data set to split")
    check_fraction(fraction)
    label_column = find_label_column(dataset, label_column)
    name_of = class_names(dataset, label_column)
    numbers = [class_number(str(given), name_of) for given in classes]
    if len(numbers) != 2 or numbers[0] == numbers[1]:
        raise ValueError(f"Confusion is between two classes, got {', '.join(map(str, classes))}.")
    pair = numbers[0], numbers[1]
    return read_labels(dataset, label_column), pair, [name_of[number] for number in pair]
