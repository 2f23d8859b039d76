"""U-LiRA: can a sample's unlearned models be told from its retrained ones (NumPy, SciPy)?

Hayes, Shumailov, Triantafillou et al., "Inexact Unlearning Needs More Careful Evaluations" (arXiv:2403.01218), after
LiRA (arXiv:2112.03570). Of each sample x there are logit-scaled confidences under models that were trained on x and
have unlearned it, and under models that never had it. A Gaussian is fitted to either; a value φ of one more model is
called unlearned where

    Λ(φ) = log N(φ; μ_unlearned, σ_unlearned) − log N(φ; μ_retrained, σ_retrained)

is above 0. Good unlearning leaves half of the calls right.

A pool judges itself by leaving out: each value is scored by Gaussians that never saw its model. The other side leaves
out one model too. Otherwise its mean would be the surer of the two, its likelihood the higher, and a pool of equal
models would be told apart less often than by chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import norm

from .intervals import FALSE_POSITIVE_RATES, Estimate, clopper_pearson, unsupported_fpr
from .pools import check_pools, check_used
from .roc import Roc

# Models that a sample needs on each side.
FEWEST_MODELS = 4
# With fewer models on a side a variance of each sample's own is worse than one for all of them (LiRA, section VI).
SHARED_BELOW = 64
# Models that all say the same have no variance to divide by.
_LEAST_VARIANCE = 1e-9


@dataclass(frozen=True)
class ULira:
    """What U-LiRA found.

    Attributes:
        accuracy: share of right calls, both sides counting alike; 0.5 where they cannot be told apart. `n` of this and
            of the other figures is the number of samples; the intervals are of a bootstrap over samples and models.
        auc: area under the ROC curve of Λ over all samples and models.
        tpr: false-positive rate → share of unlearned values found.
        unlearned_models: models in all.
        retrained_models: models in all.
        samples: those with enough models.
        left_out: those without.
        shared_variance: whether all samples have one variance on each side.
        reason: why there are no figures.
        unlearned_scores: Λ of every value, shape (models, samples), NaN where it was not used.
        retrained_scores: the same of the retrained models.
    """

    accuracy: Estimate
    auc: Estimate
    tpr: dict[float, Estimate]
    unlearned_models: int
    retrained_models: int
    samples: int
    left_out: int
    shared_variance: bool
    reason: str | None = None
    unlearned_scores: np.ndarray = field(default_factory=lambda: np.empty((0, 0)), repr=False)
    retrained_scores: np.ndarray = field(default_factory=lambda: np.empty((0, 0)), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the scores; the rates as `tpr_at_0.001_fpr` and `tpr_at_0.01_fpr`."""
        rates = {f"tpr_at_{fpr:g}_fpr": estimate.to_dict() for fpr, estimate in self.tpr.items()}
        counts = ("unlearned_models", "retrained_models", "samples", "left_out", "shared_variance", "reason")
        figures = {"accuracy": self.accuracy.to_dict(), "auc": self.auc.to_dict(), **rates}
        return figures | {name: getattr(self, name) for name in counts}


class _Side:
    """One side's values, with the mean and variance of each sample when any one model is left out."""

    def __init__(self, values: np.ndarray, used: np.ndarray, shared: bool):
        self.values, self.used = values, used
        self.counts = used.sum(axis=0)
        held = np.where(used, values, 0.0)
        # Centred first: squares of large values would cancel.
        self.means = held.sum(axis=0) / np.maximum(self.counts, 1)
        apart = np.where(used, values - self.means, 0.0)
        squares = (apart**2).sum(axis=0)
        rest = np.maximum(self.counts - 1, 1)
        self.means_without = self.means - apart / rest
        squares_without = squares - apart**2 * self.counts / rest
        degrees, degrees_without = self.counts - 1, self.counts - 1 - used
        if shared:
            enough = self.counts > 1
            total = squares[enough].sum() / max(degrees[enough].sum(), 1)
            self.variances = np.full(len(self.counts), total)
            # A model that is left out is left out of every sample's squares.
            sums, sizes = (x[:, enough].sum(axis=1) for x in (squares_without, degrees_without))
            self.variances_without = np.repeat((sums / np.maximum(sizes, 1))[:, None], values.shape[1], axis=1)
        else:
            self.variances = squares / np.maximum(degrees, 1)
            self.variances_without = squares_without / np.maximum(degrees_without, 1)

    def partners(self, other: _Side) -> np.ndarray:
        """The model of the other side that is left out with each value, all in turn, shape (models, samples)."""
        place = np.cumsum(self.used, axis=0) - 1
        there = np.argsort(~other.used, axis=0, kind="stable")
        return np.take_along_axis(there, place % np.maximum(other.counts, 1), axis=0)

    def without(self, models: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances when the given models are left out, each of their shape (any, samples)."""
        means, variances = (
            np.take_along_axis(x, models, axis=0) for x in (self.means_without, self.variances_without)
        )
        return means, variances


def _log_density(values: np.ndarray, means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    return norm.logpdf(values, means, np.sqrt(np.maximum(variances, _LEAST_VARIANCE)))


def _shared(asked: bool | None, *sides: np.ndarray) -> bool:
    return bool(min(used.sum(axis=0).max() for used in sides) < SHARED_BELOW) if asked is None else bool(asked)


def log_likelihood_ratio(
    observed: np.ndarray,
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    unlearned_used: np.ndarray | None = None,
    retrained_used: np.ndarray | None = None,
    shared_variance: bool | None = None,
) -> np.ndarray:
    """Λ of one more model's values: above 0 where it looks like one that was trained on the sample and unlearned it.

    Args:
        observed: logit-scaled confidence under the judged model, shape (samples,).
        unlearned: the same under the pool's unlearned models, shape (models, samples).
        retrained: the same under its retrained models, shape (others, samples).
        unlearned_used: which entries count; all by default.
        retrained_used: the same of the retrained.
        shared_variance: one variance for all samples; by default with fewer than 64 models a side.

    Returns:
        float64, shape (samples,); NaN where a sample has fewer than four models on a side.

    Raises:
        ValueError: for other shapes, or values that are not finite.
    """
    u, r = check_pools(unlearned, retrained)
    observed = np.asarray(observed, dtype=np.float64)
    if observed.shape != u.shape[1:] or not np.isfinite(observed).all():
        raise ValueError(f"observed must be finite, one of each of {u.shape[1]} samples; got shape {observed.shape}.")
    masks = (
        check_used("unlearned_used", unlearned_used, u.shape),
        check_used("retrained_used", retrained_used, r.shape),
    )
    shared = _shared(shared_variance, *masks)
    sides = [_Side(values, used, shared) for values, used in zip((u, r), masks, strict=True)]
    ratios = np.subtract(*(_log_density(observed, side.means, side.variances) for side in sides))
    return np.where(np.minimum(*(side.counts for side in sides)) >= FEWEST_MODELS, ratios, np.nan)


def u_lira(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    unlearned_used: np.ndarray | None = None,
    retrained_used: np.ndarray | None = None,
    shared_variance: bool | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> ULira:
    """How well a pool's unlearned and retrained models can be told apart by what they say of each sample.

    Args:
        unlearned: logit-scaled confidences under models that were trained on the sample and unlearned it, shape
            (models, samples).
        retrained: the same under models that never had it, shape (others, samples).
        unlearned_used: False where the sample was not in that model's forget set, shape (models, samples).
        retrained_used: False where that model was trained on the sample, shape (others, samples).
        shared_variance: one variance for all samples; by default with fewer than 64 models a side.
        resamples: of the bootstrap over samples and over each side's models.
        seed: of it.

    Returns:
        the figures; none where no sample has four models on each side.

    Raises:
        ValueError: for other shapes, values that are not finite, or without resamples.
    """
    u, r = check_pools(unlearned, retrained)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}.")
    masks = (
        check_used("unlearned_used", unlearned_used, u.shape),
        check_used("retrained_used", retrained_used, r.shape),
    )
    kept = np.minimum(*(used.sum(axis=0) for used in masks)) >= FEWEST_MODELS
    used_u, used_r = (used & kept for used in masks)
    shared = _shared(shared_variance, *masks)
    counts: dict[str, Any] = {
        "unlearned_models": len(u),
        "retrained_models": len(r),
        "samples": int(kept.sum()),
        "left_out": int((~kept).sum()),
        "shared_variance": shared,
    }
    if not kept.any():
        most = [int(used.sum(axis=0).max()) for used in masks]
        reason = (
            f"U-LiRA needs {FEWEST_MODELS} models of each side for a sample; the most that one has are {most[0]} "
            f"unlearned and {most[1]} retrained."
        )
        none = Estimate.without(0, reason)
        return ULira(none, none, dict.fromkeys(FALSE_POSITIVE_RATES, none), **counts, reason=reason)
    unlearned_scores, retrained_scores = _both_scores(_Side(u, used_u, shared), _Side(r, used_r, shared))
    return ULira(
        *_estimates(unlearned_scores, retrained_scores, resamples, seed),
        **counts,
        unlearned_scores=unlearned_scores,
        retrained_scores=retrained_scores,
    )


def u_lira_accuracy(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """The accuracy of `u_lira` alone, of models that all count: what costs no bootstrap can be asked often.

    Args:
        unlearned: as there, four models or more.
        retrained: as there, four models or more.

    Raises:
        ValueError: for other shapes, values that are not finite, or fewer models.
    """
    u, r = check_pools(unlearned, retrained, fewest=FEWEST_MODELS)
    used = [np.ones(side.shape, dtype=bool) for side in (u, r)]
    shared = _shared(None, *used)
    scores = _both_scores(*(_Side(values, all_of_it, shared) for values, all_of_it in zip((u, r), used, strict=True)))
    return float(np.mean([calls.mean() for calls in _right_calls(*(each.ravel() for each in scores))]))


def _right_calls(unlearned: np.ndarray, retrained: np.ndarray) -> list[np.ndarray]:
    """Whether Λ of each value is on its side of 0; exactly there it is half right."""
    return [(sign * scores > 0) + (scores == 0) / 2 for sign, scores in ((1, unlearned), (-1, retrained))]


def _both_scores(unlearned: _Side, retrained: _Side) -> tuple[np.ndarray, np.ndarray]:
    """Λ of every value of both sides, NaN where it is not used."""
    return _scores(unlearned, retrained), -_scores(retrained, unlearned)


def _scores(own: _Side, other: _Side) -> np.ndarray:
    """How much likelier each value is on its own side than on the other, NaN where it is not used."""
    there = other.without(own.partners(other))
    ratios = _log_density(own.values, own.means_without, own.variances_without) - _log_density(own.values, *there)
    return np.where(own.used, ratios, np.nan)


def _estimates(
    unlearned: np.ndarray, retrained: np.ndarray, resamples: int, seed: int
) -> tuple[Estimate, Estimate, dict[float, Estimate]]:
    """Accuracy, area and rates, with intervals from resampling samples and the models of both sides."""
    places = [np.nonzero(~np.isnan(scores)) for scores in (unlearned, retrained)]
    flat = [scores[place] for scores, place in zip((unlearned, retrained), places, strict=True)]
    right = _right_calls(*flat)
    roc = Roc(*flat)
    rates = [fpr for fpr in FALSE_POSITIVE_RATES if unsupported_fpr(len(flat[1]), fpr) is None]

    def figures(weights: list[np.ndarray]) -> list[float]:
        accuracy = np.mean([np.average(calls, weights=w) for calls, w in zip(right, weights, strict=True)])
        levels = roc.weights(*weights)
        return [float(accuracy), roc.auc(levels), *(roc.tpr(levels, fpr) for fpr in rates)]

    rng = np.random.default_rng(seed)
    used = np.unique(np.concatenate([place[1] for place in places]))

    def drawn(count: int, choices: np.ndarray) -> np.ndarray:
        return np.bincount(rng.choice(choices, size=len(choices)), minlength=count).astype(np.float64)

    resampled = []
    for _ in range(resamples):
        samples = drawn(unlearned.shape[1], used)
        weights = [
            drawn(count, np.unique(place[0]))[place[0]] * samples[place[1]]
            for count, place in zip((len(unlearned), len(retrained)), places, strict=True)
        ]
        # With masks a resample can miss all that is used of a side.
        if all(w.any() for w in weights):
            resampled.append(figures(weights))
    models = min(len(np.unique(place[0])) for place in places)
    values = figures([np.ones(len(scores)) for scores in flat])
    estimates = [_estimate(*pair, len(used), models) for pair in zip(values, np.array(resampled).T, strict=True)]
    found = dict(zip(rates, estimates[2:], strict=True))
    missing = {
        fpr: Estimate.without(len(used), unsupported_fpr(len(flat[1]), fpr) or "") for fpr in FALSE_POSITIVE_RATES
    }
    return estimates[0], estimates[1], missing | found


def _estimate(value: float, resampled: np.ndarray, samples: int, models: int) -> Estimate:
    """A figure with its interval; at 0 or 1 no resample differs, and its models are so many draws that all agreed."""
    if value in (0.0, 1.0):
        low, high = clopper_pearson(np.array(models if value else 0), np.array(models))
        return Estimate(value, float(low), float(high), samples)
    return Estimate.of_resamples(value, resampled, samples, 0.95)
