"""What a pool of reference models adds to the evidence: references for RMIA, and many models for tiers 5 and 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hf_lotus.audit.evidence import FORGET, UNSEEN, Ensemble, Outputs, References
from hf_lotus.audit.pool import Pool, Unlearned
from hf_lotus.utils.text import nearest


@dataclass(frozen=True, eq=False)
class PoolEvidence:
    """What was found in a pool; the fields are those of `Evidence` of the same names.

    Attributes:
        references: for RMIA, or None.
        unlearned: models unlearned by the audited model's method, or None.
        retrained: members without any forget sample, or None.
        originals: members with all of them, or None.
        missing: tier → why it cannot be measured.
        notes: what a reader must know.
    """

    references: References | None = None
    unlearned: Ensemble | None = None
    retrained: Ensemble | None = None
    originals: Ensemble | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def pool_evidence(
    pool: Pool, digests: Mapping[str, np.ndarray], name: str, method: str | None, own_digests: Sequence[str]
) -> PoolEvidence:
    """Look the samples up in a pool; no model is run.

    Args:
        pool: the pool, checked to suit the audited model (`Pool.check`).
        digests: "forget" and, where there is one, "unseen" → digests of the samples' contents, V32, shape (samples,).
        name: the audited model's row.
        method: what the pool calls the method that made the audited model; `name` if None.
        own_digests: of the audited model's, the original's and the retrained models' weights: none of them is held
            against itself.

    Raises:
        ValueError: if the pool knows nothing of some forget samples, all or none of its models were trained on one, or
            it has no models unlearned by the method.
    """
    weights = [str(record["weights_digest"]) for record in pool.records]
    others = np.array([digest not in own_digests for digest in weights])
    retrained = pool.with_none(digests[FORGET])
    outputs = pool.outputs(digests[FORGET])
    originals = pool.with_all(digests[FORGET])
    originals = originals[others[originals]]
    trained_on = None
    serving = retrained
    if not len(retrained):
        # Each sample is held against the models that never had it, whatever they had of the others.
        if not outputs.usable.all():
            raise ValueError(
                f"Not every forget sample was in some models of the pool and left out of others: {outputs.told()}. "
                "Make a pool with this forget set: hf-lotus pool --forget_sets."
            )
        serving, trained_on = np.arange(pool.num_models), outputs.members
    confidence = _confidence(outputs.logits, outputs.labels)
    chosen = _unlearned(pool, digests[FORGET], name, method)
    references, missing = _references(pool, digests, serving, confidence, trained_on, weights)
    if isinstance(chosen, str):
        missing |= dict.fromkeys(("u_lira", "klom", "epsilon"), chosen)
        unlearned = None
    else:
        unlearned = Ensemble(chosen.label, _confidence(chosen.outputs(digests[FORGET]).logits, outputs.labels))
    return PoolEvidence(
        references,
        unlearned,
        Ensemble("retrain", confidence[retrained]) if len(retrained) else None,
        Ensemble("original", confidence[originals]) if len(originals) else None,
        missing,
        [f"The pool {pool.path.name} has {pool.num_models} models: {len(retrained)} without any forget sample, "
         f"{len(originals)} others with all of them."],
    )  # fmt: skip


def _references(
    pool: Pool,
    digests: Mapping[str, np.ndarray],
    serving: np.ndarray,
    confidence: np.ndarray,
    trained_on: np.ndarray | None,
    weights: Sequence[str],
) -> tuple[References | None, dict[str, str]]:
    if UNSEEN not in digests:
        return None, {}
    unseen = pool.outputs(digests[UNSEEN])
    if unknown := int((~unseen.found).sum()):
        return None, {
            "rmia": f"The pool keeps no outputs of {unknown} of the {len(unseen.found)} unseen samples. Give it the "
            "unseen data that it was made with, or --reference_models."
        }
    chances = [Outputs(rows).probability for rows in (confidence, _confidence(unseen.logits, unseen.labels))]
    picked = [weights[position] for position in serving]
    return References(chances[0][serving], chances[1][serving], picked, trained_on), {}


def _confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``log(p / (1 − p))`` of each model: shape (models, samples)."""
    return np.stack([Outputs.of_logits(rows, labels).confidence for rows in logits])


def _unlearned(pool: Pool, forget: np.ndarray, name: str, method: str | None) -> Unlearned | str:
    """The models unlearned by a method, or why there are none."""
    found = {each.label: each for each in pool.unlearned_of(forget)}
    if method is not None and method not in found:
        raise ValueError(
            f"The pool has no models that unlearned this forget set by {method!r}. {nearest(method, list(found))} "
            "hf-lotus pool --unlearn makes them."
        )
    if (label := method or name) in found:
        return found[label]
    if found:
        return (
            f"The pool has models unlearned by {', '.join(sorted(found))}: say which of them made the audited model, "
            "by --pool_method."
        )
    return (
        "One model is not enough: it compares many models unlearned by the same method, and the pool has none "
        "(hf-lotus pool --unlearn)."
    )
