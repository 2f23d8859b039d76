"""Membership attacks: which samples a model seems to have been trained on, told from its predictions alone.

An attack is one function of a model's predictions on every split. `metrics.member_rate_of` makes a metric of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.functional.membership import fit_attack, held_out_calls, member_rate
from hf_lotus.functional.weighting import weighted_by_class

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


@dataclass(frozen=True)
class MemberRates:
    """What an attack says of a model; None where it lacks the data to say anything.

    Attributes:
        forget: share of the forget set that it calls member.
        unseen: the same of the unseen set, by an attack that did not train on it, each class weighted as in the forget
            set.
    """

    forget: float | None
    unseen: float | None


@dataclass(frozen=True)
class Attack:
    """A membership attack.

    Attributes:
        name: what to call it.
        description: what it looks at, in half a sentence: "the entropy of the prediction".
        run: split → predictions, to what the attack says; "forget" and "retain" are there, "unseen" and "test" may be.
        needs_retain_logits: whether it reads the retain set's logits, which are kept only if something does.
        is_seeded: whether `run` takes a seed too, by which it divides samples into folds; None for its own way.
    """

    name: str
    description: str
    run: Callable[..., MemberRates]
    needs_retain_logits: bool = False
    is_seeded: bool = False

    def rates(self, predictions: Mapping[str, Predictions], seed: int | None = None) -> MemberRates:
        """What it says of a model, with the folds of a seed where it has any."""
        return self.run(predictions, seed) if self.is_seeded else self.run(predictions)


def entropy_attack(predictions: Mapping[str, Predictions]) -> LogisticRegression | None:
    """The entropy attack on a model, trained on its retain against its unseen and test set; None without those."""
    non_members = _entropies(predictions, "unseen", "test")
    return fit_attack(predictions["retain"].entropy, non_members) if len(non_members) else None


def entropy_member_rates(predictions: Mapping[str, Predictions], seed: int | None = None) -> MemberRates:
    """What the entropy attack says: members are as sure as the retain set, non-members as unseen and test data.

    Args:
        predictions: split → predictions.
        seed: of the folds on the unseen set, which it needs without a test set; every second sample if None.
    """
    attack = entropy_attack(predictions)
    forget = None if attack is None else member_rate(attack, predictions["forget"].entropy)
    others, unseen = _entropies(predictions, "test"), _entropies(predictions, "unseen")
    if not len(unseen) or len(others) + len(unseen) < 2:
        return MemberRates(forget, None)
    labels, like = predictions["unseen"].labels, predictions["forget"].labels
    if not np.isin(labels, like).any():
        return MemberRates(forget, None)
    calls = held_out_calls(predictions["retain"].entropy, others, unseen, seed)
    return MemberRates(forget, weighted_by_class(calls, labels, like))


def _entropies(predictions: Mapping[str, Predictions], *splits: str) -> np.ndarray:
    return np.concatenate([np.empty(0), *(predictions[split].entropy for split in splits if split in predictions)])


ENTROPY = Attack("entropy", "the entropy of the prediction", entropy_member_rates, is_seeded=True)
