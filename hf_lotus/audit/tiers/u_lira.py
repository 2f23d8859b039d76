"""Tier 5, U-LiRA: sample by sample, does the model answer as unlearned or as retrained models do?

Hayes et al. (arXiv:2403.01218). With many models unlearned alike it is the published attack. With one audited model
and a pool of originals and retrained models it is asked whether the model answers as the originals do; how often an
honestly retrained one does by chance is seen on the pool's own, each left out in turn.
"""

from __future__ import annotations

import numpy as np

from hf_lotus.audit.evidence import FORGET, Evidence
from hf_lotus.audit.tiers import ensembles
from hf_lotus.audit.verdicts import concluded
from hf_lotus.evaluation.findings import CANNOT_TELL, LEVEL, Finding, Reading
from hf_lotus.functional.intervals import rate
from hf_lotus.functional.three_samples import rank_p_value
from hf_lotus.functional.u_lira import log_likelihood_ratio, u_lira, u_lira_accuracy

TIER = "u_lira"
# Retrained models without which no rank among them reaches the level.
FEWEST_TO_RANK = 19
RULE = (
    "Accuse where p is at most 0.05 that the attack's accuracy is no larger than between models made alike. It takes "
    f"each sample's Gaussians of log(p/(1-p)), each model left out in turn. {ensembles.EXCHANGED}"
)
RULE_OF_ONE = (
    "Accuse where p is at most 0.05 that the share of forget samples that the model answers as the pool's originals "
    "do, rather than as its retrained models, is no larger than of a retrained model: its rank among the pool's own, "
    "each left out in turn."
)


def u_lira_tier(evidence: Evidence) -> Finding:
    """Many unlearned models where there are any, else the one model against the pool."""
    pool = evidence.originals is not None and evidence.retrained is not None
    if evidence.unlearned is None and pool:
        return _of_one(evidence)
    return ensembles.asked(TIER, RULE, evidence, _reading)


def _reading(row: str, unlearned: np.ndarray, retrained: np.ndarray, seed: int) -> Reading:
    found = u_lira(unlearned, retrained, seed=seed)
    return ensembles.exchanged(row, found.accuracy, u_lira_accuracy, unlearned, retrained, seed, found.to_dict())


def _of_one(evidence: Evidence) -> Finding:
    assert evidence.originals is not None and evidence.retrained is not None
    originals, retrained = evidence.originals.confidence, evidence.retrained.confidence
    counts = {
        "original_models": len(originals),
        "retrained_models": len(retrained),
        "forget": len(evidence.labels[FORGET]),
    }
    if len(retrained) < FEWEST_TO_RANK or len(originals) < ensembles.FEWEST:
        reason = (
            f"One model is ranked among the pool's retrained ones: it takes {FEWEST_TO_RANK} of them and "
            f"{ensembles.FEWEST} originals, and the pool has {len(retrained)} and {len(originals)}."
        )
        return Finding(TIER, CANNOT_TELL, reason, RULE_OF_ONE, len(retrained), counts)
    null = np.array([
        _share(retrained[k], originals, np.delete(retrained, k, axis=0)) for k in range(len(retrained))
    ])  # fmt: skip
    readings = []
    for row in evidence.rows:
        share = _share(evidence.confidence(row), originals, retrained)
        found = rate(round(share * counts["forget"]), counts["forget"])
        p_value = rank_p_value(share, null)
        assert found.low is not None and found.high is not None
        more = {"share_of_retrained_mean": float(null.mean()), "share_of_retrained_largest": float(null.max())}
        readings.append(Reading(row, share, (found.low, found.high), p_value, p_value <= LEVEL, more=more))
    return concluded(TIER, RULE_OF_ONE, readings, len(retrained), counts)


def _share(observed: np.ndarray, originals: np.ndarray, retrained: np.ndarray) -> float:
    """Share of samples that a model answers as the originals do."""
    return float((log_likelihood_ratio(observed, originals, retrained) > 0).mean())
