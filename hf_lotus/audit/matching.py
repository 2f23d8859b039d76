"""Samples of two sets whose classes weigh the same in both, so that what is told apart is not the class (NumPy)."""

from __future__ import annotations

import numpy as np


def equally_many(
    forget_labels: np.ndarray, unseen_labels: np.ndarray, seed: int, most: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both sets, equally many of every class.

    Args:
        forget_labels: shape (samples,).
        unseen_labels: shape (others,).
        seed: of the draw.
        most: samples of a set at most, or None.

    Returns:
        rows of the one and of the other, rising; empty where no class is in both.
    """
    rng = np.random.default_rng(seed)
    common = np.intersect1d(forget_labels, unseen_labels)
    counts = [min(int(np.sum(labels == c)) for labels in (forget_labels, unseen_labels)) for c in common]
    share = 1.0 if most is None else min(1.0, most / max(sum(counts), 1))
    wanted = {c: int(count * share) for c, count in zip(common.tolist(), counts, strict=True)}
    return _drawn(forget_labels, wanted, rng), _drawn(unseen_labels, wanted, rng)


def in_the_same_shares(
    forget_labels: np.ndarray, unseen_labels: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both sets, of every class the same number of unseen for one forgotten.

    That number is chosen so that 1/n + 1/m of the rows left is smallest: a class that has few unseen samples costs
    forget rows of that class, where it would otherwise cost unseen rows of all.

    Args:
        forget_labels: shape (samples,).
        unseen_labels: shape (others,).
        seed: of the draw.

    Returns:
        rows of the one and of the other, rising; empty where no class is in both.
    """
    rng = np.random.default_rng(seed)
    common = np.intersect1d(forget_labels, unseen_labels)
    if not len(common):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    want, have = (np.array([np.sum(labels == c) for c in common]) for labels in (forget_labels, unseen_labels))
    # Rounding must not make a row more than there is.
    choices = [np.minimum(want, np.floor(have / ratio + 1e-9)).astype(int) for ratio in have / want]
    taken = [
        (kept, np.minimum(np.floor(kept * r + 1e-9).astype(int), have))
        for kept, r in zip(choices, have / want, strict=True)
    ]
    forget, unseen = min(taken, key=lambda pair: sum(1 / max(int(side.sum()), 1e-9) for side in pair))
    wanted = (dict(zip(common.tolist(), counts.tolist(), strict=True)) for counts in (forget, unseen))
    return _drawn(forget_labels, next(wanted), rng), _drawn(unseen_labels, next(wanted), rng)


def _drawn(labels: np.ndarray, wanted: dict[int, int], rng: np.random.Generator) -> np.ndarray:
    """Rows of each class, as many as are wanted."""
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in wanted.items()]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)
