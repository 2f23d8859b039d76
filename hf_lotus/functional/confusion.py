"""Interclass confusion: how two classes are taken for each other (NumPy).

The interclass confusion test (Goel et al., arXiv:2201.06640; used in SCRUB, arXiv:2302.09880) swaps the labels of some
training samples between two classes, trains on them, and asks of an unlearned model how much of the confusion is left.
"""

from __future__ import annotations

import numpy as np

from hf_lotus.functional.arrays import check_labels, check_rows


def confusion_error(predicted: np.ndarray, labels: np.ndarray, first: int, second: int) -> float:
    """Share of two classes' samples that are taken for the other one of the two.

    Args:
        predicted: predicted classes, shape (samples,).
        labels: true classes, shape (samples,); not the swapped ones.
        first: one class.
        second: the other.

    Raises:
        ValueError: if there is no sample of either.
    """
    ours = np.isin(labels, (first, second))
    if not ours.any():
        raise ValueError(f"There is no sample of class {first} or {second} to be confused.")
    other = np.where(labels == first, second, first)
    return int((ours & (predicted == other)).sum()) / int(ours.sum())


def confusion_scores(logits: np.ndarray, labels: np.ndarray, first: int, second: int) -> np.ndarray:
    """How far a model takes each sample of two classes for the other one: the other's logit less its own.

    Above 0 where the other class is thought likelier; −∞ for samples of further classes.

    Args:
        logits: shape (samples, classes).
        labels: true classes, shape (samples,).
        first: one class.
        second: the other.

    Returns:
        float64, shape (samples,).

    Raises:
        ValueError: for one class twice, logits that are not finite, or classes outside their columns.
    """
    rows = check_rows("logits", logits, from_logits=True)
    classes = check_labels(labels, *rows.shape)
    check_labels(np.asarray([first, second]), 2, rows.shape[1])
    if first == second:
        raise ValueError(f"A class is not confused with itself: give two classes, got {first} twice.")
    lead = rows[:, second].astype(np.float64) - rows[:, first]
    return np.select([classes == first, classes == second], [lead, -lead], default=-np.inf)
