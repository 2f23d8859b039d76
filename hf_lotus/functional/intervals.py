"""Figures with the interval that their sample leaves open, or with the reason why there is none (NumPy, SciPy).

A rate has the interval of Clopper and Pearson (Biometrika 26, 1934), which covers at least what it says at every size.
An area under the ROC curve has that of the bootstrap, each side resampled by itself. A figure that the sample is too
small for is no number at all: `value` is None, and `reason` says what it would take.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import beta

from .roc import Roc

FALSE_POSITIVE_RATES = (0.001, 0.01)
# With fewer on a side a resample is one of too few for its quantiles to mean anything.
SMALLEST_SIDE = 10


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval.

    Attributes:
        value: None where the sample cannot support it.
        low: lower end of the interval, None where there is no value.
        high: upper end.
        n: how many observations it is of.
        reason: why there is no value.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    reason: str | None = None

    @classmethod
    def without(cls, n: int, reason: str) -> Estimate:
        """No figure, and why."""
        return cls(None, None, None, n, reason)

    @classmethod
    def of_resamples(cls, value: float, resamples: np.ndarray, n: int, confidence: float) -> Estimate:
        """A value with the quantiles of its resamples; the interval is widened to hold the value where it must be."""
        low, high = np.quantile(resamples, [(1 - confidence) / 2, (1 + confidence) / 2])
        return cls(float(value), float(min(low, value)), float(max(high, value)), n)

    def to_dict(self) -> dict[str, Any]:
        """The five attributes by name."""
        return asdict(self)


def clopper_pearson(
    successes: np.ndarray, trials: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """The exact two-sided interval of a rate.

    ``low = B((1 − c)/2; k, n − k + 1)``, ``high = B((1 + c)/2; k + 1, n − k)`` with B the quantile of the beta
    distribution; 0 where k = 0, 1 where k = n.

    Args:
        successes: k, integers from 0 to n, any shape.
        trials: n, integers above 0, of a shape that broadcasts with it.
        confidence: c, between 0 and 1.

    Returns:
        low and high, float64, of the common shape.

    Raises:
        ValueError: for other counts or another confidence.
    """
    k, n = np.broadcast_arrays(np.asarray(successes), np.asarray(trials))
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}.")
    if k.dtype.kind not in "iu" or n.dtype.kind not in "iu" or (k < 0).any() or (k > n).any() or (n < 1).any():
        raise ValueError(f"successes must be counts from 0 to trials, and trials at least 1; got {k} of {n}.")
    # The ends that the formula has no value for are filled in after.
    low = beta.ppf((1 - confidence) / 2, np.maximum(k, 1), n - k + 1)
    high = beta.ppf((1 + confidence) / 2, k + 1, np.maximum(n - k, 1))
    return np.where(k == 0, 0.0, low), np.where(k == n, 1.0, high)


def rate(successes: int, trials: int, confidence: float = 0.95) -> Estimate:
    """A share with the interval of Clopper and Pearson.

    Args:
        successes: 0 … trials.
        trials: without any there is no value.
        confidence: of the interval.
    """
    if trials == 0:
        return Estimate.without(0, "There are no observations.")
    low, high = clopper_pearson(np.array(successes), np.array(trials), confidence)
    return Estimate(successes / trials, float(low), float(high), int(trials))


def check_scores(name: str, scores: np.ndarray) -> np.ndarray:
    """`scores` as float64 of shape (samples,).

    Raises:
        ValueError: if they have another shape, or one is not finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or not np.isfinite(scores).all():
        raise ValueError(f"The {name} must be finite numbers of shape (samples,), got shape {scores.shape}.")
    return scores


def _checked(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return check_scores("scores of the positives", positives), check_scores("scores of the negatives", negatives)


def auc_estimate(
    positives: np.ndarray,
    negatives: np.ndarray,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Area under the ROC curve with a bootstrap interval, positives and negatives resampled by themselves.

    Where all positives are on one side of all negatives, every resample says the same. There the interval is that of
    k = min(positives, negatives) disjoint pairs, each in this order with the chance that the area is: Clopper and
    Pearson's of k in k.

    Args:
        positives: scores, shape (positives,).
        negatives: scores, shape (negatives,).
        resamples: number of bootstrap resamples.
        confidence: of the interval.
        seed: of the resamples.

    Returns:
        the estimate; no value with fewer than ten on a side.

    Raises:
        ValueError: if a score is not finite, or there are no resamples.
    """
    positives, negatives = _checked(positives, negatives)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}.")
    n, smaller = len(positives) + len(negatives), min(len(positives), len(negatives))
    if smaller < SMALLEST_SIDE:
        sizes = f"{len(positives)} and {len(negatives)}"
        return Estimate.without(n, f"An area needs {SMALLEST_SIDE} samples of each side; there are {sizes}.")
    roc = Roc(positives, negatives)
    value = roc.auc(roc.weights())
    if value in (0.0, 1.0):
        low, high = clopper_pearson(np.array(smaller if value else 0), np.array(smaller), confidence)
        return Estimate(value, float(low), float(high), n)
    rng = np.random.default_rng(seed)
    drawn = np.array([roc.auc(roc.resampled(rng)) for _ in range(resamples)])
    return Estimate.of_resamples(value, drawn, n, confidence)


def unsupported_fpr(negatives: int, fpr: float) -> str | None:
    """Why so many negatives cannot support a false-positive rate, or None if they can: it takes ``1 / fpr``."""
    if not 0 < fpr < 1:
        raise ValueError(f"A false-positive rate lies between 0 and 1, got {fpr}.")
    if negatives * fpr >= 1 - 1e-9:
        return None
    return f"A false-positive rate of {fpr:.4g} needs {round(1 / fpr):,} non-members or more; there are {negatives:,}."


def tpr_estimate(positives: np.ndarray, negatives: np.ndarray, fpr: float, confidence: float = 0.95) -> Estimate:
    """Share of positives that an attack finds while it accuses at most the share `fpr` of negatives.

    The interval is Clopper and Pearson's, at the threshold that the negatives gave: it does not hold what another
    sample of negatives would have made of the threshold.

    Args:
        positives: scores, shape (positives,).
        negatives: scores, shape (negatives,); at least ``1 / fpr`` of them.
        fpr: between 0 and 1.
        confidence: of the interval.

    Returns:
        the estimate, n being the number of positives; no value where there are too few negatives, or no positives.

    Raises:
        ValueError: if a score is not finite, or for another rate.
    """
    positives, negatives = _checked(positives, negatives)
    reason = unsupported_fpr(len(negatives), fpr)
    if reason or not len(positives):
        return Estimate.without(len(positives), reason or "There are no positives.")
    roc = Roc(positives, negatives)
    return rate(round(roc.tpr(roc.weights(), fpr) * len(positives)), len(positives), confidence)


@dataclass(frozen=True)
class AttackFigures:
    """What an attack finds: its area under the ROC curve, and its true-positive rates at low false-positive rates.

    Attributes:
        auc: 0.5 is no knowledge.
        tpr: false-positive rate → share of positives found.
        positives: number of samples that the attack is to find.
        negatives: number of those that it is to leave alone.
    """

    auc: Estimate
    tpr: dict[float, Estimate]
    positives: int
    negatives: int

    def to_dict(self) -> dict[str, Any]:
        """`auc`, `tpr_at_0.001_fpr`, `tpr_at_0.01_fpr`, each as `Estimate.to_dict`, and the two numbers."""
        rates = {f"tpr_at_{fpr:g}_fpr": estimate.to_dict() for fpr, estimate in self.tpr.items()}
        return {"auc": self.auc.to_dict(), **rates, "positives": self.positives, "negatives": self.negatives}


def attack_figures(
    positives: np.ndarray,
    negatives: np.ndarray,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> AttackFigures:
    """`auc_estimate`, and `tpr_estimate` at 0.1 % and 1 %, of the same scores; arguments and errors are theirs."""
    area = auc_estimate(positives, negatives, resamples=resamples, confidence=confidence, seed=seed)
    rates = {fpr: tpr_estimate(positives, negatives, fpr, confidence) for fpr in FALSE_POSITIVE_RATES}
    return AttackFigures(area, rates, len(positives), len(negatives))
