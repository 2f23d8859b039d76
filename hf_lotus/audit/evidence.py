"""What the tiers look at: the outputs of every model on the same samples, from models, a pool or somebody's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hf_lotus.evaluation.results import ORIGINAL, is_retrained_row
from hf_lotus.functional.confidence import logit_confidence
from hf_lotus.trainer.relearning import Outcome

FORGET, UNSEEN = "forget", "unseen"


@dataclass(frozen=True, eq=False)
class Outputs:
    """What one model says of one set of samples.

    Attributes:
        confidence: ``log(p / (1 − p))`` of the true class, float64, shape (samples,).
    """

    confidence: np.ndarray

    @classmethod
    def of_logits(cls, logits: np.ndarray, labels: np.ndarray) -> Outputs:
        """From logits of shape (samples, classes)."""
        return cls(logit_confidence(logits, labels, from_logits=True))

    @cached_property
    def probability(self) -> np.ndarray:
        """Probability of the true class, shape (samples,)."""
        # exp of large numbers overflows on one side or the other of the plain formula.
        half = np.exp(-np.abs(self.confidence))
        return np.where(self.confidence >= 0, 1 / (1 + half), half / (1 + half))


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Several models that were made alike, on the forget samples, and which of them each sample counts in.

    Attributes:
        name: what made them.
        confidence: shape (models, samples).
    """

    name: str
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.confidence)


@dataclass(frozen=True, eq=False)
class References:
    """Models that never saw the forget set, for RMIA.

    Attributes:
        forget: probability of the true class on D_f, shape (models, samples).
        unseen: the same on D_u, shape (models, others).
        digests: of the models' weights, "" where unknown: a model is not held against itself.
        trained_on: True where a reference was trained on the forget sample after all, shape of `forget`; None if
            nowhere.
    """

    forget: np.ndarray
    unseen: np.ndarray
    digests: Sequence[str] = ()
    trained_on: np.ndarray | None = None

    def without(self, digest: str) -> References | None:
        """The references but those with these weights; None where none is left."""
        kept = np.array([not digest or other != digest for other in self.digests] or [True] * len(self.forget))
        if not kept.any():
            return None
        trained_on = None if self.trained_on is None else self.trained_on[kept]
        digests = [other for other, keep in zip(self.digests, kept, strict=False) if keep]
        return References(self.forget[kept], self.unseen[kept], digests, trained_on)


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the tiers are functions of.

    Attributes:
        name: the audited model's row.
        labels: "forget" and, where there is one, "unseen" → classes, int64, shape (samples,).
        outputs: row → split → `Outputs`; the audited model first, then the original and the retrained models, as far
            as they are given.
        digests: row → digest of the model's weights; rows of files have none.
        class_wise: whether whole classes are forgotten: then no unseen data stands for them.
        relearned: row → what the round on retained data did.
        features: row → split → penultimate features, shape (samples, dimensions).
        references: for RMIA.
        unlearned: models unlearned as the audited one was, for the tiers that need many.
        retrained: models that never saw the forget set.
        originals: models that saw all of it, nothing unlearned.
        missing: tier → why it cannot be measured, where something else than the data is the reason.
        seed: of every draw.
    """

    name: str
    labels: Mapping[str, np.ndarray]
    outputs: Mapping[str, Mapping[str, Outputs]]
    digests: Mapping[str, str] = field(default_factory=dict)
    class_wise: bool = False
    relearned: Mapping[str, Outcome] = field(default_factory=dict)
    features: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    references: References | None = None
    unlearned: Ensemble | None = None
    retrained: Ensemble | None = None
    originals: Ensemble | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    @property
    def rows(self) -> list[str]:
        """The models that a tier reads, the audited one first."""
        return list(self.outputs)

    @property
    def retrained_rows(self) -> list[str]:
        """Those of them that were retrained."""
        return [row for row in self.rows if row != self.name and is_retrained_row(row)]

    @property
    def has_original(self) -> bool:
        """Whether the original is among them."""
        return ORIGINAL in self.outputs

    def confidence(self, row: str, split: str = FORGET) -> np.ndarray:
        """``log(p / (1 − p))`` of a model on a set, shape (samples,)."""
        return self.outputs[row][split].confidence

    @cached_property
    def no_counterpart(self) -> str:
        """Why no unseen data stands for the forget set; "" where some does."""
        if self.class_wise:
            return (
                "Whole classes were forgotten: no unseen data should look as the forgotten samples do, so there is "
                "nothing to hold them against."
            )
        if UNSEEN not in self.labels:
            return "It compares with data that the model was never trained on: give an unseen set (--unseen_split)."
        if not np.isin(self.labels[UNSEEN], self.labels[FORGET]).any():
            return "The unseen set has no sample of any class of the forget set: give unseen data of these classes."
        return ""
