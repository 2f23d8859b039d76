"""Measure models: every metric and control from one forward pass per (model, split).

Nothing here knows how a model was unlearned, so a model unlearned by anything at all can be measured. Counts are
exact, logarithms natural, sums in float64. Definitions of the metrics stand beside their fields in `results.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import Dataset

from hf_lotus.functional.divergences import Null, RunningClassMeans, jensen_shannon, rf_jsd, rf_jsd_null
from hf_lotus.functional.tensors import reinitialized
from hf_lotus.functional.membership import fit_attack, held_out_calls, member_rate
from hf_lotus.functional.weighting import same_shares, weighted_by_class
from hf_lotus.evaluation.predictions import Predictions, predict
from hf_lotus.evaluation.results import ORIGINAL, RETRAIN, Controls, ModelResult, UnlearningResult
from hf_lotus.evaluation.provenance import provenance
from hf_lotus.utils.seeds import WEIGHTS
from hf_lotus.utils.seeds import derived_seed

# The retain set is by far the largest, and its metrics need only two numbers a sample.
SPLITS_WITH_LOGITS = ("forget", "unseen", "test")
# What is held against the forget set, each class weighted as there.
_COMPARED = ("unseen", "forget")


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What a model is measured against: the original's predictions, the retrained model's where there is one.

    Attributes:
        original: predictions of the model before unlearning.
        retrained: predictions of a model trained without the forget set, or None.
        class_wise: whether whole classes are forgotten, so that no unseen data stands for the forget set.
        seed: seed of the null's resampling.
        ignorant: predictions of a randomly initialised model on the forget set, or None.
    """

    original: Mapping[str, Predictions]
    retrained: Mapping[str, Predictions] | None = None
    class_wise: bool = False
    seed: int = 0
    ignorant: Predictions | None = None

    @cached_property
    def rf_jsd_null(self) -> Null | None:
        """The null of RF-JSD; None without unseen data, or where whole classes are forgotten."""
        unseen = self.original.get("unseen")
        if unseen is None or self.class_wise or not len(self._common_classes):
            return None
        counts = np.bincount(self.original["forget"].labels, minlength=unseen.probabilities.shape[1])
        return rf_jsd_null(unseen.probabilities, unseen.labels, counts, seed=self.seed)

    @cached_property
    def _common_classes(self) -> np.ndarray:
        return np.intersect1d(self.original["forget"].labels, self.original["unseen"].labels)

    @cached_property
    def controls(self) -> Controls:
        """The references for the forget set's figures, measured on the original model."""
        null, floor = self.rf_jsd_null, None
        if self.retrained is not None and "test" in self.original:
            pair = self.original["test"].probabilities, self.retrained["test"].probabilities
            floor = float(jensen_shannon(*pair).mean())
        return Controls(
            unseen_accuracy=self._unseen_accuracy,
            unseen_member_rate=None if self.class_wise else _unseen_member_rate(self.original),
            rf_jsd_null_mean=null.mean if null else None,
            rf_jsd_null_std=null.std if null else None,
            jsd_floor=floor,
        )

    @cached_property
    def _unseen_accuracy(self) -> float | None:
        """The original's accuracy on unseen data, each class weighted as in the forget set; None without any."""
        if self.class_wise or "unseen" not in self.original or not len(self._common_classes):
            return None
        return self.original["unseen"].accuracy_weighted(self.original["forget"].labels)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        notes = []
        if "unseen" not in self.original:
            notes.append("No unseen set was given: RF-JSD, its null and the retrain-free gap are not measured.")
        elif self.class_wise:
            notes.append(
                "Whole classes are forgotten, so no unseen sample should look like a forgotten one: RF-JSD's premise "
                "does not hold, and the retrain-free gap and the null are left out."
            )
        elif missing := self._missing_classes:
            shown = ", ".join(map(str, missing[:10]))
            notes.append(f"Classes of the forget set without unseen samples are left out of RF-JSD: {shown}.")
        if self._unseen_accuracy is not None and not same_shares(*(self.original[s].labels for s in _COMPARED)):
            notes.append(
                "The references on unseen data (accuracy, member rate, retrain-free gap) weight each class as the "
                "forget set has it. Results without this note took the unseen set as it is."
            )
        return tuple(notes)

    @property
    def _missing_classes(self) -> list[int]:
        return np.setdiff1d(self.original["forget"].labels, self.original["unseen"].labels).tolist()

    def measure(self, name: str, predictions: Mapping[str, Predictions], seconds: float | None = None) -> ModelResult:
        """Every metric of one model.

        Args:
            name: what to call the model in the result.
            predictions: its predictions, split → `Predictions`.
            seconds: wall time of making it.
        """
        result = self._without_gaps(name, predictions, seconds)
        gaps = {"retrain_free_gap": self._retrain_free_gap(result)}
        if self.retrained is not None:
            compared = ("mia_member_rate", "forget_accuracy", "retain_accuracy", "test_accuracy")
            gold = self._gold_standard
            gaps["avg_gap"] = _mean_distance((getattr(result, m), getattr(gold, m)) for m in compared)
        return replace(result, **gaps)

    @cached_property
    def _gold_standard(self) -> ModelResult:
        """The retrained model's metrics, from which every gap is measured."""
        return self._without_gaps(RETRAIN, self.retrained, None)

    @cached_property
    def _unseen_means(self) -> RunningClassMeans:
        unseen = self.original["unseen"]
        return RunningClassMeans.of(unseen.probabilities, unseen.labels)

    def _without_gaps(self, name: str, predictions: Mapping[str, Predictions], seconds: float | None) -> ModelResult:
        forget = predictions["forget"]
        divergence, rate = self._rf_jsd(forget), _forget_member_rate(predictions)
        return ModelResult(
            name=name,
            **{f"{split}_accuracy": predicted.accuracy for split, predicted in predictions.items()},
            mia_member_rate=rate,
            mia_efficacy=None if rate is None else 1 - rate,
            unseen_member_rate=_unseen_member_rate(predictions),
            jsd=self._jsd(forget),
            rf_jsd=divergence,
            zrf=self._zrf(forget),
            rf_jsd_z=self.rf_jsd_null.z_score(divergence) if self.rf_jsd_null and divergence is not None else None,
            seconds=seconds,
        )

    def _jsd(self, forget: Predictions) -> float | None:
        if self.retrained is None:
            return None
        return float(jensen_shannon(forget.probabilities, self.retrained["forget"].probabilities).mean())

    def _zrf(self, forget: Predictions) -> float | None:
        if self.ignorant is None:
            return None
        return 1 - float(jensen_shannon(forget.probabilities, self.ignorant.probabilities).mean())

    def _rf_jsd(self, forget: Predictions) -> float | None:
        if "unseen" not in self.original or not len(self._common_classes):
            return None
        return rf_jsd(RunningClassMeans.of(forget.probabilities, forget.labels), self._unseen_means).value

    def _retrain_free_gap(self, result: ModelResult) -> float | None:
        """A retrained model treats the forget set as it treats unseen data, and the rest as the original did."""
        if self._unseen_accuracy is None or "test" not in self.original:
            return None
        return _mean_distance(
            [
                (result.mia_member_rate, result.unseen_member_rate),
                (result.forget_accuracy, self._unseen_accuracy),
                (result.retain_accuracy, self.original["retain"].accuracy),
                (result.test_accuracy, self.original["test"].accuracy),
            ]
        )


def _mean_distance(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    pairs = list(pairs)
    if any(value is None for pair in pairs for value in pair):
        return None
    return float(np.mean([abs(a - b) for a, b in pairs]))


def _entropies(predictions: Mapping[str, Predictions], *splits: str) -> np.ndarray:
    return np.concatenate([np.empty(0), *(predictions[split].entropy for split in splits if split in predictions)])


def entropy_attack(predictions: Mapping[str, Predictions]) -> LogisticRegression | None:
    """The membership attack on a model, trained on its retain against its unseen and test set; None without those."""
    non_members = _entropies(predictions, "unseen", "test")
    return fit_attack(predictions["retain"].entropy, non_members) if len(non_members) else None


def _forget_member_rate(predictions: Mapping[str, Predictions]) -> float | None:
    attack = entropy_attack(predictions)
    return None if attack is None else member_rate(attack, predictions["forget"].entropy)


def _unseen_member_rate(predictions: Mapping[str, Predictions]) -> float | None:
    others, unseen = _entropies(predictions, "test"), _entropies(predictions, "unseen")
    if not len(unseen) or len(others) + len(unseen) < 2:
        return None
    labels, like = (predictions[split].labels for split in _COMPARED)
    if not np.isin(labels, like).any():
        return None
    return weighted_by_class(held_out_calls(predictions["retain"].entropy, others, unseen), labels, like)


class Evaluator:
    """Measure any number of models on the same splits; the original and the retrained model are run only once.

    Args:
        splits: "forget", "retain", and where there are any "unseen" and "test" → ready data sets, or None.
        original: the model before unlearning.
        retrain: a model trained without the forget set, or None.
        class_wise: whether whole classes are forgotten.
        seed: seed of the null's resampling.
        **options: passed to `predict` (batch size, collator, accelerator, …).
    """

    def __init__(
        self,
        splits: Mapping[str, Dataset | None],
        original: nn.Module,
        retrain: nn.Module | None = None,
        *,
        class_wise: bool = False,
        seed: int = 0,
        **options,
    ):
        self.splits = {name: dataset for name, dataset in splits.items() if dataset is not None}
        self.original, self.retrain = original, retrain
        self.class_wise, self.seed, self.options = class_wise, seed, options
        self._original_predictions: dict[str, Predictions] = {}

    def predict(self, model: nn.Module, split: str, name: str) -> Predictions:
        """One forward pass over a split; `name` is what the progress bar calls the model."""
        keep = split in SPLITS_WITH_LOGITS
        return predict(model, self.splits[split], keep_logits=keep, description=f"{name} on {split}", **self.options)

    def predict_all(self, model: nn.Module, name: str) -> dict[str, Predictions]:
        """One forward pass over every split: split → `Predictions`."""
        return {split: self.predict(model, split, name) for split in self.splits}

    def original_predictions(self, split: str) -> Predictions:
        """The original model's predictions on a split; made when first asked for, and kept."""
        if split not in self._original_predictions:
            self._original_predictions[split] = self.predict(self.original, split, "original")
        return self._original_predictions[split]

    @cached_property
    def yardstick(self) -> Yardstick:
        """What every measurement is made against."""
        retrained = None if self.retrain is None else self.predict_all(self.retrain, "retrain")
        original = {split: self.original_predictions(split) for split in self.splits}
        ignorant = None
        if hasattr(self.original, "config"):  # else nothing says how to make another like it
            # Not the run's own seed, from whose weights the original may have been trained.
            ignorant = reinitialized(self.original, derived_seed(self.seed, WEIGHTS))
            ignorant = self.predict(ignorant, "forget", "random weights")
        return Yardstick(original, retrained, self.class_wise, self.seed, ignorant)

    def compare(
        self,
        measured: Mapping[str, tuple[Mapping[str, Predictions], float | None]],
        retrain_seconds: float | None = None,
        **run: object,
    ) -> UnlearningResult:
        """The measured models beside the original and, where there is one, the retrained model.

        Args:
            measured: name → (predictions, seconds it took to make the model, or None).
            retrain_seconds: what the retrained model took, where it is known.
            **run: further provenance, as JSON values.
        """
        yardstick = self.yardstick
        models = [yardstick.measure(ORIGINAL, yardstick.original)]
        models += [yardstick.measure(name, *measurement) for name, measurement in measured.items()]
        if yardstick.retrained is not None:
            models.append(yardstick.measure(RETRAIN, yardstick.retrained, retrain_seconds))
        about = provenance(seed=self.seed, samples={split: len(data) for split, data in self.splits.items()}, **run)
        return UnlearningResult(tuple(models), yardstick.controls, yardstick.notes, about)
