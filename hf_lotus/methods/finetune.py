"""Finetuning on what is retained: the baseline that hopes for catastrophic forgetting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hf_lotus.methods.base import GradientMethod, LossInputs, Task
from hf_lotus.methods.rounds import Streams


@dataclass(frozen=True)
class Finetune(GradientMethod):
    """Go on training with the true labels, on the retain set alone: ``loss(x) = CE(s, y)``, x ∈ D_r.

    Attributes:
        retain_fraction: share of the retain set that takes part, drawn once.
    """

    name: ClassVar[str] = "finetune"

    retain_fraction: float = 1.0

    is_same_work: ClassVar[bool] = True

    def streams(self, task: Task) -> Streams:
        """The retain set, shuffled."""
        return Streams(forget=False, retain_fraction=self.retain_fraction)

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the labels, shape (batch,)."""
        return F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")

    def default_arguments(self, task: Task) -> dict[str, object]:
        """The settings of the LoTUS tables (arXiv:2503.18314): SGD 1e-3, momentum 0.9, 10 rounds (ResNet) or 3."""
        resnet = task.is_batch_norm_model
        return {
            "learning_rate": 1e-3,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "num_train_epochs": 10 if resnet else 3,
            "per_device_train_batch_size": 128 if resnet else 32,
        }
