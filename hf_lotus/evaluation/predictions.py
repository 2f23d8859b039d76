"""One forward pass of a model over a split, and what it leaves behind for every metric.

Eval mode, evaluation transforms (no augmentation), float64 softmax; buffers such as BatchNorm's statistics are checked
to be unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from hf_lotus.data.batches import Collator, class_logits, model_columns, model_inputs
from hf_lotus.data.sized import sized
from hf_lotus.functional.membership import prediction_entropy
from hf_lotus.functional.weighting import weighted_by_class


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

    def accuracy_weighted(self, like: np.ndarray) -> float:
        """Accuracy with each class weighted by its share among the labels `like`; classes without samples left out."""
        return weighted_by_class(self.predicted == self.labels, self.labels, like)

    @property
    def kept_logits(self) -> np.ndarray:
        """The logits, where they must have been kept: float32, shape (samples, classes)."""
        assert self.logits is not None
        return self.logits

    @property
    def num_classes(self) -> int:
        """Classes of the model."""
        return self.kept_logits.shape[1]

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits in float64, shape (samples, classes)."""
        return torch.softmax(torch.from_numpy(self.kept_logits).double(), dim=1).numpy()


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


@torch.no_grad()  # not inference mode: weights gathered or moved within it could not be trained any more
def predict(
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 256,
    collator: Callable | None = None,
    keep_logits: bool = True,
    accelerator: Accelerator | None = None,
    description: str = "Predicting",
    progress: bool = True,
    num_workers: int = 0,
    device: torch.device | None = None,
) -> Predictions:
    """One forward pass of `model` over `dataset`.

    Args:
        model: a classifier whose output has `logits` of shape (batch, classes).
        dataset: `ReadyImages`, or samples of model inputs with a label.
        batch_size: samples per device and step.
        collator: how to collate samples that do not come as batches (a tokenizer's padding collator, say).
        keep_logits: keep them, or only accuracy and entropy.
        accelerator: if given, every rank takes its share and all ranks return the whole.
        description: label of the progress bar.
        progress: whether to show one.
        num_workers: loader processes.
        device: where to run; a model that is elsewhere is taken there, and back. Where it is, if None.

    Raises:
        ValueError: if the data set is empty, labels lie outside the model's classes, or logits have another shape.
        FloatingPointError: if logits are not finite.
    """
    size = len(sized(dataset))
    if size == 0:
        raise ValueError(f"There is nothing to measure: the data set is empty ({description}).")
    home = next(model.parameters()).device
    if device is not None and home != device:
        model.to(device)
    device = device or home
    finish = getattr(dataset, "finish", None)
    ranks, rank = (accelerator.num_processes, accelerator.process_index) if accelerator is not None else (1, 0)
    batches, own = _share(size, batch_size, ranks, rank)
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=Collator(model_columns(model), collator),
        num_workers=num_workers,
        # A loader draws a seed when it is iterated: not from the global state, which a resumed run must find the same.
        generator=torch.Generator(),
    )
    if ranks > 1:
        # Each rank's BatchNorm has seen other samples; what is measured is what will be saved, the first rank's.
        broadcast(list(model.buffers()))
    parts = []
    with evaluation_mode(model), accelerator.autocast() if accelerator is not None else nullcontext():
        hidden = not progress or rank > 0
        for number, batch in enumerate(tqdm(loader, desc=description, unit="batch", leave=False, disable=hidden)):
            labels = batch["labels"]
            batch = {name: value.to(device, non_blocking=True) for name, value in model_inputs(batch).items()}
            logits = class_logits(model(**(finish(batch) if finish else batch)), len(labels)).float().cpu()
            if number >= own:
                continue
            _check_labels(labels, logits.shape[1])
            entropy = prediction_entropy(torch.softmax(logits.double(), dim=1).numpy())
            kept = logits.numpy() if keep_logits else None
            parts.append(Predictions(labels.numpy(), logits.argmax(dim=1).numpy(), entropy, kept))
    if device != home:
        model.to(home)
    return _concatenate(gather_object(parts) if ranks > 1 else parts)


def _share(size: int, batch_size: int, ranks: int, rank: int) -> tuple[list[list[int]], int]:
    """The batches of a rank, and how many of them count.

    Every rank takes equally many: where weights are divided over ranks, each forward pass needs all of them. Those
    beyond the rank's share hold one sample, whose prediction is not kept.
    """
    bounds = [size * number // ranks for number in range(ranks + 1)]
    rows = list(range(bounds[rank], bounds[rank + 1]))
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    most = max(-(-(end - start) // batch_size) for start, end in zip(bounds, bounds[1:], strict=False))
    return batches + [[0]] * (most - len(batches)), len(batches)


def _check_labels(labels: torch.Tensor, num_classes: int) -> None:
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(
            f"Label {int(outside[0])} is outside the model's {num_classes} classes (0 to {num_classes - 1}). "
            "Use the label column that the model was trained on."
        )


def _concatenate(parts: list[Predictions]) -> Predictions:
    columns: dict[str, Any] = {}
    for field in fields(Predictions):
        values = [getattr(part, field.name) for part in parts]
        columns[field.name] = None if values[0] is None else np.concatenate(values)
    return Predictions(**columns)
