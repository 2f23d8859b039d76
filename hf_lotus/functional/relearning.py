"""The relearning excess: does what was forgotten come back sooner than what was never known (NumPy)?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hf_lotus.functional.weighting import weighted_by_class

# Of the bootstrap's samples, how many are drawn.
RESAMPLES = 2000
_BEFORE, _AFTER = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])


def relearning_excess(
    forget: tuple[np.ndarray, np.ndarray],
    unseen: tuple[np.ndarray, np.ndarray],
    forget_labels: np.ndarray,
    unseen_labels: np.ndarray,
) -> float:
    """``(rise of accuracy on D_f) − (rise of accuracy on D_u, each class weighted as in D_f)`` over a little training.

    The training is on retained data alone. A model that never saw D_f gains on it what it gains on any unseen data:
    the excess of a retrained model is about 0. One that only hides what it knows gets it back.

    Args:
        forget: for each forget sample whether it is classified correctly (before, after) the training; booleans of
            shape (samples,).
        unseen: the same of the unseen samples.
        forget_labels: the forget samples' classes, shape (samples,).
        unseen_labels: the unseen samples' classes, shape (others,).

    Returns:
        −2 … 2; the classes of D_f without unseen samples are left out of the unseen side.
    """
    rise = float(np.mean(forget[1])) - float(np.mean(forget[0]))
    before, after = (weighted_by_class(right, unseen_labels, forget_labels) for right in unseen)
    return rise - (after - before)


@dataclass(frozen=True)
class RelearningFigures:
    """What a little training on retained data brought back, with 95 % intervals over the samples.

    Attributes:
        excess: `relearning_excess`.
        excess_interval: of it.
        gap: accuracy on D_f minus that on D_u, weighted as D_f, both after the training: what the model then knows
            more of D_f than of data that it never saw.
        gap_interval: of it.
        forget: accuracy on D_f (before, after).
        unseen: accuracy on D_u, weighted as D_f (before, after).
    """

    excess: float
    excess_interval: tuple[float, float]
    gap: float
    gap_interval: tuple[float, float]
    forget: tuple[float, float]
    unseen: tuple[float, float]


def relearning_figures(
    forget: tuple[np.ndarray, np.ndarray],
    unseen: tuple[np.ndarray, np.ndarray],
    forget_labels: np.ndarray,
    unseen_labels: np.ndarray,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> RelearningFigures:
    """The relearning excess and the gap after it, with percentile intervals of the bootstrap over samples.

    The forget samples are drawn anew as a whole, and with them the weights of the classes; the unseen ones within each
    class. How a second training would differ is not in the interval.

    Args:
        forget: as in `relearning_excess`.
        unseen: likewise.
        forget_labels: likewise.
        unseen_labels: likewise.
        confidence: of the intervals.
        seed: of the draws.

    Raises:
        ValueError: if no unseen sample has the class of a forget sample.
    """
    excess = relearning_excess(forget, unseen, forget_labels, unseen_labels)
    weighted = [weighted_by_class(right, unseen_labels, forget_labels) for right in unseen]
    before, after = float(np.mean(forget[0])), float(np.mean(forget[1]))
    rng, classes = np.random.default_rng(seed), np.unique(forget_labels)
    counts = _states(forget, forget_labels, classes)
    drawn = rng.multinomial(counts.sum(), counts.ravel() / counts.sum(), size=RESAMPLES)
    drawn = drawn.reshape(RESAMPLES, len(classes), 4)
    held = _states(unseen, unseen_labels, classes)
    there = held.sum(axis=1) > 0
    rates = np.zeros((RESAMPLES, len(classes), 4))
    for number in np.flatnonzero(there):
        size = held[number].sum()
        rates[:, number] = rng.multinomial(size, held[number] / size, size=RESAMPLES) / size
    shares = drawn.sum(axis=2) * there
    # A draw may miss every class that has unseen samples; it then says nothing.
    drawn, rates, shares = (array[shares.sum(axis=1) > 0] for array in (drawn, rates, shares))
    whole = drawn.sum(axis=1) / drawn.sum(axis=(1, 2))[:, None]
    other = (rates * shares[:, :, None]).sum(axis=1) / shares.sum(axis=1)[:, None]
    difference = whole - other
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    intervals = [
        tuple(float(bound) for bound in np.percentile(difference @ values, tails))
        for values in (_AFTER - _BEFORE, _AFTER)
    ]
    return RelearningFigures(
        excess,
        (intervals[0][0], intervals[0][1]),
        after - weighted[1],
        (intervals[1][0], intervals[1][1]),
        (before, after),
        (weighted[0], weighted[1]),
    )


def _states(right: tuple[np.ndarray, np.ndarray], labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Samples of each class by right or wrong before and after: shape (classes, 4), in the order of `_BEFORE`."""
    state = 2 * right[0].astype(int) + right[1].astype(int)
    return np.stack([np.bincount(state[labels == label], minlength=4) for label in classes])
