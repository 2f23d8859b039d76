"""Jensen-Shannon divergences between predictions: arrays in, numbers out (NumPy only).

Everything here is in natural logarithms, accumulated in float64, and bounded by ``ln 2``:

* `jensen_shannon`: the divergence of two distributions, row by row;
* `RunningClassMeans`: what RF-JSD needs of a data set, which is K sums of K numbers whatever the number of samples;
* `rf_jsd`: the retrain-free metric of LoTUS (arXiv:2503.18314, Section 4);
* `rf_jsd_null`: the value that RF-JSD takes when nothing was ever learned from the forget set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Rows are divided by their sum, so a distribution may be off by rounding; more than this is not a distribution.
SUM_TOLERANCE = 1e-3


def _distributions(name: str, values: np.ndarray) -> np.ndarray:
    """Return `values` as float64 rows that sum to one, or say which row is not a distribution."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"{name} must have shape (samples, classes) with two classes or more, got {values.shape}.")
    bad = ~np.isfinite(values).all(axis=1) | (values < 0).any(axis=1)
    sums = values.sum(axis=1)
    bad |= ~(np.abs(sums - 1) <= SUM_TOLERANCE)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{name} must hold probabilities: every row finite, not negative and summing to 1. Row {row} is not "
            f"(sum {sums[row]:.6g}, minimum {values[row].min():.6g}; {int(bad.sum())} such rows). "
            "Pass softmax probabilities, not logits."
        )
    return values / sums[:, None]


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of each row of `p` from the same row of `q`.

    ``JSD(p, q) = ½ KL(p‖m) + ½ KL(q‖m)`` with ``m = ½ (p + q)``; symmetric, from 0 (equal) to ``ln 2`` (disjoint).

    Args:
        p: probabilities, shape (samples, classes).
        q: probabilities, the same shape.

    Returns:
        float64 array of shape (samples,), in nats.

    Raises:
        ValueError: if the shapes differ or a row is not a distribution.
    """
    p, q = _distributions("p", p), _distributions("q", q)
    if p.shape != q.shape:
        raise ValueError(f"p and q must have the same shape, got {p.shape} and {q.shape}.")
    mixture = (p + q) / 2

    def kl_to_mixture(a: np.ndarray) -> np.ndarray:
        # A zero contributes nothing: 0 · log 0 = 0. Where a > 0 the mixture is at least a / 2.
        ratio = np.divide(a, mixture, out=np.ones_like(a), where=a > 0)
        return (a * np.log(ratio)).sum(axis=1)

    # Rounding can leave a value a hair below zero for equal rows.
    return np.maximum((kl_to_mixture(p) + kl_to_mixture(q)) / 2, 0.0)


class RunningClassMeans:
    """Sums of predicted probabilities per true class: all that RF-JSD needs, in K × K numbers.

    Args:
        num_classes: K, the number of columns of every batch that will be added.
    """

    def __init__(self, num_classes: int):
        self.sums = np.zeros((num_classes, num_classes))
        self.counts = np.zeros(num_classes, dtype=np.int64)

    @classmethod
    def of(cls, probabilities: np.ndarray, labels: np.ndarray) -> RunningClassMeans:
        """Sums over one array: `probabilities` of shape (samples, classes), `labels` of shape (samples,)."""
        running = cls(np.asarray(probabilities).shape[-1])
        running.add(probabilities, labels)
        return running

    def add(self, probabilities: np.ndarray, labels: np.ndarray) -> None:
        """Add a batch; an invalid batch raises `ValueError` and changes nothing.

        Args:
            probabilities: shape (samples, classes).
            labels: the true classes, integers in [0, classes), shape (samples,).
        """
        probabilities = _distributions("probabilities", probabilities)
        num_classes = len(self.counts)
        if probabilities.shape[1] != num_classes:
            raise ValueError(f"This batch has {probabilities.shape[1]} classes, the ones before it {num_classes}.")
        labels = np.asarray(labels)
        if labels.shape != (len(probabilities),) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"labels must be integers of shape ({len(probabilities)},), got {labels.dtype} of shape {labels.shape}."
            )
        outside = np.flatnonzero((labels < 0) | (labels >= num_classes))
        if len(outside):
            raise ValueError(
                f"Label {labels[outside[0]]} in row {outside[0]} is outside the {num_classes} classes of the "
                f"probabilities (allowed: 0 to {num_classes - 1})."
            )
        np.add.at(self.sums, labels, probabilities)
        self.counts += np.bincount(labels, minlength=num_classes)

    def mean(self, label: int) -> np.ndarray:
        """Mean prediction over the samples of class `label`, shape (classes,), summing to one."""
        return self.sums[label] / self.sums[label].sum()


@dataclass(frozen=True)
class RFJSD:
    """The value of RF-JSD and what it was computed from.

    Attributes:
        value: mean of `per_class`, 0 … ln 2.
        per_class: class → divergence, for the classes present in both sets.
        missing_classes: classes of the forget set without a single unseen sample; they are left out of `value`.
    """

    value: float
    per_class: dict[int, float]
    missing_classes: tuple[int, ...]


def rf_jsd(forget: RunningClassMeans, unseen: RunningClassMeans) -> RFJSD:
    """RF-JSD, the retrain-free divergence of LoTUS (arXiv:2503.18314, Section 4).

    For each class present in both sets: the JSD between the unlearned model's mean prediction on the forget samples
    of that class and the original model's mean prediction on the unseen samples of that class. Then the mean over
    classes. A model that never saw the forget samples does not score 0 but what `rf_jsd_null` gives.

    Args:
        forget: sums of the *unlearned* model's probabilities on the forget set.
        unseen: sums of the *original* model's probabilities on data that was never trained on.

    Raises:
        ValueError: if a set is empty or the two have no class in common.
    """
    for name, running in (("forget", forget), ("unseen", unseen)):
        if not running.counts.any():
            raise ValueError(f"RF-JSD needs samples of both sets, and the {name} set is empty.")
    if len(forget.counts) != len(unseen.counts):
        raise ValueError(f"The forget set has {len(forget.counts)} classes and the unseen set {len(unseen.counts)}.")
    common = np.flatnonzero((forget.counts > 0) & (unseen.counts > 0))
    missing = tuple(int(c) for c in np.flatnonzero((forget.counts > 0) & (unseen.counts == 0)))
    if len(common) == 0:
        raise ValueError(
            f"The forget set (classes {', '.join(map(str, missing[:10]))}) and the unseen set have no class in common; "
            "RF-JSD compares the two class by class. Add unseen samples of the forgotten classes."
        )
    divergences = jensen_shannon(
        np.stack([forget.mean(c) for c in common]), np.stack([unseen.mean(c) for c in common])
    )
    per_class = {int(c): float(d) for c, d in zip(common, divergences, strict=True)}
    return RFJSD(float(divergences.mean()), per_class, missing)


@dataclass(frozen=True)
class Null:
    """Mean and standard deviation of a statistic over resamples in which nothing was ever learned."""

    mean: float
    std: float

    def z_score(self, value: float) -> float | None:
        """How many deviations `value` lies above the null's mean; None where the null has no spread."""
        return (value - self.mean) / self.std if self.std > 0 else None


def rf_jsd_null(
    probabilities: np.ndarray, labels: np.ndarray, forget_counts: np.ndarray, resamples: int = 50, seed: int = 0
) -> Null:
    """What RF-JSD would be, had the forget set been unseen: a bootstrap of the unseen set against itself.

    Each resample draws, class by class and with replacement, two independent sets from the unseen samples: one of
    the forget set's size, one of the unseen set's own size, and takes their RF-JSD. The two sizes are those of the
    real measurement, so the sampling noise is too. The noise between two trainings is not in it: a truly retrained
    model may lie a few deviations above.

    Args:
        probabilities: the original model's probabilities on the unseen set, shape (samples, classes).
        labels: the unseen set's true classes, shape (samples,).
        forget_counts: number of forget samples of each class, shape (classes,).
        resamples: number of resamples.
        seed: seed of the resampling.

    Raises:
        ValueError: if no class is present in both sets, or there are fewer than two resamples.
    """
    if resamples < 2:
        raise ValueError(f"The null needs at least 2 resamples for a deviation, got {resamples}.")
    probabilities = _distributions("probabilities", probabilities)
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    totals, classes = np.zeros(resamples), 0
    for label in np.flatnonzero(np.asarray(forget_counts) > 0):
        pool = probabilities[labels == label]
        if len(pool) == 0:
            continue
        uniform = np.full(len(pool), 1 / len(pool))
        # Drawing n rows with replacement and averaging them is weighting the rows by multinomial counts.
        as_forget = rng.multinomial(int(forget_counts[label]), uniform, size=resamples) @ pool
        as_unseen = rng.multinomial(len(pool), uniform, size=resamples) @ pool
        totals += jensen_shannon(
            as_forget / as_forget.sum(axis=1, keepdims=True), as_unseen / as_unseen.sum(axis=1, keepdims=True)
        )
        classes += 1
    if classes == 0:
        raise ValueError("The forget set and the unseen set have no class in common: RF-JSD has no null.")
    values = totals / classes
    return Null(float(values.mean()), float(values.std(ddof=1)))
