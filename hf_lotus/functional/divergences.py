"""Jensen-Shannon divergences between predictions: arrays in, numbers out (NumPy only).

Natural logarithms and float64 sums, unless said otherwise; the textbook divergence is bounded by ``ln 2``:

* `jensen_shannon`: the divergence of two distributions, row by row;
* `reference_divergence`: what LoTUS's published code computes in its place, to stand beside the paper's figures;
* `RunningClassMeans`: what RF-JSD needs of a data set, which is K sums of K numbers whatever the number of samples;
* `rf_jsd`: the retrain-free metric of LoTUS (arXiv:2503.18314);
* `rf_jsd_null`: the value that RF-JSD takes when nothing was ever learned from the forget set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .arrays import blocks, check_labels, check_rows, distributions, sum_over_processes

if TYPE_CHECKING:
    from accelerate import Accelerator

# The published code's guard against log 0.
REFERENCE_CLAMP = 1e-8


def jensen_shannon(p: np.ndarray, q: np.ndarray, *, from_logits: bool = False) -> np.ndarray:
    """Jensen-Shannon divergence of each row of `p` from the same row of `q`.

    ``JSD(p, q) = ½ KL(p‖m) + ½ KL(q‖m)`` with ``m = ½ (p + q)``; symmetric, from 0 (equal) to ``ln 2`` (disjoint).

    Args:
        p: probabilities, shape (samples, classes).
        q: probabilities, the same shape.
        from_logits: whether both are logits instead.

    Returns:
        float64 array of shape (samples,), in nats.

    Raises:
        ValueError: if the shapes differ or a row is not a distribution.
    """
    p, q = _check_pair(p, q, from_logits)
    divergences = np.empty(len(p))
    for block in blocks(*p.shape):
        a, b = (distributions(x[block], from_logits=from_logits) for x in (p, q))
        mixture = (a + b) / 2
        # Rounding can leave a value a hair below zero for equal rows.
        divergences[block] = np.maximum((_kl(a, mixture) + _kl(b, mixture)) / 2, 0.0)
    return divergences


def _check_pair(p: np.ndarray, q: np.ndarray, from_logits: bool) -> tuple[np.ndarray, np.ndarray]:
    p, q = check_rows("p", p, from_logits=from_logits), check_rows("q", q, from_logits=from_logits)
    if p.shape != q.shape:
        raise ValueError(f"p and q must have the same shape, got {p.shape} and {q.shape}.")
    return p, q


def _kl(a: np.ndarray, mixture: np.ndarray) -> np.ndarray:
    # A zero contributes nothing: 0 · log 0 = 0. Where a > 0 the mixture is at least a / 2.
    ratio = np.divide(a, mixture, out=np.ones_like(a), where=a > 0)
    return (a * np.log(ratio)).sum(axis=1)


def reference_divergence(p: np.ndarray, q: np.ndarray, *, from_logits: bool = False) -> np.ndarray:
    """The rows of what LoTUS's published code calls JSD; the mean over the rows is the number it reports.

    Clamp both to [1e-8, 1], divide each by its total over the WHOLE matrix of N rows, and take
    ``½ KL(m‖p) + ½ KL(m‖q)`` of each row: the textbook's KL reversed. The totals divide by N once and the mean does
    so again; it is not bounded by ``ln 2``, and not comparable between matrices with different numbers of rows. The
    paper prints it × 1e4.

    Arguments and errors are those of `jensen_shannon`; returns float64 of shape (samples,).
    """
    p, q = _check_pair(p, q, from_logits)

    def clamped(rows: np.ndarray) -> np.ndarray:
        return np.clip(distributions(rows, from_logits=from_logits), REFERENCE_CLAMP, 1.0)

    totals = [sum(clamped(x[block]).sum() for block in blocks(*p.shape)) for x in (p, q)]
    divergences = np.empty(len(p))
    for block in blocks(*p.shape):
        a, b = (clamped(x[block]) / total for x, total in zip((p, q), totals, strict=True))
        mixture = (a + b) / 2
        divergences[block] = (mixture * (np.log(mixture) - (np.log(a) + np.log(b)) / 2)).sum(axis=1)
    return divergences


# "paper" is the divergence that the paper defines, "reference" what its published code computes.
CONVENTIONS = {"paper": jensen_shannon, "reference": reference_divergence}


def divergence(
    p: np.ndarray, q: np.ndarray, *, convention: str = "paper", base: float = math.e, from_logits: bool = False
) -> np.ndarray:
    """Divergence of each row of `p` from the same row of `q`, in a convention and a unit.

    Args:
        p: probabilities, shape (samples, classes).
        q: probabilities, the same shape.
        convention: "paper" (`jensen_shannon`) or "reference" (`reference_divergence`).
        base: base of the logarithm: e for nats, 2 for bits.
        from_logits: whether both are logits instead.

    Returns:
        float64 array of shape (samples,).

    Raises:
        ValueError: for another convention or base, different shapes, or a row that is not a distribution.
    """
    check_convention(convention, base)
    return CONVENTIONS[convention](p, q, from_logits=from_logits) / math.log(base)


def check_convention(convention: str, base: float) -> None:
    """Raise `ValueError` unless the convention exists and `base` can be the base of a logarithm."""
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}.")
    if not 1 < base < math.inf:
        raise ValueError(f"base must be greater than 1 (e for nats, 2 for bits), got {base}.")


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

    def add(self, probabilities: np.ndarray, labels: np.ndarray, *, from_logits: bool = False) -> None:
        """Add a batch; an invalid batch raises `ValueError` and changes nothing.

        Args:
            probabilities: shape (samples, classes).
            labels: the true classes, integers in [0, classes), shape (samples,).
            from_logits: whether the rows are logits.
        """
        rows = check_rows("probabilities", probabilities, from_logits=from_logits)
        if rows.shape[1] != len(self.counts):
            raise ValueError(f"This batch has {rows.shape[1]} classes, the ones before it {len(self.counts)}.")
        labels = check_labels(labels, *rows.shape)
        self.accumulate(rows, labels, from_logits=from_logits)

    def accumulate(self, rows: np.ndarray, labels: np.ndarray, *, from_logits: bool = False) -> None:
        """`add` without its checks, for rows and labels that have passed them."""
        for block in blocks(*rows.shape):
            # Rows of a class side by side: they are then added in one sweep over the block.
            order = np.argsort(labels[block], kind="stable")
            present, starts = np.unique(labels[block][order], return_index=True)
            sorted_rows = distributions(rows[block][order], from_logits=from_logits)
            self.sums[present] += np.add.reduceat(sorted_rows, starts, axis=0)
        self.counts += np.bincount(labels, minlength=len(self.counts))

    def reduced(self, accelerator: Accelerator) -> RunningClassMeans:
        """The sums over all processes of an `accelerate.Accelerator`, the same on each; this object stays as it is.

        Every process must call it, with the same number of classes.
        """
        total = RunningClassMeans(len(self.counts))
        total.sums = sum_over_processes(self.sums, accelerator)
        total.counts = sum_over_processes(self.counts, accelerator)
        return total

    def mean(self, label: int | np.integer) -> np.ndarray:
        """Mean prediction over the samples of class `label`, shape (classes,), summing to one."""
        return self.sums[label] / self.sums[label].sum()


@dataclass(frozen=True)
class RFJSD:
    """The value of RF-JSD and what it was computed from.

    Attributes:
        value: mean of `per_class`, 0 … ln 2 in the paper's convention.
        per_class: class → divergence, for the classes present in both sets.
        missing_classes: classes of the forget set without a single unseen sample; they are left out of `value`.
    """

    value: float
    per_class: dict[int, float]
    missing_classes: tuple[int, ...]


def rf_jsd(
    forget: RunningClassMeans, unseen: RunningClassMeans, *, convention: str = "paper", base: float = math.e
) -> RFJSD:
    """RF-JSD, the retrain-free divergence of LoTUS (arXiv:2503.18314).

    For each class present in both sets: the JSD between the unlearned model's mean prediction on the forget samples
    of that class and the original model's mean prediction on the unseen samples of that class. Then the mean over
    classes. A model that never saw the forget samples does not score 0 but what `rf_jsd_null` gives.

    Args:
        forget: sums of the *unlearned* model's probabilities on the forget set.
        unseen: sums of the *original* model's probabilities on data that was never trained on.
        convention: "paper" or "reference"; see `divergence`.
        base: base of the logarithm.

    Raises:
        ValueError: if a set is empty, the two have no class in common, or the convention does not exist.
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
            f"The forget set (classes {', '.join(map(str, missing[:10]))}) and the unseen set have no class in "
            "common; RF-JSD compares the two class by class. Add unseen samples of the forgotten classes."
        )
    means = (np.stack([running.mean(c) for c in common]) for running in (forget, unseen))
    divergences = divergence(*means, convention=convention, base=base)
    per_class = {int(c): float(d) for c, d in zip(common, divergences, strict=True)}
    return RFJSD(float(divergences.mean()), per_class, missing)


# Resamples of predictions that are all the same differ by rounding alone, some 1e-17 nats; those of models that were
# seen, by 1e-6 and more.
_NO_SPREAD = 1e-12


@dataclass(frozen=True)
class Null:
    """Mean and standard deviation of a statistic over resamples in which nothing was ever learned."""

    mean: float
    std: float

    def z_score(self, value: float) -> float | None:
        """How many deviations `value` lies above the null's mean; None where the null has no spread but rounding."""
        return (value - self.mean) / self.std if self.std > _NO_SPREAD else None


def rf_jsd_null(
    probabilities: np.ndarray,
    labels: np.ndarray,
    forget_counts: np.ndarray,
    resamples: int = 50,
    seed: int = 0,
    *,
    unseen_counts: np.ndarray | None = None,
    base: float = math.e,
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
        unseen_counts: number of unseen samples of each class, where `probabilities` holds only a sample of them.
        base: base of the logarithm.

    Raises:
        ValueError: if no class is present in both sets, or there are fewer than two resamples.
    """
    if resamples < 2:
        raise ValueError(f"The null needs at least 2 resamples for a deviation, got {resamples}.")
    probabilities = check_rows("probabilities", probabilities)
    labels = check_labels(labels, *probabilities.shape)
    rng = np.random.default_rng(seed)
    totals, classes = np.zeros(resamples), 0
    for label in np.flatnonzero(np.asarray(forget_counts) > 0):
        pool = distributions(probabilities[labels == label])
        if len(pool) == 0:
            continue
        unseen_count = len(pool) if unseen_counts is None else int(unseen_counts[label])
        uniform = np.full(len(pool), 1 / len(pool))
        # Drawing n rows with replacement and averaging them is weighting the rows by multinomial counts.
        as_forget = rng.multinomial(int(forget_counts[label]), uniform, size=resamples) @ pool
        as_unseen = rng.multinomial(unseen_count, uniform, size=resamples) @ pool
        totals += jensen_shannon(
            as_forget / as_forget.sum(axis=1, keepdims=True), as_unseen / as_unseen.sum(axis=1, keepdims=True)
        )
        classes += 1
    if classes == 0:
        raise ValueError("The forget set and the unseen set have no class in common: RF-JSD has no null.")
    values = totals / classes / math.log(base)
    return Null(float(values.mean()), float(values.std(ddof=1)))
