"""What an audit found, tier by tier, with its intervals and the rule of each verdict: frozen, to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_lotus.utils.documents import first_problem, read_document, write_document

AUDIT, AUDIT_PAGE = "audit.json", "audit.html"
FORMAT, FORMAT_VERSION = "hf-lotus audit", 1
_SCHEMA = "hf_lotus.evaluation/audit"
# How a tier can end; one that was not measured has no verdict, and says why.
NOTHING, FOUND, CANNOT_TELL = "nothing found", "found: not forgotten", "cannot tell at this n"
# Probability of accusing a model that was honestly retrained, at most, in each tier.
LEVEL = 0.05
# Key in the document → what a reader calls it, in the order of cost.
TIERS = {
    "relearning_excess": "Relearning",
    "linear_probe": "Linear probe",
    "relative_test": "Relative test (retrained)",
    "relative_test_unseen": "Relative test (unseen)",
    "rmia": "RMIA",
    "u_lira": "U-LiRA",
    "klom": "KLOM",
    "epsilon": "Epsilon",
}


@dataclass(frozen=True)
class Reading:
    """What one tier reads on one model.

    Attributes:
        model: the row: the audited model's name, "original", "retrain", "retrain again", ….
        value: the tier's figure; None where there is none.
        interval: its 95 % interval, or None where there is none.
        p_value: small: not as a model that was never trained on the samples; None in tiers that go by the interval.
        accused: whether the tier's rule accuses the model; None where nothing can be told.
        reason: why there is no figure, or nothing can be told; "" where there is one.
        more: further figures of the tier, by name: numbers, intervals as pairs, or None.
    """

    model: str
    value: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    accused: bool | None = None
    reason: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "model": self.model,
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "p_value": self.p_value,
            "accused": self.accused,
            "reason": self.reason,
            "more": dict(self.more),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Reading:
        """Read what `to_dict` gives."""
        interval = document["interval"]
        return cls(**{**document, "interval": None if interval is None else (interval[0], interval[1])})


@dataclass(frozen=True)
class Finding:
    """How one tier ended.

    Attributes:
        tier: its key in the document (`TIERS`).
        verdict: "nothing found", "found: not forgotten", "cannot tell at this n"; None where it was not measured.
        reason: why it was not measured or cannot tell; "" otherwise.
        rule: by what it decides, written down before anything is measured.
        n: samples, or models where those are what counts, that the figure rests on; None where it was not measured.
        counts: what was counted → how many.
        readings: the audited model's first, then the original's and the retrained models'.
    """

    tier: str
    verdict: str | None
    reason: str = ""
    rule: str = ""
    n: int | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    readings: Sequence[Reading] = ()

    @property
    def audited(self) -> Reading | None:
        """The audited model's reading, or None."""
        return self.readings[0] if self.readings else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: the audited model's figures, then all models'. Without a verdict there is no figure."""
        own = self.audited or Reading("")
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "rule": self.rule,
            "n": self.n,
            "counts": dict(self.counts),
            "value": own.value,
            "interval": None if own.interval is None else list(own.interval),
            "p_value": own.p_value,
            "models": [reading.to_dict() for reading in self.readings],
        }

    @classmethod
    def from_dict(cls, tier: str, document: Mapping[str, Any]) -> Finding:
        """Read what `to_dict` gives."""
        readings = tuple(Reading.from_dict(reading) for reading in document["models"])
        kept = {key: document[key] for key in ("verdict", "reason", "rule", "n", "counts")}
        return cls(tier, readings=readings, **kept)


@dataclass(frozen=True)
class AuditReport:
    """An audit of one model.

    Attributes:
        name: the audited model's row.
        findings: one a tier, in the order of `TIERS`.
        asked: what was asked: data set, how the samples were chosen, numbers of samples, seed; JSON values.
        weights: SHA-256 of the audited model's parameters and buffers (`publishing.digests.weights_digest`); None
            where only outputs were given.
        level: of each tier.
        notes: what a reader must know.
        provenance: versions, hardware, command; JSON values.
    """

    name: str
    findings: Sequence[Finding]
    asked: Mapping[str, Any]
    weights: str | None = None
    level: float = LEVEL
    notes: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, tier: str) -> Finding:
        for finding in self.findings:
            if finding.tier == tier:
                return finding
        raise KeyError(f"There is no tier {tier!r}; there are {', '.join(f.tier for f in self.findings)}.")

    def tiers(self, verdict: str | None) -> list[str]:
        """The tiers that ended so, by the names that readers know them by."""
        return [TIERS[finding.tier] for finding in self.findings if finding.verdict == verdict]

    def in_words(self) -> str:
        """What was found, in two sentences."""
        measured = [finding for finding in self.findings if finding.verdict is not None]
        found, nothing, unsure = (self.tiers(verdict) for verdict in (FOUND, NOTHING, CANNOT_TELL))
        if not measured:
            return "None of the audit's tests could be made. It says nothing of what the model still knows."
        first = f"Of {len(measured)} tests, {len(found)} found that the samples are not forgotten"
        first += f" ({', '.join(found)})." if found else "."
        parts = []
        if nothing:
            parts.append(f"{len(nothing)} found nothing ({', '.join(nothing)})")
        if unsure:
            parts.append(f"{len(unsure)} could not tell ({', '.join(unsure)})")
        if left := len(self.findings) - len(measured):
            parts.append(f"{left} could not be made with what was given")
        second = "; ".join(parts) or "No other was made"
        return f"{first} {second}; that nothing is found is no proof that nothing is left."

    def figures(self) -> dict[str, dict[str, Any]]:
        """Tier → verdict, n, value, interval and p-value of the audited model: what results and records repeat."""
        kept = ("verdict", "n", "value", "interval", "p_value")
        told = {finding.tier: finding.to_dict() for finding in self.findings}
        return {tier: {key: document[key] for key in kept} for tier, document in told.items()}

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; every tier is a key of its own."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model": self.name,
            "weights": self.weights,
            "level": self.level,
            "asked": dict(self.asked),
            "in_words": self.in_words(),
            **{finding.tier: finding.to_dict() for finding in self.findings},
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def to_json(self, path: str | Path) -> None:
        """Write the audit; the file appears whole or not at all.

        Raises:
            ValueError: if a figure is not finite, which JSON cannot hold.
        """
        write_document(path, self.to_dict(), schema=_SCHEMA, indent=2, why="a figure is not finite")

    @classmethod
    def from_json(cls, path: str | Path) -> AuditReport:
        """Read what `to_json` wrote.

        Raises:
            OSError: if there is no such file.
            ValueError: if it is not an audit, or of another format version.
        """
        document = read_document(path)
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"{path} is not an audit of hf-lotus.")
        if document.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"{path} is of format version {document.get('format_version')!r}, and this version of hf-lotus reads "
                f"version {FORMAT_VERSION}. Read it with the version that wrote it."
            )
        if problem := first_problem(document, _SCHEMA):
            raise ValueError(f"{path} is not an audit that this version understands: {problem}.")
        return cls(
            name=document["model"],
            findings=tuple(Finding.from_dict(tier, document[tier]) for tier in TIERS if tier in document),
            **{key: document[key] for key in ("asked", "weights", "level", "notes", "provenance")},
        )


def not_measured(tier: str, reason: str, rule: str = "") -> Finding:
    """The finding of a tier that lacks what it needs."""
    return Finding(tier, None, reason, rule)
