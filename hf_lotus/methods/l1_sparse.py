"""ℓ1-sparse: finetune on what is retained, under a pull to few weights that lets go in the end (arXiv:2304.04934)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Round, Run, Task
from hf_lotus.methods.rounds import Streams


@dataclass(frozen=True)
class L1Sparse(GradientMethod):
    """Finetune with a penalty on the sum of all absolute weights (Jia et al., arXiv:2304.04934).

    In round e (from 0) of E, over the retain set, with θ all weights that are trained::

        loss(x) = CE(s, y) + α (1 − e/E) ‖θ‖₁       x ∈ D_r

    The penalty is there once in every optimizer step, however its samples are dealt out, and its coefficient is logged
    as each round's `coefficient`; E is the number of rounds that the run is given, early stopping left out. The forget
    set is never looked at: it counts only by being left out.

    Refused with FSDP and DeepSpeed, which divide the weights: a part of the norm would be counted for the whole.

    Attributes:
        alpha: α, the coefficient in the first round. Public code: 5e-4, for ResNet18 at a rate of 0.01.
        retain_fraction: share of the retain set that takes part, drawn once.
    """

    name: ClassVar[str] = "l1_sparse"
    paper: ClassVar[Paper] = Paper(
        key="jia2023model",
        title="Model Sparsity Can Simplify Machine Unlearning",
        authors="Jia, Jinghan and Liu, Jiancheng and Ram, Parikshit and Yao, Yuguang and Liu, Gaowen and Liu, Yang "
        "and Sharma, Pranay and Liu, Sijia",
        venue="NeurIPS",
        year=2023,
        arxiv="2304.04934",
    )

    alpha: float = 1e-5
    retain_fraction: float = 1.0

    depends_on_length: ClassVar[bool] = True
    is_same_work: ClassVar[bool] = True
    needs_whole_weights: ClassVar[str | None] = "sums up all weights in its loss"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be 0 or more and finite, got {self.alpha}. Public code uses 5e-4.")
        if not 0 < self.retain_fraction <= 1:
            raise ValueError(f"retain_fraction must lie between 0 and 1, and above 0, got {self.retain_fraction}.")

    def streams(self, task: Task) -> Streams:
        """The retain set, shuffled."""
        return Streams(forget=False, retain_fraction=self.retain_fraction)

    def prepare(self, run: Run) -> nn.Module:
        """The student itself, whose weights the penalty is of."""
        return run.student

    def begin_round(self, run: Run, index: int) -> Round:
        """The coefficient of the round, α (1 − e/E)."""
        return Round({"coefficient": self.alpha * (1 - index / run.num_rounds)})

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the labels, and the penalty, shape (batch,)."""
        cross_entropy = F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")
        student = cast(nn.Module, inputs.state)  # what `prepare` gave
        return cross_entropy + inputs.round_values["coefficient"] * l1_norm(student)

    def default_arguments(self, task: Task) -> dict[str, object]:
        """SGD 0.01, momentum 0.9, 10 rounds as in public code for models with BatchNorm; others 1e-3 and 3 rounds."""
        resnet = task.is_batch_norm_model
        return {
            "learning_rate": 0.01 if resnet else 1e-3,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "num_train_epochs": 10 if resnet else 3,
            "per_device_train_batch_size": 128 if resnet else 32,
        }


def l1_norm(model: nn.Module) -> Tensor:
    """The sum of the absolute values of all weights that are trained, float32, shape ()."""
    return torch.stack([p.float().abs().sum() for p in model.parameters() if p.requires_grad]).sum()
