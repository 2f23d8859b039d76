"""MUNBa: each step is what the retain and the forget gradient would bargain for (arXiv:2411.15537)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_lotus.functional.tensors import Draws, relabelled
from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Run, Task
from hf_lotus.methods.rounds import Pass
from hf_lotus.utils.seeds import LABELS, derived_seed

# From this cosine on, what is left of 1 + cos is the rounding of float32 gradients, and no direction.
_OPPOSED = -1 + 1e-6


@dataclass(frozen=True)
class MUNBa(GradientMethod):
    """Descend along the Nash bargain of two gradients (Wu and Harandi, arXiv:2411.15537).

    A round is one pass over the retain set; each of its batches is joined by a batch of forget samples, which start
    over when they run out. Each side has a forward and a backward pass of its own, which BatchNorm tells::

        g_r = ∇ mean CE(s, y | D_r)          g_f = ∇ mean CE(s, y' | D_f),  y' random
        step along  α_r g_r + α_f g_f,       α_i = 1 / (‖g_i‖ √(1 + cos∠(g_r, g_f)))

    The gradients are those of the whole optimizer step: summed over accumulated batches, averaged over ranks. The step
    has the same cosine √((1 + cos∠)/2) with both of them, so that neither side loses to first order, and its length is
    √2 whatever they are: it does not shrink as the losses do, and the learning rate alone says how far a step goes.

    Where the two oppose each other (cos∠ = −1) there is no direction in which both gain, and none is taken: both
    weights are 0. (An optimizer's momentum and weight decay still move the model.) Where one of the gradients is zero
    the step is along the other, at length 1. The authors' closed form divides by g_r·g_f, which is unstable where the
    two are orthogonal; this one is not.

    Refused with FSDP and DeepSpeed, which divide the gradients.

    Attributes:
        allow_true: whether y' may be the true class.
        redraw: whether y' is drawn anew every round.
    """

    name: ClassVar[str] = "munba"
    paper: ClassVar[Paper] = Paper(
        key="wu2025munba",
        title="MUNBa: Machine Unlearning via Nash Bargaining",
        authors="Wu, Jing and Harandi, Mehrtash",
        venue="ICCV",
        year=2025,
        arxiv="2411.15537",
    )

    allow_true: bool = True
    redraw: bool = True

    needs_whole_weights: ClassVar[str | None] = "weighs the whole gradients of both sides"

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """One pass over the retain set, in pairs of batches whose gradients bargain."""
        return (Pass(paired=True, bargain=nash_weights),)

    def prepare(self, run: Run) -> Callable[[int], Tensor]:
        """Round → the draws of that round, one integer for each forget sample, shape (num_forget,)."""
        return Draws(partial(derived_seed, run.seed, LABELS), run.num_forget)

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the drawn labels (forget) or the true ones (retain), shape (batch,)."""
        assert inputs.positions is not None
        index = inputs.round_index if self.redraw else 0
        draws = cast(Draws, inputs.state)(index, inputs.labels.device)  # what `prepare` gave
        drawn = draws[inputs.positions % len(draws)]  # of retained samples it means nothing
        labels = relabelled(inputs.labels, inputs.is_forget, drawn, inputs.logits.shape[1], self.allow_true)
        return F.cross_entropy(inputs.logits.float(), labels, reduction="none")

    def default_arguments(self, task: Task) -> dict[str, object]:
        """SGD without momentum, 3 rounds: 0.01 for models with BatchNorm, which a step moves by 0.014; else 1e-3.

        Chosen without retraining (docs/default_rates.csv).
        The authors' code takes 0.01, momentum 0.9, 10 rounds and batches of 256, and clips the step to length 1.
        """
        return {
            "learning_rate": 0.01 if task.is_batch_norm_model else 1e-3,
            "optim": "sgd",
            "num_train_epochs": 3,
            "per_device_train_batch_size": 128 if task.is_batch_norm_model else 32,
        }


def nash_weights(retain: Tensor, forget: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor]:
    """The weights of two gradients in their Nash bargain, from their norms and their cosine.

    Args:
        retain: norm of the retain gradient, shape ().
        forget: norm of the forget gradient, shape ().
        cosine: of the angle between them, 0 where one of them is zero; shape ().

    Returns:
        (α_r, α_f); both 0 where the gradients oppose each other, and 0 for a gradient that is zero.
    """
    share = torch.where(cosine > _OPPOSED, (1 + cosine).rsqrt(), 0.0)
    return torch.where(retain > 0, share / retain, 0.0), torch.where(forget > 0, share / forget, 0.0)
