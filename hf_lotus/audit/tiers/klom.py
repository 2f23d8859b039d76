"""Tier 5, KLOM: how far do the margins of unlearned models lie from those of retrained ones, sample by sample?

Georgiev et al. (arXiv:2410.23232), appendix E.1: the divergence of the histograms of margins over many models, and its
95th percentile over the samples.
"""

from __future__ import annotations

import numpy as np

from hf_lotus.audit.evidence import Evidence
from hf_lotus.audit.tiers import ensembles
from hf_lotus.audit.verdicts import concluded
from hf_lotus.evaluation.findings import CANNOT_TELL, LEVEL, Finding, Reading
from hf_lotus.functional.margin_divergence import klom, klom_values

TIER = "klom"
RULE = (
    "Accuse where p is at most 0.05 that the 95th percentile of KLOM over the forget samples is no larger than "
    f"between models made alike. {ensembles.EXCHANGED}"
)


def klom_tier(evidence: Evidence) -> Finding:
    """The 95th percentile, its floor, and whether it is above it."""
    if (left_out := ensembles.lacking(TIER, RULE, evidence)) is not None:
        return left_out
    readings = [_reading(row, sides, evidence.seed) for row, *sides in ensembles.rows(evidence)]
    counts = ensembles.counts(evidence)
    n = min(counts["unlearned_models"], counts["retrained_models"])
    if readings[0].value is None:
        return Finding(TIER, CANNOT_TELL, readings[0].reason, RULE, n, counts)
    return concluded(TIER, RULE, readings, n, counts)


def _reading(row: str, sides: list[np.ndarray], seed: int) -> Reading:
    if reason := ensembles.enough(*sides):
        return Reading(row, reason=reason)
    found = klom(*sides, seed=seed)
    own = found.percentile_95
    if own.value is None or own.low is None or own.high is None:
        return Reading(row, reason=found.reason or own.reason or "")
    p_value = ensembles.exchanged(_percentile, row, (sides[0], sides[1]), seed)
    more = {key: value for key, value in found.to_dict().items() if key != "percentile_95"}
    return Reading(row, own.value, (own.low, own.high), p_value, p_value <= LEVEL, more=more)


def _percentile(unlearned: np.ndarray, retrained: np.ndarray) -> float:
    return float(np.percentile(klom_values(unlearned, retrained), 95))
