"""Measure models: every metric and control from one forward pass per (model, split).

Nothing here knows how a model was unlearned, so a model unlearned by anything at all can be measured. Counts are
exact, logarithms natural, sums in float64. What the metrics are stands in `metrics.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from hf_lotus.data.sized import sized
from hf_lotus.evaluation.metrics import METRICS
from hf_lotus.evaluation.predictions import Predictions, predict
from hf_lotus.evaluation.provenance import provenance
from hf_lotus.evaluation.results import ORIGINAL, UnlearningResult, retrained_row
from hf_lotus.evaluation.yardstick import Yardstick
from hf_lotus.functional.tensors import reinitialized
from hf_lotus.utils.seeds import WEIGHTS, derived_seed


class Evaluator:
    """Measure any number of models on the same splits; the original and the retrained models are run only once.

    Args:
        splits: "forget", "retain", and where there are any "unseen" and "test" → ready data sets, or None.
        original: the model before unlearning.
        retrain: a model trained without the forget set, or None.
        further_retrained: further such models, of other seeds: gaps are then from the mean of all of them.
        class_wise: whether whole classes are forgotten.
        seed: seed of the null's resampling.
        fold_seed: seed of the attacks' folds; None for the same ones always.
        **options: passed to `predict` (batch size, collator, accelerator, …).

    Raises:
        PluginError: for a metric of another distribution that cannot be used: now, and not after a long training.
    """

    def __init__(
        self,
        splits: Mapping[str, Dataset | None],
        original: nn.Module,
        retrain: nn.Module | None = None,
        *,
        further_retrained: Sequence[nn.Module] = (),
        class_wise: bool = False,
        seed: int = 0,
        fold_seed: int | None = None,
        **options: Any,
    ) -> None:
        self.splits = {name: dataset for name, dataset in splits.items() if dataset is not None}
        self.original = original
        self.retrained = [model for model in (retrain, *further_retrained) if model is not None]
        self.class_wise, self.seed, self.fold_seed, self.options = class_wise, seed, fold_seed, options
        # The retain set is by far the largest, and ours need only two numbers a sample of it.
        self._keeps_retain_logits = any(metric.needs_retain_logits for metric in METRICS.values())
        self._original_predictions: dict[str, Predictions] = {}

    def predict(self, model: nn.Module, split: str, name: str) -> Predictions:
        """One forward pass over a split; `name` is what the progress bar calls the model."""
        keep = self._keeps_logits(split)
        return predict(model, self.splits[split], keep_logits=keep, description=f"{name} on {split}", **self.options)

    def _keeps_logits(self, split: str) -> bool:
        return split != "retain" or self._keeps_retain_logits

    def predict_all(self, model: nn.Module, name: str) -> dict[str, Predictions]:
        """One forward pass over every split: split → `Predictions`."""
        return {split: self.predict(model, split, name) for split in self.splits}

    def original_predictions(self, split: str) -> Predictions:
        """The original model's predictions on a split; made when first asked for, and kept."""
        if split not in self._original_predictions:
            self._original_predictions[split] = self.predict(self.original, split, "original")
        return self._original_predictions[split]

    def take_original(self, split: str, predictions: Predictions) -> None:
        """Take the original's predictions on a whole split that were made elsewhere, by the same batches.

        Those without logits are left where these are needed.
        """
        if predictions.logits is not None or not self._keeps_logits(split):
            self._original_predictions.setdefault(split, predictions)

    @property
    def retrain(self) -> nn.Module | None:
        """The first of the retrained models, or None."""
        return self.retrained[0] if self.retrained else None

    @cached_property
    def yardstick(self) -> Yardstick:
        """What every measurement is made against."""
        retrained = [self.predict_all(model, retrained_row(k)) for k, model in enumerate(self.retrained)]
        original = {split: self.original_predictions(split) for split in self.splits}
        ignorant = None
        if hasattr(self.original, "config"):  # else nothing says how to make another like it
            # Not the run's own seed, from whose weights the original may have been trained.
            random = reinitialized(self.original, derived_seed(self.seed, WEIGHTS))
            ignorant = self.predict(random, "forget", "random weights")
        first = retrained[0] if retrained else None
        return Yardstick(original, first, self.class_wise, self.seed, ignorant, tuple(retrained[1:]), self.fold_seed)

    def compare(
        self,
        measured: Mapping[str, tuple],
        retrain_seconds: float | Sequence[float | None] | None = None,
        given: Mapping[str, Mapping[str, float | None]] | None = None,
        **run: object,
    ) -> UnlearningResult:
        """The measured models beside the original and, where there is one, the retrained model.

        Args:
            measured: name → (predictions, seconds it took to make the model, or None), and third, where there are any,
                the values that are given to `Yardstick.measure`.
            retrain_seconds: what the retrained model took, or each of them, where it is known.
            given: row → values of metrics that are not computed from predictions, of any row, also of the original
                and the retrained model.
            **run: further provenance, as JSON values.
        """
        yardstick, given = self.yardstick, given or {}
        models = [yardstick.measure(ORIGINAL, yardstick.original, given=given.get(ORIGINAL))]
        for name, (predictions, seconds, *more) in measured.items():
            values = {**(more[0] if more else {}), **given.get(name, {})}
            models.append(yardstick.measure(name, predictions, seconds, values))
        seconds = retrain_seconds if isinstance(retrain_seconds, Sequence) else [retrain_seconds]
        models += yardstick.measure_retrained(seconds, given)
        about = provenance(
            seed=self.seed, samples={split: len(sized(data)) for split, data in self.splits.items()}, **run
        )
        return UnlearningResult(tuple(models), yardstick.controls, yardstick.notes, about)
