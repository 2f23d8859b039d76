"""Measure models: one forward pass per (model, split) feeds every metric and control.

The protocol: eval mode, evaluation transforms (no augmentation), exact counts, natural logarithms, float64
accumulation. Nothing here knows how a model was unlearned, so a model unlearned by anything at all can be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm.auto import tqdm

from hf_lotus.batches import Collator, class_logits, model_columns, model_inputs
from hf_lotus.divergences import Null, RunningClassMeans, jensen_shannon, rf_jsd, rf_jsd_null
from hf_lotus.membership import fit_attack, held_out_member_rate, member_rate, prediction_entropy
from hf_lotus.results import Controls, ModelResult

# The retain set is by far the largest, and its metrics need only two numbers a sample.
SPLITS_WITH_LOGITS = ("forget", "unseen", "test")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one forward pass over one split leaves behind.

    Attributes:
        labels: true classes, int64, shape (samples,).
        predicted: the argmax of the logits, int64, shape (samples,).
        entropy: entropy of each prediction in nats, float64, shape (samples,).
        logits: float32, shape (samples, classes), or None where they were not kept.
    """

    labels: np.ndarray
    predicted: np.ndarray
    entropy: np.ndarray
    logits: np.ndarray | None = None

    @cached_property
    def accuracy(self) -> float:
        """Share of samples classified correctly, from exact counts."""
        return int((self.predicted == self.labels).sum()) / len(self.labels)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits in float64, shape (samples, classes)."""
        return torch.softmax(torch.from_numpy(self.logits).double(), dim=1).numpy()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for the block, each module's own mode restored after it, and buffers checked unchanged.

    Raises:
        RuntimeError: if the block changed a buffer, such as BatchNorm's running statistics.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
    changed = [name for name, buffer in model.named_buffers() if not torch.equal(buffer, buffers[name])]
    if changed:
        raise RuntimeError(f"Evaluation changed the model's buffers ({', '.join(changed[:3])}); its figures are void.")


@torch.inference_mode()
def predict(
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    collator: Callable | None = None,
    keep_logits: bool = True,
    accelerator: Accelerator | None = None,
    description: str | None = None,
    num_workers: int = 0,
) -> Predictions:
    """One forward pass of `model` over `dataset`.

    Args:
        model: a classifier whose output has `logits` of shape (batch, classes).
        dataset: `ReadyImages`, or samples of model inputs with a label.
        batch_size: samples per device and step.
        collator: how to collate samples that do not come as batches (a tokenizer's padding collator, say).
        keep_logits: keep them, or only accuracy and entropy.
        accelerator: if given, every rank takes its share and all ranks return the whole.
        description: label of the progress bar; no bar if None.
        num_workers: loader processes.

    Raises:
        ValueError: if the data set is empty, labels lie outside the model's classes, or logits have another shape.
        FloatingPointError: if logits are not finite.
    """
    if len(dataset) == 0:
        raise ValueError(f"There is nothing to measure: the {description or 'data set'} is empty.")
    device = next(model.parameters()).device
    finish = getattr(dataset, "finish", None)
    ranks, rank = (accelerator.num_processes, accelerator.process_index) if accelerator is not None else (1, 0)
    bounds = [len(dataset) * r // ranks for r in (rank, rank + 1)]
    loader = DataLoader(
        dataset if ranks == 1 else Subset(dataset, range(*bounds)),
        batch_size=batch_size,
        collate_fn=Collator(model_columns(model), collator),
        num_workers=num_workers,
    )
    parts = []
    with evaluation_mode(model), accelerator.autocast() if accelerator is not None else nullcontext():
        for batch in tqdm(
            loader, desc=description, unit="batch", leave=False, disable=description is None or rank > 0
        ):
            labels = batch["labels"]
            batch = {name: value.to(device, non_blocking=True) for name, value in model_inputs(batch).items()}
            logits = class_logits(model(**(finish(batch) if finish else batch)), len(labels)).float().cpu()
            _check_labels(labels, logits.shape[1])
            entropy = prediction_entropy(torch.softmax(logits.double(), dim=1).numpy())
            kept = logits.numpy() if keep_logits else None
            parts.append(Predictions(labels.numpy(), logits.argmax(dim=1).numpy(), entropy, kept))
    return _concatenate(gather_object(parts) if ranks > 1 else parts)


def _check_labels(labels: torch.Tensor, num_classes: int) -> None:
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(
            f"Label {int(outside[0])} is outside the model's {num_classes} classes (0 to {num_classes - 1}). "
            "Use the label column that the model was trained on."
        )


def _concatenate(parts: list[Predictions]) -> Predictions:
    columns = {f.name: [getattr(part, f.name) for part in parts] for f in fields(Predictions)}
    return Predictions(**{n: None if values[0] is None else np.concatenate(values) for n, values in columns.items()})


def predict_splits(
    model: nn.Module, splits: Mapping[str, Dataset | None], name: str, **options
) -> dict[str, Predictions]:
    """One forward pass over each split that is not None: split → `Predictions`.

    Args:
        model: the classifier.
        splits: "forget", "retain", and where there are any "unseen" and "test".
        name: what to call the model in the progress bar.
        **options: passed to `predict`.
    """
    return {
        split: predict(
            model, dataset, keep_logits=split in SPLITS_WITH_LOGITS, description=f"{name} on {split}", **options
        )
        for split, dataset in splits.items()
        if dataset is not None
    }


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What a model is measured against: the original's predictions, the retrained model's where there is one.

    Attributes:
        original: predictions of the model before unlearning.
        retrained: predictions of a model trained without the forget set, or None.
        class_wise: whether whole classes are forgotten, so that no unseen data stands for the forget set.
        seed: seed of the null's resampling.
    """

    original: Mapping[str, Predictions]
    retrained: Mapping[str, Predictions] | None = None
    class_wise: bool = False
    seed: int = 0

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
        unseen, null = self.original.get("unseen"), self.rf_jsd_null
        floor = None
        if self.retrained is not None and "test" in self.original:
            pair = self.original["test"].probabilities, self.retrained["test"].probabilities
            floor = float(jensen_shannon(*pair).mean())
        return Controls(
            unseen_accuracy=unseen.accuracy if unseen is not None and not self.class_wise else None,
            unseen_member_rate=_unseen_member_rate(self.original),
            rf_jsd_null_mean=null.mean if null else None,
            rf_jsd_null_std=null.std if null else None,
            jsd_floor=floor,
        )

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
            retrained = self._without_gaps("retrain", self.retrained, None)
            gaps["avg_gap"] = _mean_distance((getattr(result, m), getattr(retrained, m)) for m in compared)
        return replace(result, **gaps)

    def _without_gaps(self, name: str, predictions: Mapping[str, Predictions], seconds: float | None) -> ModelResult:
        forget = predictions["forget"]
        divergence = self._rf_jsd(forget)
        return ModelResult(
            name=name,
            **{f"{split}_accuracy": predicted.accuracy for split, predicted in predictions.items()},
            mia_member_rate=_forget_member_rate(predictions),
            unseen_member_rate=_unseen_member_rate(predictions),
            jsd=self._jsd(forget),
            rf_jsd=divergence,
            rf_jsd_z=self.rf_jsd_null.z_score(divergence) if self.rf_jsd_null and divergence is not None else None,
            seconds=seconds,
        )

    def _jsd(self, forget: Predictions) -> float | None:
        if self.retrained is None:
            return None
        return float(jensen_shannon(forget.probabilities, self.retrained["forget"].probabilities).mean())

    def _rf_jsd(self, forget: Predictions) -> float | None:
        unseen = self.original.get("unseen")
        if unseen is None or not len(self._common_classes):
            return None
        return rf_jsd(
            RunningClassMeans.of(forget.probabilities, forget.labels),
            RunningClassMeans.of(unseen.probabilities, unseen.labels),
        ).value

    def _retrain_free_gap(self, result: ModelResult) -> float | None:
        """A retrained model treats the forget set as it treats unseen data, and the rest as the original did."""
        if self.class_wise or "unseen" not in self.original or "test" not in self.original:
            return None
        return _mean_distance(
            [
                (result.mia_member_rate, result.unseen_member_rate),
                (result.forget_accuracy, self.original["unseen"].accuracy),
                (result.retain_accuracy, self.original["retain"].accuracy),
                (result.test_accuracy, self.original["test"].accuracy),
            ]
        )


def _mean_distance(pairs) -> float | None:
    pairs = list(pairs)
    if any(value is None for pair in pairs for value in pair):
        return None
    return float(np.mean([abs(a - b) for a, b in pairs]))


def _entropies(predictions: Mapping[str, Predictions], *splits: str) -> np.ndarray:
    return np.concatenate([np.empty(0), *(predictions[split].entropy for split in splits if split in predictions)])


def _forget_member_rate(predictions: Mapping[str, Predictions]) -> float | None:
    non_members = _entropies(predictions, "unseen", "test")
    if not len(non_members):
        return None
    return member_rate(fit_attack(predictions["retain"].entropy, non_members), predictions["forget"].entropy)


def _unseen_member_rate(predictions: Mapping[str, Predictions]) -> float | None:
    others, unseen = _entropies(predictions, "test"), _entropies(predictions, "unseen")
    if not len(unseen) or len(others) + len(unseen) < 2:
        return None
    return held_out_member_rate(predictions["retain"].entropy, others, unseen)
