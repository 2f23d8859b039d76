"""One forward pass of a model over a split, and what it leaves behind for every metric.

Eval mode, evaluation transforms (no augmentation), float64 softmax; buffers such as BatchNorm's statistics are checked
to be unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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

from hf_lotus.data.batches import Collator, FiniteCheck, class_logits, model_columns, model_inputs
from hf_lotus.data.sized import sized
from hf_lotus.evaluation.captured_forward import replayed_forward
from hf_lotus.functional.weighting import weighted_by_class

# So much of what a pass leaves behind waits on the device before it is fetched.
_HELD_BYTES = 1 << 28


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
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for the block, each module's own mode restored after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for the block, each module's own mode restored after it, and buffers checked unchanged.

    Raises:
        RuntimeError: if the block changed a buffer, such as BatchNorm's running statistics.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with eval_mode(model):
        yield
    changed = _differing(buffers, dict(model.named_buffers()))
    if changed:
        raise RuntimeError(f"Evaluation changed the model's buffers ({', '.join(changed[:3])}); its figures are void.")


def _differing(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors that differ, asked of each device at once."""
    flags: dict[torch.device, dict[str, torch.Tensor]] = {}
    for name, value in after.items():
        flags.setdefault(value.device, {})[name] = (value != before[name].to(value.device)).any()
    return [
        name
        for found in flags.values()
        for name, differs in zip(found, torch.stack(list(found.values())).tolist(), strict=True)
        if differs
    ]


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
    capture: bool = True,
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
        capture: whether whole batches may pass by a graph, where the device is a GPU and the process is alone.

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
        pin_memory=device.type == "cuda",
        # A loader draws a seed when it is iterated: not from the global state, which a resumed run must find the same.
        generator=torch.Generator(),
    )
    if ranks > 1:
        # Each rank's BatchNorm has seen other samples; what is measured is what will be saved, the first rank's.
        broadcast(list(model.buffers()))
    parts = _Parts(keep_logits)
    replaying = replayed_forward(model, device, size // batch_size, capture and ranks == 1)
    precision = accelerator.autocast() if accelerator is not None else nullcontext()
    with evaluation_mode(model), precision, replaying as is_overwritten:
        hidden = not progress or rank > 0
        for number, batch in enumerate(tqdm(loader, desc=description, unit="batch", leave=False, disable=hidden)):
            labels = batch["labels"]
            batch = {name: value.to(device, non_blocking=True) for name, value in model_inputs(batch).items()}
            logits = class_logits(model(**(finish(batch) if finish else batch)), len(labels)).float()
            if number >= own:
                continue
            parts.add(labels, logits.clone() if is_overwritten else logits)
    if device != home:
        model.to(home)
    found = parts.taken()
    return concatenated(gather_object(found) if ranks > 1 else found)


class _Parts:
    """What batches leave behind, on the device until it is much: to fetch it batch by batch is to wait for each.

    Args:
        keep_logits: whether the logits are kept too.
    """

    def __init__(self, keep_logits: bool):
        self._keeps, self._finite = keep_logits, FiniteCheck()
        self._waiting: list[tuple[torch.Tensor, ...]] = []
        self._labels: list[torch.Tensor] = []
        self._bytes = self._classes = 0
        self._taken: list[Predictions] = []

    def add(self, labels: torch.Tensor, logits: torch.Tensor) -> None:
        """Take in a batch: labels on the host, shape (batch,), and float32 logits, shape (batch, classes)."""
        self._finite.see(logits)
        self._classes = logits.shape[1]
        if logits.device.type == "mps":
            logits = logits.cpu()  # MPS has no float64
        probabilities = torch.softmax(logits.double(), dim=1)
        # As `prediction_entropy`: a class without probability adds nothing, and nothing is no −0.
        entropy = -torch.xlogy(probabilities, probabilities).sum(dim=1) + 0.0
        held = (logits.argmax(dim=1), entropy, *([logits] if self._keeps else []))
        self._waiting.append(held)
        self._labels.append(labels)
        self._bytes += sum(value.nbytes for value in held)
        if self._bytes > _HELD_BYTES:
            self._fetch()

    def _fetch(self) -> None:
        """Copy what is on the device, each kind at once."""
        self._finite.ask()
        predicted, entropy, *logits = (torch.cat(values).cpu().numpy() for values in zip(*self._waiting, strict=True))
        labels = torch.cat(self._labels)
        _check_labels(labels, self._classes)
        self._taken.append(Predictions(labels.numpy(), predicted, entropy, logits[0] if logits else None))
        self._waiting, self._labels, self._bytes = [], [], 0

    def taken(self) -> list[Predictions]:
        """All of it, in order.

        Raises:
            FloatingPointError: if there were logits that are not finite; `add` raises it too, and so the next.
            ValueError: if a label is none of the model's.
        """
        if self._waiting:
            self._fetch()
        return self._taken


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


def concatenated(parts: list[Predictions]) -> Predictions:
    """Predictions of one split's parts, laid end to end."""
    columns: dict[str, Any] = {}
    for field in fields(Predictions):
        values = [getattr(part, field.name) for part in parts]
        columns[field.name] = None if values[0] is None else np.concatenate(values)
    return Predictions(**columns)
