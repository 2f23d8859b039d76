"""Tier 1, relearning: after one round on retained data alone, what has come back?"""

from __future__ import annotations

from hf_lotus.audit.evidence import Evidence
from hf_lotus.audit.verdicts import concluded
from hf_lotus.evaluation.findings import CANNOT_TELL, Finding, Reading, not_measured
from hf_lotus.functional.relearning import RelearningFigures, relearning_figures
from hf_lotus.trainer.relearning import Outcome

TIER = "relearning_excess"
# Samples of D_f and of D_u under which a share says little.
FEWEST = 30
RULE = (
    "Accuse where the 95 % interval of the relearning excess, or of the gap after the round, lies above 0. The excess "
    "is (rise of accuracy on the forget set) - (rise on unseen data, classes weighted alike) over one round on the "
    "retain set alone; the gap is accuracy on the forget set minus that on unseen data after it. Both are 0 on "
    "average for a model that never saw the samples."
)


def relearning_tier(evidence: Evidence) -> Finding:
    """What every model got back; bootstrap over samples, so each of two intervals errs to this side in 2.5 %."""
    if reason := evidence.missing.get(TIER) or evidence.no_counterpart:
        return not_measured(TIER, reason, RULE)
    outcomes = evidence.relearned
    if not outcomes:
        return not_measured(TIER, "It trains the model on, so it needs the model itself and the retain set.", RULE)
    own = outcomes[evidence.name]
    n = {"forget": len(own.forget_labels), "unseen": len(own.unseen_labels)}
    if min(n.values()) < FEWEST:
        reason = f"It takes {FEWEST} forget and {FEWEST} unseen samples; there are {n['forget']} and {n['unseen']}."
        return Finding(TIER, CANNOT_TELL, reason, RULE, n["forget"], n)
    readings = [_reading(row, outcome, evidence.seed) for row, outcome in outcomes.items()]
    return concluded(TIER, RULE, readings, n["forget"], n)


def _reading(row: str, outcome: Outcome, seed: int) -> Reading:
    found: RelearningFigures = relearning_figures(*outcome, seed=seed)
    return Reading(
        row,
        found.excess,
        found.excess_interval,
        accused=found.excess_interval[0] > 0 or found.gap_interval[0] > 0,
        more={
            "gap_after": found.gap,
            "gap_after_interval": list(found.gap_interval),
            "forget_accuracy_before": found.forget[0],
            "forget_accuracy_after": found.forget[1],
            "unseen_accuracy_before": found.unseen[0],
            "unseen_accuracy_after": found.unseen[1],
        },
    )
