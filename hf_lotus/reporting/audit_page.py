"""The page of an audit: what was asked, tried and found, in words, with one figure a test; self-contained HTML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from hf_lotus.evaluation.findings import AUDIT, CANNOT_TELL, FOUND, NOTHING, TIERS, AuditReport, Finding, Reading
from hf_lotus.evaluation.results import ORIGINAL, RETRAIN, is_retrained_row
from hf_lotus.reporting.audit_texts import Words, name_of, not_shown, words_of
from hf_lotus.reporting.html import rendered
from hf_lotus.reporting.svg import dots
from hf_lotus.utils.files import write_whole

# Verdict → (what the page says, how the mark looks); a tier that was not measured has none.
_MARKS = {
    FOUND: ("Found: not forgotten", "found", "✕"),
    NOTHING: ("Nothing found", "nothing", "○"),
    CANNOT_TELL: ("Cannot tell", "unsure", "?"),
    None: ("Not made", "left-out", "–"),
}


def write_audit_page(path: str | Path, report: AuditReport) -> None:
    """Write the page; the file appears whole or not at all. It needs no network, and names in it stay text."""
    kind = report.asked.get("kind")
    tests = [_test(finding, report.name, kind) for finding in report.findings]
    page = rendered(
        "audit.html",
        name=report.name,
        in_words=report.in_words(),
        worst=_MARKS[_worst(report)],
        asked=_asked(report),
        tests=[test for test in tests if test["verdict"] is not None],
        left_out=[test for test in tests if test["verdict"] is None],
        notes=list(report.notes),
        not_shown=not_shown(kind),
        level=f"{report.level:.0%}",
        facts=_facts(report),
        document=AUDIT,
    )
    write_whole(path, page)


def _worst(report: AuditReport) -> str | None:
    verdicts = {finding.verdict for finding in report.findings}
    return next((verdict for verdict in (FOUND, CANNOT_TELL, NOTHING) if verdict in verdicts), None)


def _test(finding: Finding, name: str, kind: str | None) -> dict[str, Any]:
    words, (verdict, look, mark) = words_of(finding.tier, kind), _MARKS[finding.verdict]
    read = [reading for reading in finding.readings if reading.value is not None]
    return {
        "title": TIERS[finding.tier],
        "verdict": finding.verdict,
        "shown": verdict,
        "kind": look,
        "mark": mark,
        "words": words,
        "reason": finding.reason,
        "rule": finding.rule,
        "found": _sentence(finding),
        "besides": _besides(finding, kind),
        "figure": Markup(_figure(finding, words, read)) if read else "",
        "header": ["model", "figure", "95 % interval", "p", "rule"],
        "rows": [_row(reading) for reading in finding.readings],
        "counts": [(what.replace("_", " "), count) for what, count in finding.counts.items()],
        "is_own": [reading.model == name for reading in finding.readings],
    }


def _figure(finding: Finding, words: Words, read: list[Reading]) -> str:
    values = [
        (reading.model, reading.value, reading.interval, _kind(reading.model))
        for reading in read
        if reading.value is not None
    ]
    return dots(values, f"{TIERS[finding.tier]}: {words.axis}", words.axis, words.reference)


def _kind(row: str) -> str:
    return RETRAIN if is_retrained_row(row) else row if row == ORIGINAL else "method"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return (f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}").replace("-", "−")


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _row(reading: Reading) -> list[str]:
    interval = "–" if reading.interval is None else " to ".join(map(_number, reading.interval))
    rule = {True: "accused", False: "not accused", None: "cannot tell"}[reading.accused]
    return [reading.model, _number(reading.value), interval, _p(reading.p_value), rule]


def _sentence(finding: Finding) -> str:
    """What was found, with the numbers."""
    own = finding.audited
    if own is None or own.value is None:
        return ""
    said = f"It reads {_number(own.value)}"
    if own.interval is not None:
        said += f", between {_number(own.interval[0])} and {_number(own.interval[1])} with 95 % confidence"
    if own.p_value is not None:
        said += f"; p = {_p(own.p_value)}" if own.p_value >= 0.001 else "; p below 0.001"
    others = [
        f"{reading.model} {_number(reading.value)}" for reading in finding.readings[1:] if reading.value is not None
    ]
    return f"{said}." + (f" Beside it: {', '.join(others)}." if others else "")


def _besides(finding: Finding, kind: str | None) -> str:
    """The second figure of relearning, whose rule goes by two, of the audited model."""
    own = finding.audited
    if own is None or "gap_after" not in own.more:
        return ""
    more = own.more
    low, high = map(_number, more["gap_after_interval"])
    said = (
        f"After the training it gets {more['forget_accuracy_after']:.1%} of the forgotten and "
        f"{more['unseen_accuracy_after']:.1%} of unseen {name_of(kind)}s right, a difference of "
        f"{_number(more['gap_after'])}, between {low} and {high}."
    )
    if own.accused and own.interval is not None and own.interval[0] <= 0:
        said += " It is by this that the test accuses the model: what it knows never went away."
    return said


def _asked(report: AuditReport) -> list[tuple[str, str]]:
    """What was asked, as (what, text)."""
    asked = report.asked
    samples = asked.get("samples", {})
    found = {
        "Model": str(asked.get("model") or report.name),
        "Original": asked.get("original"),
        "Data set": asked.get("dataset"),
        "To be forgotten": f"{samples['forget']} samples" if "forget" in samples else None,
        "Chosen by": _selection(asked.get("selector")),
        "Held against": f"{samples['unseen']} samples that no model was trained on" if "unseen" in samples else None,
        "Kept": f"{samples['retain']} samples" if "retain" in samples else None,
    }
    return [(what, str(text)) for what, text in found.items() if text is not None]


def _selection(selector: Mapping[str, Any] | None) -> str | None:
    return (
        None
        if not selector
        else ", ".join(str(value) if key == "by" else f"{key}: {value}" for key, value in selector.items())
    )


def _facts(report: AuditReport) -> list[tuple[str, str]]:
    about = report.provenance
    found = {
        "Seed": report.asked.get("seed"),
        "Weights (SHA-256)": report.weights,
        "Cost of the process": _short(about.get("cost")),
        "Hardware": _short(about.get("hardware")),
        "Versions": _short(about.get("versions")),
        "Command": about.get("command"),
    }
    return [(what, str(text)) for what, text in found.items() if text is not None]


def _short(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return None if value is None else str(value)
    return ", ".join(f"{name} {number}" for name, number in value.items() if number is not None)
