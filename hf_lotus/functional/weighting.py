"""Shares on one sample with its classes weighted as another sample has them (NumPy)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def weighted_by_class(values: np.ndarray, labels: np.ndarray, like: np.ndarray) -> float:
    """The mean of values, each class weighted by its share among the labels `like`.

    ``Σ_c n_c · mean of the values of class c / Σ_c n_c``, with n_c the number of c in `like`. Classes of `like`
    without values are left out. What a skewed forget set is held against must be skewed alike: a model's accuracy on
    unseen data of all classes says little of two of them.

    Args:
        values: one a sample, numbers or booleans, shape (samples,).
        labels: the samples' classes, shape (samples,).
        like: classes whose shares count, shape (others,).

    Raises:
        ValueError: if no value has a class of `like`.
    """
    classes, counts = np.unique(like, return_counts=True)
    there = np.isin(classes, labels)
    if not there.any():
        raise ValueError("No sample has a class of those to weight by: there is nothing to compare with.")
    classes, counts = classes[there], counts[there]
    if values.dtype == bool:
        # From exact counts, so that equal shares give the very number that the plain share is.
        parts = [(labels == label, int(count)) for label, count in zip(classes, counts, strict=True)]
        total = sum(Fraction(int(values[mine].sum()) * count, int(mine.sum())) for mine, count in parts)
        return float(total / int(counts.sum()))
    return float(np.average([np.mean(values[labels == label]) for label in classes], weights=counts))


def same_shares(labels: np.ndarray, like: np.ndarray, tolerance: float = 0.005) -> bool:
    """Whether every class that both samples have has the same share of both, to within `tolerance`.

    Args:
        labels: classes of the one, shape (samples,).
        like: classes of the other, shape (others,).
        tolerance: difference of shares that is taken for none.
    """
    common = np.intersect1d(labels, like)
    counts = [np.array([np.sum(sample == label) for label in common]) for sample in (labels, like)]
    shares = [count / max(count.sum(), 1) for count in counts]
    return bool(np.abs(shares[0] - shares[1]).max(initial=0.0) <= tolerance)
