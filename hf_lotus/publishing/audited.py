"""What of an audit is published with a model: a block that results and record repeat, and what must agree with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_lotus.evaluation.findings import AUDIT, AuditReport
from hf_lotus.publishing.digests import file_digest


def audit_block(folder: str | Path, report: AuditReport) -> dict[str, Any]:
    """What results and record repeat of an audit whose document is in a folder: JSON values."""
    return {
        "document": AUDIT,
        "sha256": file_digest(Path(folder) / AUDIT),
        "level": report.level,
        "in_words": report.in_words(),
        "tiers": report.figures(),
    }


def audit_problems(folder: str | Path, block: Mapping[str, Any] | None) -> list[str] | None:
    """What is wrong with the audit in a folder, by the block of the folder's record.

    Args:
        folder: of the model.
        block: the record's, or None where it tells of no audit.

    Returns:
        sentences, none where all agrees; None where there is no audit at all.
    """
    path = Path(folder) / AUDIT
    if not path.is_file():
        return None if block is None else [f"there is no {AUDIT}"]
    if block is None:
        return [f"the record tells of none: {AUDIT} is of other weights, or was put here"]
    try:
        found = audit_block(folder, AuditReport.from_json(path))
    except (OSError, ValueError) as error:
        return [str(error)]
    differing = sorted(tier for tier in found["tiers"] if found["tiers"][tier] != block["tiers"].get(tier))
    wrong = [f"{', '.join(differing)} differ"] if differing else []
    if found["sha256"] != block["sha256"]:
        wrong.append("the document is another")
    if {**found, **{"sha256": "", "tiers": ""}} != {**block, **{"sha256": "", "tiers": ""}}:
        wrong.append("its words or its level are others")
    return wrong
