"""Tier 5, KLOM: how far do the margins of unlearned models lie from those of retrained ones, sample by sample?

Georgiev et al. (arXiv:2410.23232), appendix E.1: the divergence of the histograms of margins over many models, and its
95th percentile over the samples.
"""

from __future__ import annotations

import numpy as np

from hf_lotus.audit.evidence import Evidence
from hf_lotus.audit.tiers import ensembles
from hf_lotus.evaluation.findings import Finding, Reading
from hf_lotus.functional.margin_divergence import klom, klom_values

TIER = "klom"
RULE = (
    "Accuse where p is at most 0.05 that the 95th percentile of KLOM over the forget samples is no larger than "
    f"between models made alike. {ensembles.EXCHANGED}"
)


def klom_tier(evidence: Evidence) -> Finding:
    """The 95th percentile, its floor, and whether it is above it."""
    return ensembles.asked(TIER, RULE, evidence, _reading)


def _reading(row: str, unlearned: np.ndarray, retrained: np.ndarray, seed: int) -> Reading:
    found = klom(unlearned, retrained, seed=seed)
    more = {key: value for key, value in found.to_dict().items() if key != "percentile_95"}
    return ensembles.exchanged(row, found.percentile_95, _percentile, unlearned, retrained, seed, more)


def _percentile(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    return float(np.percentile(klom_values(unlearned, retrained), 95))
