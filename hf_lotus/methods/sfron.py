"""SFRon: now and then a step up on what is forgotten, where it matters more than the rest (arXiv:2409.19732)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_lotus.evaluation.predictions import evaluation_mode
from hf_lotus.functional.tensors import summed_gradients, trainable_copy
from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Run, Task
from hf_lotus.methods.rounds import Pass

# A sample of no loss at all has no gradient either: its weight must only be finite.
_LEAST_LOSS = 1e-12


@dataclass(frozen=True)
class SFRon(GradientMethod):
    """Ascend by salient weights on every fifth step, descend on all steps (Huang et al., arXiv:2409.19732).

    A round is one pass over the retain set. Before its first and every k-th step after it comes a step on forget
    samples, which start over when they run out::

        forget steps:   loss(x) = −α_t · w(x) · CE(s, y),   w(x) = CE(s, y)^−λ held constant        x ∈ D_f
                        only weights with F_f / F_r ≥ γ move; the gradient is clipped to `max_norm`
        retain steps:   loss(x) = CE(s, y)                                                          x ∈ D_r
        α_t = α · (1 + cos(π t/T)) / 2,   t/T the share of the run that is over

    F is the diagonal Fisher information of the original on the forget or the retain set, as in SSD: the mean over
    batches of the squared gradient of the batch's mean cross-entropy, in eval mode, and so depends on the batch size.
    In a forget step the other weights stay bit-identical, whatever the optimizer does; in a retain step all move, and
    with `mask_retain` none but the masked ones ever does. One optimizer serves both kinds of steps.

    The authors' code divides w by its mean over the batch. Here that constant is left to α, so that accumulated
    batches and ranks give the step of one large batch.

    Refused with FSDP and DeepSpeed, which divide the weights that the mask holds.

    Attributes:
        alpha: α, the weight of the ascent in the beginning. The authors' code: 25 for 10 % of CIFAR-10.
        lam: λ, how much less a sample counts the higher its loss is already. The paper: 0.5.
        gamma: γ, how much more a weight must matter to the forget set to move. The paper: 1.
        forget_every: k, retain steps for each forget step. The authors' code: 5.
        max_norm: norm to which the gradient of a forget step is clipped. The authors' code: 7.
        mask_retain: hold the unmasked weights in retain steps too.
    """

    name: ClassVar[str] = "sfron"
    paper: ClassVar[Paper] = Paper(
        key="huang2024unified",
        title="Unified Gradient-Based Machine Unlearning with Remain Geometry Enhancement",
        authors="Huang, Zhehao and Cheng, Xinwen and Zheng, JingHao and Wang, Haoran and He, Zhengbao and Li, Tao and "
        "Huang, Xiaolin",
        venue="NeurIPS",
        year=2024,
        arxiv="2409.19732",
    )

    depends_on_length: ClassVar[bool] = True

    alpha: float = 1.0
    lam: float = 0.5
    gamma: float = 1.0
    forget_every: int = 5
    max_norm: float = 7.0
    mask_retain: bool = False

    def __post_init__(self) -> None:
        for name in ("alpha", "lam", "gamma"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, got {getattr(self, name)}.")
        self._pass  # noqa: B018 - checks forget_every and max_norm

    @property
    def _pass(self) -> Pass:
        return Pass(forget_every=self.forget_every, max_norm=self.max_norm, masks_retain=self.mask_retain)

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """One pass over the retain set, with steps on forget samples in between."""
        return (self._pass,)

    def prepare(self, run: Run) -> int:
        """T, in rounds."""
        return run.num_rounds

    def mask(self, run: Run) -> dict[str, Tensor]:
        """Parameter name → True for the weights that matter γ times as much to the forget set as to the retain set."""
        forget, retain = self._fisher(run, "forget"), self._fisher(run, "retain")
        return {name: forget[name] >= self.gamma * retain[name] for name in forget}

    def _fisher(self, run: Run, split: str) -> dict[str, Tensor]:
        model = trainable_copy(run.teacher, run.student)
        with evaluation_mode(model):
            sums, count = summed_gradients(model, run.batches(split), power=2)
        summed = run.sum_over_ranks({**sums, "": count})
        return {name: summed[name] / summed[""] for name in sums}

    def strength(self, index: int, share: float, rounds: int) -> float:
        """α_t, after the `share` of round `index` (from 0) of so many `rounds`."""
        return self.alpha * (1 + math.cos(math.pi * min((index + share) / rounds, 1.0))) / 2

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the labels; of forget samples weighted and negative; shape (batch,)."""
        cross_entropy = F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")
        weights = cross_entropy.detach().clamp_min(_LEAST_LOSS) ** -self.lam
        strength = self.strength(inputs.round_index, inputs.round_share, cast(int, inputs.state))
        return torch.where(inputs.is_forget, -strength * weights, 1.0) * cross_entropy

    def default_arguments(self, task: Task) -> dict[str, object]:
        """SGD with momentum 0.9, 3 rounds, at 0.01 for models with BatchNorm and 1e-3 for others.

        The authors' code takes 0.01 with a cosine schedule for 1,500 retain steps of 128 (ResNet18, CIFAR-10).
        """
        return {
            "learning_rate": 0.01 if task.is_batch_norm_model else 1e-3,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "num_train_epochs": 3,
            "per_device_train_batch_size": 128 if task.is_batch_norm_model else 32,
        }
