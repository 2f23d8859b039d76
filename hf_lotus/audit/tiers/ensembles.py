"""What tiers 5 and 6 have in common: many models unlearned alike against many retrained ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hf_lotus.audit.evidence import Ensemble, Evidence
from hf_lotus.audit.exchange import exchange_p_value
from hf_lotus.audit.verdicts import concluded
from hf_lotus.evaluation.findings import CANNOT_TELL, LEVEL, Finding, Reading, not_measured
from hf_lotus.evaluation.results import ORIGINAL, RETRAIN
from hf_lotus.functional.intervals import Estimate

# Models a side under which nothing is told.
FEWEST = 4
EXCHANGED = (
    "p is exact: the share of 199 deals of the models' names among them, the true one counted, that give at least as "
    "much."
)


def asked(
    tier: str, rule: str, evidence: Evidence, read: Callable[[str, np.ndarray, np.ndarray, int], Reading]
) -> Finding:
    """The finding of a tier that looks at all models of a row together.

    Args:
        tier: its key.
        rule: by what it accuses.
        evidence: with unlearned and retrained models, or a reason why not.
        read: (row, unlearned, retrained, seed) → what the tier reads, of four models a side or more, each side of
            shape (models, samples).
    """
    if (left_out := _lacking(tier, rule, evidence)) is not None:
        return left_out
    readings = [
        Reading(row, reason=reason) if (reason := _too_few(*sides)) else read(row, *sides, evidence.seed)
        for row, sides in _rows(evidence)
    ]
    counts = _counts(evidence)
    n = min(counts["unlearned_models"], counts["retrained_models"])
    if readings[0].value is None:
        return Finding(tier, CANNOT_TELL, readings[0].reason, rule, n, counts)
    return concluded(tier, rule, readings, n, counts)


def exchanged(
    row: str,
    estimate: Estimate,
    figure: Callable[[np.ndarray, np.ndarray], float],
    unlearned: np.ndarray,
    retrained: np.ndarray,
    seed: int,
    more: Mapping[str, Any],
) -> Reading:
    """A reading that accuses by the exact p-value of a figure.

    Args:
        row: whose it is.
        estimate: what is shown.
        figure: of (unlearned, retrained): what the models are exchanged for.
        unlearned: shape (models, samples).
        retrained: shape (others, samples).
        seed: of the deals.
        more: what stands beside it.
    """
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return Reading(row, reason=estimate.reason or "")
    p_value = exchange_p_value(figure, unlearned, retrained, seed, description=f"{row}: exchanging models")
    interval = estimate.low, estimate.high
    return Reading(row, estimate.value, interval, p_value, p_value <= LEVEL, more=more)


def _lacking(tier: str, rule: str, evidence: Evidence) -> Finding | None:
    """The finding where the models are not there, or None."""
    if evidence.unlearned is None:
        reason = evidence.missing.get(tier) or (
            "It compares many models that were unlearned alike with many retrained ones: give --pool with models "
            "unlearned by the same method (hf-lotus pool --unlearn), or --unlearned_models and --retrain_models."
        )
        return not_measured(tier, reason, rule)
    if evidence.retrained is None:
        reason = evidence.missing.get(tier) or "It needs models that never saw the forget set, and there are none."
        return not_measured(tier, reason, rule)
    return None


def _rows(evidence: Evidence) -> list[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Row, and what is held against what; of the retrained models, one half against the other."""
    assert evidence.unlearned is not None and evidence.retrained is not None
    retrained = evidence.retrained.confidence
    found = [(evidence.name, (evidence.unlearned.confidence, retrained))]
    if evidence.originals is not None and len(evidence.originals):
        found.append((ORIGINAL, (evidence.originals.confidence, retrained)))
    if len(retrained) >= 2 * FEWEST:
        half = len(retrained) // 2
        found.append((RETRAIN, (retrained[:half], retrained[half:])))
    return found


def _counts(evidence: Evidence) -> dict[str, int]:
    """How many models and samples there are."""
    assert evidence.unlearned is not None and evidence.retrained is not None
    sides: dict[str, Ensemble | None] = {
        "unlearned_models": evidence.unlearned,
        "retrained_models": evidence.retrained,
        "original_models": evidence.originals,
    }
    numbers = {name: len(ensemble) for name, ensemble in sides.items() if ensemble is not None}
    return {**numbers, "forget": evidence.unlearned.confidence.shape[1]}


def _too_few(unlearned: np.ndarray, retrained: np.ndarray) -> str:
    """Why a row cannot be told; "" where there are models enough."""
    if min(len(unlearned), len(retrained)) < FEWEST:
        return f"It takes {FEWEST} models a side; there are {len(unlearned)} and {len(retrained)}."
    return ""
