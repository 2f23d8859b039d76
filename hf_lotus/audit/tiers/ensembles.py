"""What tiers 5 and 6 have in common: many models unlearned alike against many retrained ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hf_lotus.audit.evidence import Ensemble, Evidence
from hf_lotus.audit.exchange import exchange_p_value
from hf_lotus.evaluation.findings import Finding, not_measured
from hf_lotus.evaluation.results import ORIGINAL, RETRAIN

# Models a side under which nothing is told.
FEWEST = 4
EXCHANGED = (
    "p is exact: the share of 199 deals of the models' names among them, the true one counted, that give at least as "
    "much."
)


def lacking(tier: str, rule: str, evidence: Evidence) -> Finding | None:
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


def rows(evidence: Evidence) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Row, and what is held against what; of the retrained models, one half against the other."""
    assert evidence.unlearned is not None and evidence.retrained is not None
    retrained = evidence.retrained.confidence
    found = [(evidence.name, evidence.unlearned.confidence, retrained)]
    if evidence.originals is not None and len(evidence.originals):
        found.append((ORIGINAL, evidence.originals.confidence, retrained))
    if len(retrained) >= 2 * FEWEST:
        half = len(retrained) // 2
        found.append((RETRAIN, retrained[:half], retrained[half:]))
    return found


def counts(evidence: Evidence) -> dict[str, int]:
    """How many models and samples there are."""
    assert evidence.unlearned is not None and evidence.retrained is not None
    sides: dict[str, Ensemble | None] = {
        "unlearned_models": evidence.unlearned,
        "retrained_models": evidence.retrained,
        "original_models": evidence.originals,
    }
    numbers = {name: len(ensemble) for name, ensemble in sides.items() if ensemble is not None}
    return {**numbers, "forget": evidence.unlearned.confidence.shape[1]}


def enough(unlearned: np.ndarray, retrained: np.ndarray) -> str:
    """Why a row cannot be told; "" where there are models enough."""
    if min(len(unlearned), len(retrained)) < FEWEST:
        return f"It takes {FEWEST} models a side; there are {len(unlearned)} and {len(retrained)}."
    return ""


def exchanged(
    figure: Callable[[np.ndarray, np.ndarray], float], row: str, sides: tuple[np.ndarray, np.ndarray], seed: int
) -> float:
    """The exact p-value of a row."""
    return exchange_p_value(figure, *sides, seed, description=f"{row}: exchanging models")
