"""From a data set to batches of model inputs: one collator for whole batches and for lists of samples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import default_data_collator

from hf_lotus.data.columns import LABEL_NAMES, read_labels
from hf_lotus.data.sized import sized

# What a round adds to each sample and the loss takes off again: its side, and its place in the round's data.
FORGET_FLAG, POSITION = "is_forget", "position"


def model_columns(model: nn.Module) -> frozenset[str]:
    """Names of the inputs that the model's `forward` takes, labels included."""
    if hasattr(model, "get_base_model"):  # PEFT's wrapper takes whatever the model within it takes
        model = cast(Any, model).get_base_model()
    return frozenset(inspect.signature(model.forward).parameters) | frozenset(LABEL_NAMES)


class Collator:
    """Make a batch of whatever a data set's `__getitems__` gives.

    A mapping is a batch already and passes. A list of samples is stripped of the columns that the model does not
    take, as `Trainer` does with `remove_unused_columns`, and collated.

    Args:
        columns: the columns to keep (`model_columns`).
        collator: how to collate samples; transformers' `default_data_collator` if None.
    """

    def __init__(self, columns: frozenset[str], collator: Callable | None = None):
        self.columns = columns | {FORGET_FLAG, POSITION}
        self.collator = collator or default_data_collator

    def __call__(self, batch: Mapping[str, Tensor] | Sequence[Mapping]) -> dict[str, Tensor]:
        """Return the batch as a dictionary of tensors with the labels under "labels"."""
        if not isinstance(batch, Mapping):
            samples = [{name: value for name, value in sample.items() if name in self.columns} for sample in batch]
            batch = self.collator(samples)
        return dict(batch)


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The batch without the labels, with which a model would compute its own loss, and without what a round adds."""
    return {name: value for name, value in batch.items() if name not in (*LABEL_NAMES, FORGET_FLAG, POSITION)}


def class_logits(outputs: object, batch_size: int) -> Tensor:
    """The logits of a model's output, checked to be one row of class scores a sample.

    Whether they are finite the device alone knows: `FiniteCheck` asks it.

    Raises:
        TypeError: if the output has no `logits`.
        ValueError: if they are not of shape (batch, classes).
    """
    logits = getattr(outputs, "logits", None)
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"The model's output ({type(outputs).__name__}) has no `logits`. "
            "Use a classifier such as AutoModelForImageClassification."
        )
    if logits.ndim != 2 or logits.shape[0] != batch_size or logits.shape[1] < 2:
        raise ValueError(
            f"Logits must have shape (batch, classes), here ({batch_size}, 2 or more), got {tuple(logits.shape)}. "
            "Only single-label classifiers can be unlearned."
        )
    return logits


class FiniteCheck:
    """Whether all logits so far were finite: the flag stays on their device until it is asked for.

    To look at it batch by batch would have the host wait for the device at every one. It stays in one place for good:
    a step that a graph replays goes on writing there.
    """

    def __init__(self) -> None:
        self._flag: Tensor | None = None

    def see(self, logits: Tensor) -> None:
        """Take in the logits of a batch."""
        finite = torch.isfinite(logits.detach()).all()
        if self._flag is None:
            self._flag = finite
        else:
            self._flag.logical_and_(finite)

    def ask(self) -> None:
        """Wait for the device, and begin anew.

        Raises:
            FloatingPointError: if there were logits that are not finite.
        """
        if self._flag is not None and not self._flag:
            self._flag.fill_(True)
            raise FloatingPointError(
                "The model gave logits that are not finite. Lower the learning rate, or use bf16 instead of fp16."
            )


def read_dataset_labels(dataset: Any) -> Tensor:
    """The label of every sample, as int64 of shape (samples,), without making model inputs where that can be helped.

    Raises:
        ValueError: if the samples have no label column, or not one integer each.
    """
    labels = getattr(dataset, "labels", None)
    if labels is None:
        names = getattr(dataset, "column_names", None)
        if (
            isinstance(dataset, Dataset)
            and dataset.format["type"] == "custom"
            and not {*dataset.column_names} & {*LABEL_NAMES}
        ):
            names = None  # a transform of the user's may make the label from another column: the samples tell
        name = next((n for n in LABEL_NAMES if n in (names if names is not None else dataset[0])), None)
        if name is None:
            raise ValueError(f"The samples have no label; one of {', '.join(LABEL_NAMES)} is needed.")
        if names is not None:
            return torch.from_numpy(read_labels(dataset, name))
        labels = [dataset[row][name] for row in range(len(sized(dataset)))]
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Labels must be one integer a sample, got others: {error}.") from error
    size = len(sized(dataset))
    if len(labels) != size:
        raise ValueError(f"The data set has {size} samples and {len(labels)} labels; give one for each.")
    if labels.ndim != 1 or labels.is_floating_point():
        raise ValueError(f"Labels must be one integer a sample, got {labels.dtype} of shape {tuple(labels.shape)}.")
    return labels.long()
