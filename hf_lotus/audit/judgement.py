"""From the evidence to the report: every tier in the order of cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tqdm.auto import tqdm

from hf_lotus.audit.evidence import Evidence
from hf_lotus.audit.tiers import MEASURES
from hf_lotus.evaluation.findings import FOUND, LEVEL, TIERS, AuditReport

PREMISE = (
    "That a model which never saw the samples is accused in 5 % of audits, and not more, rests on forgotten and "
    "unseen samples being alike but for that: the same source, and forgotten ones not chosen by what a model makes of "
    "them."
)


def judge(
    evidence: Evidence,
    asked: Mapping[str, Any],
    weights: str | None,
    notes: Sequence[str] = (),
    provenance: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> AuditReport:
    """Ask every tier.

    Args:
        evidence: what they look at.
        asked: what was asked, JSON values.
        weights: digest of the audited model's, or None.
        notes: what a reader must know beside what this adds.
        provenance: versions, hardware and command, JSON values.
        progress: whether to show a bar.
    """
    findings = []
    with tqdm(MEASURES.items(), desc="Judging", unit="test", leave=False, disable=not progress) as bar:
        for tier, measure in bar:
            bar.set_description(f"Judging: {TIERS[tier]}")
            findings.append(measure(evidence))
    told = [*notes, PREMISE]
    measured = sum(finding.verdict is not None for finding in findings)
    if measured > 1:
        chance = min(1.0, measured * LEVEL)
        told.append(
            f"{measured} tests of 5 % each: the chance that at least one of them accuses a model that was honestly "
            f"retrained is up to {chance:.0%}. One accusation alone, close to its bound, is a reason to look again."
        )
    if any(finding.verdict == FOUND for finding in findings):
        told.append("An accusation says that the model as a whole is not as a retrained one; it names no sample.")
    return AuditReport(evidence.name, tuple(findings), asked, weights, LEVEL, tuple(told), provenance or {})
