"""NegGrad+: gradient ascent on what is forgotten, held in check by descent on what is kept (arXiv:2302.09880)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Task
from hf_lotus.methods.rounds import Pass


@dataclass(frozen=True)
class NegGradPlus(GradientMethod):
    """Descend on retain and ascend on forget batches in one step (Kurmanji et al., arXiv:2302.09880).

    A round is one pass over the retain set; each of its batches is joined by a batch of forget samples, which start
    over when they run out. With student logits s and labels y, a step minimises::

        α · mean CE(s, y | D_r) − (1 − α) · mean CE(s, y | D_f)

    so that its gradient is α∇L_r − (1 − α)∇L_f. As in the authors' code each side has a forward pass of its own, which
    BatchNorm tells.

    Attributes:
        alpha: α, the weight of what is kept. The paper: 0.95 at small scale, 0.9999 at large scale.
    """

    name: ClassVar[str] = "neggrad_plus"
    paper: ClassVar[Paper] = Paper(
        key="kurmanji2023towards",
        title="Towards Unbounded Machine Unlearning",
        authors="Kurmanji, Meghdad and Triantafillou, Peter and Hayes, Jamie and Triantafillou, Eleni",
        venue="NeurIPS",
        year=2023,
        arxiv="2302.09880",
    )

    alpha: float = 0.95

    is_same_work: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {self.alpha}. The paper uses 0.95 and 0.9999.")

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """One pass over the retain set, in pairs of batches."""
        return (Pass(paired=True, separate_forward=True),)

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the labels, weighted α (retain) and α − 1 (forget), shape (batch,)."""
        cross_entropy = F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")
        return torch.where(inputs.is_forget, self.alpha - 1.0, self.alpha) * cross_entropy

    def default_arguments(self, task: Task) -> dict[str, object]:
        """The paper's at small scale: SGD 0.01 without weight decay, 10 rounds."""
        return {
            "learning_rate": 0.01,
            "optim": "sgd",
            "weight_decay": 0.0,
            "num_train_epochs": 10,
            "per_device_train_batch_size": 128 if task.is_batch_norm_model else 32,
        }
