"""LoTUS: Large-scale machine unlearning with a Taste of Uncertainty (CVPR 2025, arXiv:2503.18314)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_lotus.functional.tensors import gumbel_perturbed, one_hot, soft_cross_entropy
from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Round, Run, Task, lotus_arguments
from hf_lotus.methods.rounds import Streams


@dataclass(frozen=True)
class LoTUS(GradientMethod):
    """Smooth the student's forget predictions until they are no surer than on unseen data (arXiv:2503.18314).

    Per sample x with student logits s and teacher logits t::

        loss(x) = − Σ_k target_k · log softmax(s)_k
        target  = gumbel_softmax(t, τ)          x forgotten: soft, fresh noise every time
        target  = gumbel_softmax(t, τ → 0⁺)     x retained: one-hot, sampled from softmax(t)
        τ_e     = exp(α · (Acc(student, D_f) − Acc(teacher, D_u)))     before every round e

    τ < 1 sharpens and τ > 1 smooths; both happen. The run stops before a round in which the student's forget accuracy
    is `stop_margin` or more below the teacher's accuracy on unseen data. Where whole classes are forgotten,
    Acc(teacher, D_u) is taken as 0 and no unseen set is needed.

    Attributes:
        alpha: α, how fast the temperature rises. The paper: 2; 8 for ResNet18 on CIFAR-10; 32 class-wise.
        retain_fraction: share of the retain set that takes part, drawn once. The paper: 0.3.
        stop_margin: how far below the bound the run stops. The paper: 0.01.
    """

    name: ClassVar[str] = "lotus"
    paper: ClassVar[Paper] = Paper(
        key="spartalis2025lotus",
        title="LoTUS: Large-Scale Machine Unlearning with a Taste of Uncertainty",
        authors="Spartalis, Christoforos N. and Semertzidis, Theodoros and Gavves, Efstratios and Daras, Petros",
        venue="CVPR",
        year=2025,
        arxiv="2503.18314",
    )

    alpha: float = 2.0
    retain_fraction: float = 0.3
    stop_margin: float = 0.01

    needs_teacher: ClassVar[bool] = True
    needs_unseen: ClassVar[bool] = True
    is_same_work: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # Accuracies differ by 1 at most, and exp(±80) is what float32 can hold and divide by.
        if not 0 < self.alpha <= 80:
            raise ValueError(f"alpha must lie between 0 and 80, got {self.alpha}. The paper uses 2, 8 and 32.")
        if not self.stop_margin >= 0:
            raise ValueError(f"stop_margin must be 0 or more, got {self.stop_margin}. The paper uses 0.01.")
        Streams(forget=True, retain_fraction=self.retain_fraction)  # checks retain_fraction

    def streams(self, task: Task) -> Streams:
        """The forget set and a part of the retain set, shuffled together."""
        return Streams(forget=True, retain_fraction=self.retain_fraction)

    def begin_round(self, run: Run, index: int) -> Round:
        """Set the temperature from the two accuracies, and stop below the bound."""
        forget_accuracy = run.student_accuracy("forget")
        bound = 0.0 if run.class_wise else run.teacher_accuracy("unseen")
        values = {
            "temperature": math.exp(self.alpha * (forget_accuracy - bound)),
            "forget_accuracy": forget_accuracy,
            "accuracy_bound": bound,
        }
        # Accuracies are quotients of counts: a difference of exactly the margin may be a rounding error above it.
        return Round(values, stop=forget_accuracy - bound <= -self.stop_margin + 1e-9)

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the sampled targets, shape (batch,)."""
        assert inputs.teacher_logits is not None
        perturbed = gumbel_perturbed(inputs.teacher_logits, inputs.generator)
        soft = torch.softmax(perturbed / inputs.round_values["temperature"], dim=1)
        hard = one_hot(perturbed.argmax(dim=1), soft)
        targets = torch.where(inputs.is_forget[:, None], soft, hard)
        return soft_cross_entropy(inputs.logits, targets)

    def default_arguments(self, task: Task) -> dict[str, object]:
        """The paper's."""
        return lotus_arguments(task)
