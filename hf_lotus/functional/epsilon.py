"""ε of unlearning, sample by sample: how far the best attack tells unlearned from retrained models (NumPy, SciPy).

The forgetting quality of the first NeurIPS unlearning competition (Triantafillou, Kairouz, Pedregosa et al.,
arXiv:2406.09073). An attack sees a number that a model says of a sample and calls the model unlearned or retrained.
With false-positive rate FPR (a retrained model called unlearned) and false-negative rate FNR it shows that unlearning
is not (ε, δ)-close to retraining for any ε below

    max( log((1 − δ − FPR) / FNR),  log((1 − δ − FNR) / FPR) ).

The attacks are all thresholds and all intervals; a sample's ε is that of the best of them. An attack without a single
error makes it infinite. One with errors of one kind alone is left out, as in the competition: its ratio is infinite
because the pool is small. So what is not infinite stays below log N of N models, 3.5 of 32: **a small pool cannot
show a large ε, and an infinite one of a small pool is worth what its bound says.**

The bound: thresholds at the retrained models' own values, and Clopper and Pearson's upper ends of both rates in place
of the rates, with the chance of error divided among all those thresholds in both directions. The best of them so
proves, at its confidence for each sample, an ε of at least that; without a correction the choice of the best would
prove too much.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from .intervals import clopper_pearson
from .pools import check_pools, floor_halves

# Bins of H: width, and number (the last has all that lies above it).
WIDTH, BINS = 0.5, 13
# Models a side below which there is no figure, and cuts that intervals are made of where there are more.
FEWEST_MODELS = 4
_MOST_CUTS = 65


def sample_epsilons(
    unlearned: np.ndarray, retrained: np.ndarray, *, delta: float = 0.0, confidence: float | None = None
) -> np.ndarray:
    """ε of each sample.

    Args:
        unlearned: a number that every unlearned model says of every sample, such as the logit-scaled confidence,
            shape (models, samples).
        retrained: the same of retrained models, shape (others, samples).
        delta: 0 … 1: what (ε, δ)-closeness lets pass.
        confidence: None for the estimate; otherwise the lower bound at this confidence.

    Returns:
        float64, shape (samples,), 0 or above; without a confidence it can be infinite.

    Raises:
        ValueError: for other shapes, values that are not finite, or another delta or confidence.
    """
    u, r = check_pools(unlearned, retrained)
    if not 0 <= delta < 1:
        raise ValueError(f"delta must be at least 0 and below 1, got {delta}.")
    if confidence is None:
        return np.array([_best_attack(u[:, sample], r[:, sample], delta) for sample in range(u.shape[1])])
    return _bounded(u, r, delta, confidence)


def _ratio(fpr: np.ndarray, fnr: np.ndarray, delta: float) -> np.ndarray:
    """What attacks of these rates, both above 0, show; −inf where that is nothing."""
    with np.errstate(divide="ignore"):
        ways = [np.log(np.maximum(1 - delta - a, 0.0)) - np.log(b) for a, b in ((fpr, fnr), (fnr, fpr))]
    return np.maximum(*ways)


def _best_attack(unlearned: np.ndarray, retrained: np.ndarray, delta: float) -> float:
    values = np.unique(np.concatenate([unlearned, retrained]))
    # How many of a side lie below each cut: below all, between any two values, above all.
    below = [
        np.concatenate([[0], np.searchsorted(np.sort(side), values, side="right")]) for side in (unlearned, retrained)
    ]
    last = len(values)
    some = np.unique(np.linspace(0, last, min(last + 1, _MOST_CUTS)).round().astype(np.int64))
    low, high = np.triu_indices(len(some), 1)
    every = np.arange(1, last)
    # Intervals between some cuts, and all that lies below any one cut; what lies outside is each one's opposite.
    low = np.concatenate([some[low], np.zeros_like(every)])
    high = np.concatenate([some[high], every])
    inside = [(side[high] - side[low]) / side[-1] for side in below]
    fpr = np.concatenate([inside[1], 1 - inside[1]])
    fnr = np.concatenate([1 - inside[0], inside[0]])
    if ((fpr == 0) & (fnr == 0)).any():
        return float("inf")
    both = (fpr > 0) & (fnr > 0)
    return max(0.0, float(_ratio(fpr[both], fnr[both], delta).max(initial=0.0)))


def _bounded(u: np.ndarray, r: np.ndarray, delta: float, confidence: float) -> np.ndarray:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}.")
    # Two rates of each threshold at a retrained model's value, in two directions; the interval is two-sided.
    each = 1 - 2 * (1 - confidence) / (4 * len(r))
    best = np.zeros(u.shape[1])
    for ours, theirs in ((u, r), (-u, -r)):
        for threshold in theirs:
            false_positives, missed = (theirs > threshold).sum(axis=0), (ours <= threshold).sum(axis=0)
            fpr = clopper_pearson(false_positives, np.array(len(theirs)), each)[1]
            fnr = clopper_pearson(missed, np.array(len(ours)), each)[1]
            best = np.maximum(best, _ratio(fpr, fnr, delta))
    return best


def forgetting_scores(epsilons: np.ndarray) -> np.ndarray:
    """The competition's score of each sample, ``H = 2 / 2ⁿ`` with n = 1, 2, … the bin of its ε, of width ½.

    Args:
        epsilons: shape (samples,), 0 or above, or infinite.

    Returns:
        float64, shape (samples,): 1 for an ε below ½, halved with every bin, down to 2⁻¹² from 6 on.

    Raises:
        ValueError: for negative numbers or NaN.
    """
    epsilons = np.asarray(epsilons, dtype=np.float64)
    if not (epsilons >= 0).all():
        raise ValueError("ε must be 0 or above.")
    return 2.0 / 2.0 ** (1 + np.minimum(np.floor(epsilons / WIDTH), BINS - 1))


@dataclass(frozen=True)
class Epsilon:
    """ε over a set of samples.

    Attributes:
        forgetting_quality: mean of H over the samples, 1 at best.
        median: of the samples' ε; None where it is infinite.
        share_infinite: of samples that some attack gets right for every model.
        matched_quality: forgetting quality at the floor's number of models, to hold against the floor.
        matched_median: median ε at that number; None where it is infinite.
        floor_quality: forgetting quality of one half of the retrained models against the other: the best attack of
            many always finds something, and in a small pool much.
        floor_median: median ε of the same.
        floor_models: models on each side of the floor.
        bounded_median: of the samples' lower bounds.
        bounded_percentile_95: of the same.
        largest_bounded: what the bound reads of sides that are wholly apart: the most that so many models can show.
        delta: as given.
        confidence: of the bounds.
        samples: number of samples.
        unlearned_models: models in all.
        retrained_models: models in all.
        values: of each sample, shape (samples,).
        bounded: the lower bound of each, shape (samples,).
        reason: why there are no figures.
    """

    forgetting_quality: float | None
    median: float | None
    share_infinite: float | None
    matched_quality: float | None
    matched_median: float | None
    floor_quality: float | None
    floor_median: float | None
    floor_models: int
    bounded_median: float | None
    bounded_percentile_95: float | None
    largest_bounded: float | None
    delta: float
    confidence: float
    samples: int
    unlearned_models: int
    retrained_models: int
    values: np.ndarray
    bounded: np.ndarray
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All but the two arrays."""
        return {name: value for name, value in asdict(self).items() if name not in ("values", "bounded")}


def epsilon(
    unlearned: np.ndarray, retrained: np.ndarray, *, delta: float = 0.0, confidence: float = 0.95, seed: int = 0
) -> Epsilon:
    """ε of every sample, the competition's score of them, and what of it the size of the pool can prove.

    Args:
        unlearned: as in `sample_epsilons`.
        retrained: as there.
        delta: as there.
        confidence: of the bounds.
        seed: of the halves of the floor.

    Returns:
        the figures; none where a side has fewer than four models.

    Raises:
        ValueError: as there.
    """
    u, r = check_pools(unlearned, retrained)
    counts: dict[str, Any] = {"samples": u.shape[1], "unlearned_models": len(u), "retrained_models": len(r)}
    counts |= {"delta": delta, "confidence": confidence}
    if min(len(u), len(r)) < FEWEST_MODELS:
        reason = f"ε needs {FEWEST_MODELS} models of each side; there are {len(u)} unlearned and {len(r)} retrained."
        figures = {each.name for each in fields(Epsilon)} - {*counts, "floor_models", "values", "bounded", "reason"}
        none: dict[str, Any] = dict.fromkeys(figures)
        return Epsilon(**none, floor_models=0, **counts, values=np.empty(0), bounded=np.empty(0), reason=reason)
    values = sample_epsilons(u, r, delta=delta)
    bounded = sample_epsilons(u, r, delta=delta, confidence=confidence)
    apart = sample_epsilons(np.ones((len(u), 1)), np.zeros((len(r), 1)), delta=delta, confidence=confidence)
    middle, high = np.percentile(bounded, [50, 95])
    rows, others, half = floor_halves(len(u), len(r), seed)
    floor, matched = (sample_epsilons(x, r[others[half:]], delta=delta) for x in (r[others[:half]], u[rows]))
    return Epsilon(
        forgetting_quality=float(forgetting_scores(values).mean()),
        median=_finite_median(values),
        share_infinite=float(np.isinf(values).mean()),
        matched_quality=float(forgetting_scores(matched).mean()),
        matched_median=_finite_median(matched),
        floor_quality=float(forgetting_scores(floor).mean()),
        floor_median=_finite_median(floor),
        floor_models=half,
        bounded_median=float(middle),
        bounded_percentile_95=float(high),
        largest_bounded=float(apart[0]),
        **counts,
        values=values,
        bounded=bounded,
    )


def _finite_median(values: np.ndarray) -> float | None:
    # Of an even number, the middle may lie between a number and infinity.
    middle = float(np.median(values))
    return middle if np.isfinite(middle) else None
