"""Tier 4, RMIA: is the model surer of forgotten than of unseen samples, beyond what reference models make of them?

Zarifzadeh, Liu and Shokri (ICML 2024, arXiv:2312.03262), in its offline form: the references never saw D_f.
"""

from __future__ import annotations

from hf_lotus.audit.evidence import FORGET, UNSEEN, Evidence
from hf_lotus.audit.matching import in_the_same_shares
from hf_lotus.audit.verdicts import concluded
from hf_lotus.evaluation.findings import CANNOT_TELL, Finding, Reading, not_measured
from hf_lotus.functional.likelihood_ratios import rmia

TIER = "rmia"
FEWEST = 40
RULE = (
    "Accuse where the 95 % interval of the attack's AUC on forget against unseen samples lies above 0.5. Reference "
    "models never saw either. Half of the unseen samples are the population that ratios are taken over, half the "
    "non-members."
)


def rmia_tier(evidence: Evidence) -> Finding:
    """The attack's AUC, and its true positive rates at 0.1 % and 1 % false ones, on every model."""
    if reason := evidence.missing.get(TIER) or evidence.no_counterpart:
        return not_measured(TIER, reason, RULE)
    if evidence.references is None:
        reason = "It needs models that never saw the forget set: give --reference_models, --retrain_model or --pool."
        return not_measured(TIER, reason, RULE)
    counts = {split: len(evidence.labels[split]) for split in (FORGET, UNSEEN)}
    readings = [_reading(evidence, row) for row in evidence.rows]
    own = readings[0]
    if own.value is None:
        return Finding(TIER, None if own.more.get("references") == 0 else CANNOT_TELL, own.reason, RULE, None, counts)
    counts["references"] = int(own.more["references"])
    return concluded(TIER, RULE, readings, counts[FORGET], counts)


def _reading(evidence: Evidence, row: str) -> Reading:
    assert evidence.references is not None
    references = evidence.references.without(evidence.digests.get(row, ""))
    if references is None:
        reason = "The only reference model is this model itself: give another that never saw the forget set."
        return Reading(row, reason=reason, more={"references": 0})
    forget, unseen = in_the_same_shares(evidence.labels[FORGET], evidence.labels[UNSEEN], evidence.seed)
    more: dict[str, object] = {"references": len(references.forget), "forget": len(forget), "unseen": len(unseen)}
    if min(len(forget), len(unseen) // 2) < FEWEST:
        reason = (
            f"It takes {FEWEST} forget and {2 * FEWEST} unseen samples with their classes in the same shares; there "
            f"are {len(forget)} and {len(unseen)}."
        )
        return Reading(row, reason=reason, more=more)
    found = rmia(
        evidence.outputs[row][FORGET].probability[forget],
        references.forget[:, forget],
        evidence.outputs[row][UNSEEN].probability[unseen],
        references.unseen[:, unseen],
        trained_on=None if references.trained_on is None else references.trained_on[:, forget],
        seed=evidence.seed,
    )
    auc = found.figures.auc
    more["population"] = found.population
    more |= {f"tpr_at_{rate}_fpr": estimate.to_dict() for rate, estimate in found.figures.tpr.items()}
    if auc.value is None or auc.low is None or auc.high is None:
        return Reading(row, reason=auc.reason or "", more=more)
    return Reading(row, auc.value, (auc.low, auc.high), accused=auc.low > 0.5, more=more)
