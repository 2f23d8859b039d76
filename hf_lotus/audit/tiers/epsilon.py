"""Tier 6, ε: how well can anybody tell, by one sample's margin, an unlearned model from a retrained one?

The measure of the NeurIPS 2023 challenge (Triantafillou et al., arXiv:2406.09073): per sample, ε from the false
positive and false negative rates of the best threshold over many models.
"""

from __future__ import annotations

import numpy as np

from hf_lotus.audit.evidence import Evidence
from hf_lotus.audit.tiers import ensembles
from hf_lotus.evaluation.findings import Finding, Reading
from hf_lotus.functional.epsilon import epsilon
from hf_lotus.functional.intervals import Estimate

TIER = "epsilon"
RULE = (
    "Accuse where p is at most 0.05 that the advantage of the best threshold, averaged over the samples (the largest "
    "difference of its true and false positive rates), is no larger than between models made alike. The figure is the "
    "mean proven epsilon: what upper bounds of both error rates (Clopper-Pearson, 95 %) still give. "
    f"{ensembles.EXCHANGED}"
)


def epsilon_tier(evidence: Evidence) -> Finding:
    """The mean proven ε, with the challenge's own figures beside it."""
    return ensembles.asked(TIER, RULE, evidence, _reading)


def _reading(row: str, unlearned: np.ndarray, retrained: np.ndarray, seed: int) -> Reading:
    found = epsilon(unlearned, retrained)
    drawn = np.random.default_rng(seed).choice(found.bounded, (1000, len(found.bounded))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    proven = Estimate(float(found.bounded.mean()), float(low), float(high), len(found.bounded))
    return ensembles.exchanged(row, proven, mean_advantage, unlearned, retrained, seed, found.to_dict())


def mean_advantage(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    """How much better than guessing the best threshold tells the sides apart, averaged over the samples.

    The Kolmogorov-Smirnov distance of each sample's two sides.

    Args:
        unlearned: shape (models, samples).
        retrained: shape (others, samples).

    Returns:
        0 … 1.
    """
    values = np.concatenate([unlearned, retrained])
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    steps = np.where(order < len(unlearned), 1 / len(unlearned), -1 / len(retrained))
    apart = np.abs(np.cumsum(steps, axis=0))
    # Between equal values there is no threshold.
    apart[:-1][ordered[:-1] == ordered[1:]] = 0.0
    return float(apart.max(axis=0).mean())
