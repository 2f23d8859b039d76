"""Tier 3, the relative test: is the model's answer nearer to the retrained model's, or to the original's?

Ribero, Schrab and Gretton (AISTATS 2026, arXiv:2601.19755): a test of "the same as retrained" rejects honest
retraining too, as no two trainings are alike; what is asked is which of two it is nearer to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hf_lotus.audit.evidence import FORGET, UNSEEN, Evidence
from hf_lotus.audit.verdicts import concluded
from hf_lotus.evaluation.findings import CANNOT_TELL, LEVEL, Finding, Reading, not_measured
from hf_lotus.evaluation.results import ORIGINAL
from hf_lotus.functional.mmd import mmd2
from hf_lotus.functional.three_samples import RelativeTest, relative_test, relative_test_unseen

# Of larger sets so many samples are drawn: the test takes their square in time.
MOST = 10_000
BY_RETRAINED, BY_UNSEEN = "relative_test", "relative_test_unseen"
RULE = (
    "Accuse where p is at most 0.05 that the model's outputs on the forget set are as near, in maximum mean "
    "discrepancy, to the retrained model's as to the original's. Between two retrained models that lie apart, that "
    "distance is allowed. Where the same holds on unseen data, by as much, it cannot tell: the model is near the one "
    "it was made from on any data."
)
RULE_UNSEEN = (
    "Accuse where p is at most 0.05 that the model's outputs on the forget set are as near, in maximum mean "
    "discrepancy, to the original's on unseen data of the same classes as to the original's on the forget set."
)


def relative_tier(evidence: Evidence) -> Finding:
    """Nearer to the retrained model's outputs on D_f, or to the original's?"""
    retrained = evidence.retrained_rows
    if not retrained:
        return not_measured(BY_RETRAINED, "It compares with a retrained model: give --retrain_model.", RULE)
    if not evidence.has_original:
        return not_measured(BY_RETRAINED, "It compares with the original model, and its outputs are not given.", RULE)
    readings = [_by_retrained(evidence, row) for row in evidence.rows]
    counts = {"forget": len(evidence.labels[FORGET]), "retrained_models": len(retrained)}
    return _concluded(BY_RETRAINED, RULE, readings, counts)


def relative_unseen_tier(evidence: Evidence) -> Finding:
    """Nearer to what the original says of unseen data, or to what it says of D_f? No retrained model is needed."""
    if reason := evidence.no_counterpart:
        return not_measured(BY_UNSEEN, reason, RULE_UNSEEN)
    if not evidence.has_original:
        reason = "It compares with the original model, and its outputs are not given."
        return not_measured(BY_UNSEEN, reason, RULE_UNSEEN)
    readings = []
    rows = {split: _drawn(evidence, split) for split in (FORGET, UNSEEN)}
    for row in evidence.rows:
        found = relative_test_unseen(
            evidence.confidence(row)[rows[FORGET]],
            evidence.confidence(ORIGINAL)[rows[FORGET]],
            evidence.labels[FORGET][rows[FORGET]],
            evidence.confidence(ORIGINAL, UNSEEN)[rows[UNSEEN]],
            evidence.labels[UNSEEN][rows[UNSEEN]],
            seed=evidence.seed,
        )
        readings.append(_reading(row, found))
    counts = {split: len(evidence.labels[split]) for split in (FORGET, UNSEEN)}
    return _concluded(BY_UNSEEN, RULE_UNSEEN, readings, counts)


def _by_retrained(evidence: Evidence, row: str) -> Reading:
    """A model against the original and a retrained one that is not itself."""
    own = evidence.digests.get(row)
    others = [r for r in evidence.retrained_rows if r != row and (own is None or evidence.digests.get(r) != own)]
    if not others and row == evidence.name:
        others = evidence.retrained_rows  # it is that model itself, at no distance; the report's notes say so
    if not others:
        return Reading(row, reason="It takes another retrained model to hold this one against.")
    found = _tested(evidence, row, others, FORGET)
    reading = _reading(row, found)
    if evidence.no_counterpart:
        return reading
    unseen = _tested(evidence, row, others, UNSEEN)
    there = _interval(unseen)
    if unseen.p_value is None or there is None:
        return reading
    more = {**reading.more, "on_unseen": unseen.statistic, "on_unseen_interval": list(there),
            "on_unseen_p_value": unseen.p_value}  # fmt: skip
    alike = reading.interval is not None and reading.interval[0] <= there[1]
    if reading.accused and unseen.p_value <= LEVEL and alike:
        reason = (
            "It is as much nearer to the original on data that neither was trained on: it was made from the original, "
            "and that alone can be why."
        )
        return replace(reading, accused=None, reason=reason, more=more)
    return replace(reading, more=more)


def _tested(evidence: Evidence, row: str, others: Sequence[str], split: str) -> RelativeTest:
    """The test on one set; what two other retrained models lie apart is not held against this one."""
    rows = _drawn(evidence, split)
    given = [evidence.confidence(name, split)[rows] for name in (row, ORIGINAL, *others[:2])]
    found = relative_test(*given[:3], seed=evidence.seed)
    if found.bandwidth and len(given) > 3:
        apart = mmd2(given[2], given[3], found.bandwidth)
        found = found.allowing(max(apart, 0.0))
    return found


def _drawn(evidence: Evidence, split: str) -> np.ndarray:
    """The rows of a set that the test is made on."""
    rows = np.random.default_rng(evidence.seed).permutation(len(evidence.labels[split]))
    return np.sort(rows[:MOST])


def _interval(found: RelativeTest) -> tuple[float, float] | None:
    if found.statistic is None or found.standard_error is None:
        return None
    half = 1.96 * found.standard_error
    return found.statistic - half, found.statistic + half


def _reading(row: str, found: RelativeTest) -> Reading:
    more = {
        "mmd2_original": found.mmd2_original,
        "mmd2_reference": found.mmd2_reference,
        "references_p_value": found.references_p_value,
        "tolerance": found.tolerance,
        "n": found.n,
        "left_out": found.left_out,
    }
    if found.p_value is None or found.statistic is None:
        return Reading(row, reason=found.reason or "", more=more)
    accused: bool | None = found.p_value <= LEVEL
    reason = ""
    if not accused and found.references_p_value is not None and found.references_p_value > LEVEL:
        accused = None
        reason = (
            "What the original says of the forget set cannot be told from what it is held against: there is nothing "
            "to be nearer to."
        )
    return Reading(row, found.statistic, _interval(found), found.p_value, accused, reason, more)


def _concluded(tier: str, rule: str, readings: Sequence[Reading], counts: dict[str, int]) -> Finding:
    own = readings[0]
    n = int(own.more.get("n") or counts["forget"])
    if own.value is None:
        return Finding(tier, CANNOT_TELL if own.more else None, own.reason, rule, n, counts)
    return concluded(tier, rule, readings, n, counts)
