"""What a method is: a frozen dataclass of its paper's symbols with a few hooks that the trainer calls.

The state of a run lives with the trainer, never on the method, so one method object can serve many runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from hf_lotus.rounds import Streams

# Families of convolutional models with BatchNorm, for which the papers train at higher rates than for transformers.
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class LossInputs:
    """One batch, as the loss of a method sees it.

    Attributes:
        logits: of the student, shape (batch, classes), with gradient.
        teacher_logits: of the frozen original model, the same shape, or None unless `needs_teacher`.
        labels: true classes, shape (batch,).
        is_forget: True for samples of the forget set, shape (batch,).
        round_values: what `begin_round` returned for this round.
        generator: source of the batch's random numbers, on the batch's device.
    """

    logits: Tensor
    teacher_logits: Tensor | None
    labels: Tensor
    is_forget: Tensor
    round_values: Mapping[str, float]
    generator: torch.Generator


class Run(Protocol):
    """What a method may ask of the run it is in, between rounds.

    Attributes:
        student: the model being unlearned.
        class_wise: whether whole classes are forgotten: no retained sample has a forgotten sample's class.
        seed: seed of the run.
    """

    student: nn.Module
    class_wise: bool
    seed: int

    def student_accuracy(self, split: str) -> float:
        """Exact accuracy of the student on a split ("forget", "retain", "unseen"), over all ranks, in eval mode."""

    def teacher_accuracy(self, split: str) -> float:
        """The same of the teacher, which does not change and is therefore measured once."""


@dataclass(frozen=True)
class Round:
    """The decision before a round.

    Attributes:
        values: numbers that the round's loss needs; logged, and saved with every checkpoint.
        stop: True to end the run before this round.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    stop: bool = False


class GradientMethod(ABC):
    """An unlearning method that takes gradient steps on a loss, round after round.

    Subclasses are frozen dataclasses of the paper's symbols. Only `loss` must be written.
    """

    needs_teacher: ClassVar[bool] = False
    needs_unseen: ClassVar[bool] = False

    def streams(self) -> Streams:
        """The data of a round; by default the forget set and all of the retain set."""
        return Streams(forget=True, retain_fraction=1.0)

    def begin_round(self, run: Run, index: int) -> Round:
        """Decide, before round `index` (from 0), what its loss needs and whether it takes place at all."""
        return Round()

    @abstractmethod
    def loss(self, inputs: LossInputs) -> Tensor:
        """The loss of each sample, shape (batch,); the trainer averages it over the whole batch on all ranks."""

    def default_arguments(self, model: nn.Module) -> dict[str, object]:
        """Training arguments for this method and model family where the user leaves them open."""
        return {}


def is_batch_norm_model(model: nn.Module) -> bool:
    """Whether the model normalises by batch statistics, as ResNets do and transformers do not."""
    return any(isinstance(module, _BATCH_NORM) for module in model.modules())
