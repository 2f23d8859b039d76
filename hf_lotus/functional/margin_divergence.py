"""KLOM: how far the unlearned models' margins of each sample are from the retrained models' (NumPy, SciPy).

Georgiev, Rinberg, Park et al., "Attribute-to-Delete" (arXiv:2410.23232). Of each sample there are two sets of
margins, ``log(p_y / (1 − p_y))``: one over models that were trained and then unlearned, and one over models that were
retrained. Their histograms' divergence ``KL(unlearned ‖ retrained)`` is the sample's KLOM; what is reported is its
95th percentile over the samples.

The binning is that of the authors' code: margins clipped to ±100, 20 bins of equal width between the smallest and the
largest margin of both sides together, and no bin of the retrained side below 1e-5. Where the histograms are disjoint a
sample so reads ln 1e5 = 11.5 and no more. A small pool fills few bins, and equal models read far above 0: read every
figure beside the floor, which is retrained models against other retrained models, as many on each side.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import rel_entr

from .intervals import Estimate
from .pools import check_pools, floor_halves

BINS, CLIP, EPSILON = 20, 100.0, 1e-5
# With fewer models a side there is no histogram to speak of, and no half of them for the floor.
FEWEST_MODELS = 4


def klom_values(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    bins: int = BINS,
    clip: float = CLIP,
    epsilon: float = EPSILON,
) -> np.ndarray:
    """``KL(unlearned ‖ retrained)`` of each sample's margins, in nats.

    Args:
        unlearned: margins under the unlearned models, shape (models, samples), two models or more.
        retrained: margins under the retrained models, shape (others, samples), two models or more.
        bins: of a histogram.
        clip: margins beyond ±clip count as ±clip.
        epsilon: the least that a bin of the retrained side holds, as a share; the histogram is normalised again.

    Returns:
        float64, shape (samples,), from 0 to about ``−ln epsilon``.

    Raises:
        ValueError: for other shapes, fewer models, margins that are not finite, or settings that make no histogram.
    """
    p, q = check_pools(unlearned, retrained, fewest=2)
    if bins < 2 or not clip > 0 or not 0 < epsilon < 1:
        raise ValueError(
            f"bins must be 2 or more, clip above 0, and epsilon between 0 and 1; got {bins}, {clip}, {epsilon}."
        )
    p, q = np.clip(p, -clip, clip), np.clip(q, -clip, clip)
    low = np.minimum(p.min(axis=0), q.min(axis=0))
    width = np.maximum(p.max(axis=0), q.max(axis=0)) - low
    # All margins equal: one bin holds both sides.
    width[width == 0] = 1.0

    def histogram(values: np.ndarray) -> np.ndarray:
        place = np.minimum(((values - low) / width * bins).astype(np.int64), bins - 1)
        samples = values.shape[1]
        flat = np.bincount((place + bins * np.arange(samples)).ravel(), minlength=bins * samples)
        return flat.reshape(samples, bins) / len(values)

    against = np.maximum(histogram(q), epsilon)
    against /= against.sum(axis=1, keepdims=True)
    # Rounding can leave equal histograms a hair below zero.
    return np.maximum(rel_entr(histogram(p), against).sum(axis=1), 0.0)


@dataclass(frozen=True)
class Klom:
    """KLOM over a set of samples, beside its floor.

    Attributes:
        percentile_95: over the samples, in nats, with a bootstrap interval over the samples.
        median: the same.
        mean: the same.
        matched_percentile_95: the unlearned models' figure at the floor's number of models, to hold against the floor.
        matched_median: the same.
        matched_mean: the same.
        floor_percentile_95: one half of the retrained models against the other: what cannot be told from retraining.
        floor_median: the same.
        floor_mean: the same.
        floor_models: models on each side of the floor and of the matched figures.
        unlearned_models: models in all.
        retrained_models: models in all.
        samples: number of samples.
        values: of each sample, shape (samples,).
        reason: why there are no figures.
    """

    percentile_95: Estimate
    median: Estimate
    mean: Estimate
    matched_percentile_95: float | None
    matched_median: float | None
    matched_mean: float | None
    floor_percentile_95: float | None
    floor_median: float | None
    floor_mean: float | None
    floor_models: int
    unlearned_models: int
    retrained_models: int
    samples: int
    values: np.ndarray
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All but the values."""
        return {name: value for name, value in asdict(self).items() if name != "values"}


def klom(
    unlearned: np.ndarray,
    retrained: np.ndarray,
    *,
    bins: int = BINS,
    clip: float = CLIP,
    epsilon: float = EPSILON,
    resamples: int = 1000,
    seed: int = 0,
) -> Klom:
    """KLOM of every sample, summed up, with what retrained models read against each other.

    The floor takes one random half of the retrained models for the unlearned side and the other for the retrained one.
    The histogram's divergence depends on the numbers of models, so the unlearned models are measured once more with as
    many of them, against the same half: the `matched` figures.

    Args:
        unlearned: margins, shape (models, samples).
        retrained: margins, shape (others, samples).
        bins: as in `klom_values`.
        clip: as there.
        epsilon: as there.
        resamples: of the bootstrap over samples.
        seed: of the halves and of the bootstrap.

    Returns:
        the figures; none where a side has fewer than four models.

    Raises:
        ValueError: as there, but for the number of models; or without resamples.
    """
    p, q = check_pools(unlearned, retrained)
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}.")
    counts: dict[str, Any] = {"unlearned_models": len(p), "retrained_models": len(q), "samples": p.shape[1]}
    if min(len(p), len(q)) < FEWEST_MODELS:
        reason = f"KLOM needs {FEWEST_MODELS} models of each side; there are {len(p)} unlearned, {len(q)} retrained."
        none = Estimate.without(p.shape[1], reason)
        beside: dict[str, Any] = {f"{kind}_{name}": None for kind in ("matched", "floor") for name in _NAMES}
        return Klom(none, none, none, **beside, floor_models=0, **counts, values=np.empty(0), reason=reason)
    rng = np.random.default_rng(seed)
    settings: dict[str, Any] = {"bins": bins, "clip": clip, "epsilon": epsilon}
    values = klom_values(p, q, **settings)
    rows, others, half = floor_halves(len(p), len(q), seed)
    floor, matched = (klom_values(x, q[others[half:]], **settings) for x in (q[others[:half]], p[rows]))
    drawn = [list(_figures(values[rng.integers(len(values), size=len(values))]).values()) for _ in range(resamples)]
    estimates: dict[str, Any] = {
        name: Estimate.of_resamples(value, column, len(values), 0.95)
        for (name, value), column in zip(_figures(values).items(), np.array(drawn).T, strict=True)
    }
    beside = {
        f"{kind}_{name}": value
        for kind, of_samples in (("matched", matched), ("floor", floor))
        for name, value in _figures(of_samples).items()
    }
    return Klom(**estimates, **beside, floor_models=half, **counts, values=values)


_NAMES = ("percentile_95", "median", "mean")


def _figures(values: np.ndarray) -> dict[str, float]:
    high, middle = np.percentile(values, [95, 50])
    return dict(zip(_NAMES, (float(high), float(middle), float(values.mean())), strict=True))
