"""Margins of a classifier, the map that gives one sample's margins the distribution of another's, and calibration.

The arithmetic of margin matching (docs/margin_matching.md): arrays in, numbers out, float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A calibrating temperature is looked for within these; a set that is classified without error has none above zero.
TEMPERATURES = (0.25, 4.0)
# By how much an error of one margin counts in the closed loop at most: a few samples that a student gets utterly wrong
# would otherwise throw their targets about.
LARGEST_STEP = 8.0


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How far the true class's logit is above the highest other one; negative where the sample is misclassified.

    Args:
        logits: shape (samples, classes), two classes or more.
        labels: true classes, shape (samples,).

    Returns:
        shape (samples,), float64.
    """
    others = np.array(logits, dtype=np.float64)
    rows = np.arange(len(labels))
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    return own - others.max(axis=1)


@dataclass(frozen=True, eq=False)
class QuantileMap:
    """The monotone map from one sample's quantiles to another's: optimal transport in one dimension.

    Between the values that it was fitted to it is linear, beyond them constant, so that its image lies within the
    target's range.

    Attributes:
        knots: the distinct source values, rising, shape (knots,).
        images: where they go, never falling, shape (knots,).
    """

    knots: np.ndarray
    images: np.ndarray

    @classmethod
    def fit(
        cls,
        source: np.ndarray,
        target: np.ndarray,
        weights: np.ndarray | None = None,
        source_weights: np.ndarray | None = None,
    ) -> QuantileMap:
        """The map of the source's empirical quantiles onto the target's.

        The i-th of n values stands at probability (i − ½)/n, and values between two of the target are interpolated
        (Hazen's rule). Equal source values share their mean rank, and so have one image. A sample is mapped onto
        itself, and onto itself with every value repeated, exactly.

        Args:
            source: shape (samples,), not empty.
            target: shape (others,), not empty.
            weights: of the target's values, above 0; equal ones if None.
            source_weights: the same of the source's.
        """
        order = np.argsort(target, kind="stable")
        weights = np.ones(len(target)) if weights is None else np.asarray(weights, dtype=np.float64)[order]
        total = weights.sum()
        middles = np.cumsum(weights) - weights / 2
        knots, which = np.unique(source, return_inverse=True)
        held = np.bincount(which, weights=source_weights).astype(np.float64)
        # Multiplied before it is divided, so that samples of one size meet at the very same numbers.
        places = (np.cumsum(held) - held / 2) * total / held.sum()
        images = np.interp(places, middles, np.asarray(target, dtype=np.float64)[order])
        # Interpolation rounds; what never falls in exact numbers shall not here.
        return cls(knots.astype(np.float64), np.maximum.accumulate(images))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The images of values, shape (values,)."""
        return np.interp(values, self.knots, self.images)


def matched_margins(
    forget: np.ndarray,
    forget_labels: np.ndarray,
    unseen: np.ndarray,
    unseen_labels: np.ndarray,
    pool_below: int,
    trained: np.ndarray | None = None,
    trained_labels: np.ndarray | None = None,
) -> np.ndarray:
    """What each forget sample's margin would be if it stood among the unseen samples of its class as it stands now.

    Every class has a map of its own, from its forget samples' quantiles to its unseen samples', and there is one for
    all classes together, with each class's unseen samples weighted as the class is in the forget set. Where a class
    has n samples on its scarcer side, its map is ``λ · own + (1 − λ) · pooled`` with ``λ = min(n / pool_below, 1)``.

    A handful of forget samples has no quantiles to speak of. Beside other trained samples of its class each has a
    rank: then the map is from the quantiles of both together, and only the forget samples are mapped by it.

    Args:
        forget: margins of the forget samples, shape (samples,).
        forget_labels: their classes, shape (samples,).
        unseen: margins of the unseen samples, shape (others,).
        unseen_labels: their classes, shape (others,).
        pool_below: from how many samples on a class depends on no other.
        trained: margins of further samples that the model was trained on, shape (more,).
        trained_labels: their classes, shape (more,).

    Returns:
        shape (samples,), float64; never falling within a class.

    Raises:
        ValueError: if no unseen sample has the class of a forget sample.
    """
    common = np.intersect1d(forget_labels, unseen_labels)
    if not len(common):
        shown = ", ".join(map(str, np.unique(forget_labels)[:5].tolist()))
        raise ValueError(
            f"The unseen set has no sample of any class of the forget set ({shown}). Give unseen data of these "
            "classes: it tells how sure the model is of them where it was not trained."
        )
    source, source_labels = forget, forget_labels
    if trained is not None and trained_labels is not None:
        kept = np.isin(trained_labels, common)
        source = np.concatenate([forget, trained[kept]])
        source_labels = np.concatenate([forget_labels, trained_labels[kept]])
    size = int(max(forget_labels.max(), unseen_labels.max())) + 1
    have, want, known = (np.bincount(x, minlength=size) for x in (unseen_labels, forget_labels, source_labels))
    shared, others = np.isin(source_labels, common), np.isin(unseen_labels, common)
    # Each class weighs in both samples as much as it does in the forget set.
    weights = (want / np.maximum(have, 1))[unseen_labels[others]]
    source_weights = (want / np.maximum(known, 1))[source_labels[shared]]
    matched = QuantileMap.fit(source[shared], unseen[others], weights, source_weights)(forget)
    for label in common:
        mine = forget_labels == label
        own = QuantileMap.fit(source[source_labels == label], unseen[unseen_labels == label])(forget[mine])
        share = min(have[label], known[label]) / pool_below
        matched[mine] = own if share >= 1 else matched[mine] + share * (own - matched[mine])
    return matched


def closed_loop_shifts(shifts: np.ndarray, goals: np.ndarray, reached: np.ndarray, gain: float) -> np.ndarray:
    """The shifts for the next round: what training did not reach by itself, the targets are moved for.

    ``shift + gain · clip(goal − reached, ±LARGEST_STEP)``, an integrator: it comes to rest only where margins are as
    they should be.

    Args:
        shifts: of the true logits, in the round before, shape (samples,).
        goals: the margins that are wanted, shape (samples,).
        reached: the margins that the student has, shape (samples,).
        gain: share of the error that is taken in; 0 leaves the loop open.
    """
    return shifts + gain * np.clip(goals - reached, -LARGEST_STEP, LARGEST_STEP)


def fitted_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that calibrates: the T that makes ``−log softmax(logits / T)`` of the labels least on average.

    (Guo et al., arXiv:1706.04599.) In 1/T the average is convex, with the slope "mean logit expected at T, minus
    mean logit of the labels", so its zero is the one minimum; without one within `TEMPERATURES`, the nearer end.

    Args:
        logits: shape (samples, classes).
        labels: shape (samples,).
    """
    from scipy.optimize import brentq  # here, as it takes a second to import
    from scipy.special import softmax

    logits = np.asarray(logits, dtype=np.float64)
    attained = logits[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        return (softmax(inverse * logits, axis=1) * logits).sum(axis=1).mean() - attained

    low, high = sorted(1 / t for t in TEMPERATURES)
    if slope(low) >= 0:
        return 1 / low
    if slope(high) <= 0:
        return 1 / high
    return 1 / brentq(slope, low, high)
