"""Margin matching: LoTUS's bound, met by every sample (this project's own; docs/margin_matching.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_lotus.functional.margins import fitted_temperature, margins, matched_margins
from hf_lotus.functional.tensors import gumbel_perturbed, soft_cross_entropy
from hf_lotus.methods.base import GradientMethod, LossInputs, Run, Task, lotus_arguments
from hf_lotus.methods.rounds import Streams


@dataclass(frozen=True)
class MarginMatching(GradientMethod):
    """Make the student as sure of each forget sample as the original is of unseen samples of its class.

    With teacher logits z, true class y and the margin ``m(x) = z_y − max_{k≠y} z_k``; F_c and U_c the distributions
    of m over the forget and the unseen samples of class c::

        z'_y    = z_y + (U_c⁻¹(F_c(m(x))) − m(x)),   z'_k = z_k   (k ≠ y)
        target  = softmax(z' / T)       x ∈ D_f
        target  = one-hot, sampled from softmax(z)       x ∈ D_r, as in LoTUS (arXiv:2503.18314)
        loss(x) = − Σ_k target_k · log softmax(s)_k

    The shifts of z_y are worked out once, from the original's logits under evaluation transforms. Augmented, a sample
    keeps its shift: its own logits are lowered as far as those of the image itself.

    Where whole classes are forgotten, no unseen sample tells what a model without them would say. It would give them
    no probability at all: z'_y = −∞, and no unseen set is needed.

    Attributes:
        temperature: T. At 1 the target is as sure as the original is of unseen samples, overconfident or not.
        fit_temperature: take as T the temperature that calibrates the original on the unseen set.
        pool_below: a class with fewer forget or unseen samples than this moves in part, and without any altogether,
            as all classes do together.
        retain_fraction: share of the retain set that takes part, drawn once.
    """

    name: ClassVar[str] = "margin_matching"

    temperature: float = 1.0
    fit_temperature: bool = False
    pool_below: int = 200
    retain_fraction: float = 0.3

    needs_teacher: ClassVar[bool] = True
    needs_unseen: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0 and finite, got {self.temperature}.")
        if self.fit_temperature and self.temperature != 1:
            raise ValueError(f"Give temperature ({self.temperature}) or fit_temperature, not both.")
        if self.pool_below < 1:
            raise ValueError(
                f"pool_below must be 1 or more samples, got {self.pool_below}; 1 pools only empty classes."
            )
        Streams(forget=True, retain_fraction=self.retain_fraction)  # checks retain_fraction

    def streams(self, task: Task) -> Streams:
        """The forget set and a part of the retain set, shuffled together."""
        return Streams(forget=True, retain_fraction=self.retain_fraction)

    def prepare(self, run: Run) -> Targets:
        """The shift of each forget sample's true logit, and T: one forward pass of the original over both sets.

        Raises:
            ValueError: if T is to be fitted where whole classes are forgotten, or no unseen sample has the class of a
                forget sample.
        """
        if run.class_wise:
            if self.fit_temperature:
                raise ValueError("fit_temperature needs unseen samples of the forgotten classes. Give temperature.")
            return Targets(torch.full((run.num_forget,), -math.inf), self.temperature)
        forget, unseen = (run.teacher_predictions(split) for split in ("forget", "unseen"))
        assert forget.logits is not None and unseen.logits is not None
        before = margins(forget.logits, forget.labels)
        there = margins(unseen.logits, unseen.labels)
        shifts = matched_margins(before, forget.labels, there, unseen.labels, self.pool_below) - before
        fitted = fitted_temperature(unseen.logits, unseen.labels) if self.fit_temperature else self.temperature
        return Targets(torch.from_numpy(shifts).float(), fitted)

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the matched (forget) or the sampled targets (retain), shape (batch,)."""
        assert inputs.teacher_logits is not None and inputs.positions is not None
        state = cast(Targets, inputs.state)  # what `prepare` gave
        teacher, forget = inputs.teacher_logits.float(), inputs.is_forget
        sampled = F.one_hot(gumbel_perturbed(teacher, inputs.generator).argmax(dim=1), teacher.shape[1]).float()
        shifts = state.shifts[inputs.positions.cpu() % len(state.shifts)].to(teacher)
        moved = teacher.scatter_add(1, inputs.labels[:, None], shifts[:, None])
        matched = torch.softmax(moved / state.temperature, dim=1)
        return soft_cross_entropy(inputs.logits, torch.where(forget[:, None], matched, sampled))

    def default_arguments(self, task: Task) -> dict[str, object]:
        """LoTUS's."""
        return lotus_arguments(task)


class Targets(NamedTuple):
    """What makes a forget sample's target of the teacher's logits.

    Attributes:
        shifts: of the true class's logit, one for each forget sample, shape (num_forget,).
        temperature: T.
    """

    shifts: Tensor
    temperature: float
