"""SCRUB: disobey the original on what is forgotten, obey it on what is kept, in turn (arXiv:2302.09880)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_lotus.functional.tensors import tempered_divergence
from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Run, Task
from hf_lotus.methods.rounds import Pass


@dataclass(frozen=True)
class SCRUB(GradientMethod):
    """Alternate a *max* pass over the forget set and a *min* pass over the retain set (Kurmanji et al., 2302.09880).

    With student logits s, teacher logits t and ``KL_T(t, s) = T² · KL(softmax(t/T) ‖ softmax(s/T))``::

        max pass, in the first msteps rounds:   loss(x) = −KL_T(t, s)                      x ∈ D_f
        min pass, in every round, after it:     loss(x) = γ · CE(s, y) + α · KL_T(t, s)    x ∈ D_r

    The defaults are the paper's at large scale. At small scale it uses Adam at 5e-4 with weight decay 0.1, γ = 1,
    α = 0.5, T = 2, msteps = 3, 10 rounds, and `lr_decay_rounds` 5, 8 and 9. That Adam adds the decay to the gradient
    (coupled L2); the AdamW of transformers' `optim` takes it off the weights, which then differ. For the paper's pass
    `optimizers=(torch.optim.Adam(model.parameters(), lr=5e-4, weight_decay=0.1), None)` to the trainer.

    SCRUB+R (`rewind`) ends with the round whose forget accuracy is nearest to the accuracy on unseen data, each class
    weighted as in the forget set. The paper takes that reference from the last round's student; here it is the
    original's, which is known from the start, so that only the best round's weights are kept. Where whole classes are
    forgotten it is 0.

    Attributes:
        alpha: α, the weight of the divergence on the retain set.
        gamma: γ, the weight of the cross-entropy on the retain set.
        temperature: T.
        msteps: rounds that begin with a max pass.
        forget_batch_size: batch size per device of the max pass.
        lr_decay_rounds: rounds (counted from 1) after which the learning rate is divided by ten.
        rewind: end with the best round instead of the last (SCRUB+R).
    """

    name: ClassVar[str] = "scrub"
    paper: ClassVar[Paper] = Paper(
        key="kurmanji2023towards",
        title="Towards Unbounded Machine Unlearning",
        authors="Kurmanji, Meghdad and Triantafillou, Peter and Hayes, Jamie and Triantafillou, Eleni",
        venue="NeurIPS",
        year=2023,
        arxiv="2302.09880",
    )

    alpha: float = 0.001
    gamma: float = 0.99
    temperature: float = 4.0
    msteps: int = 2
    forget_batch_size: int = 32
    lr_decay_rounds: tuple[int, ...] = ()
    rewind: bool = False

    needs_teacher: ClassVar[bool] = True
    is_same_work: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("alpha", "gamma", "msteps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, got {getattr(self, name)}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}. The paper uses 2 and 4.")
        Pass(forget_batch_size=self.forget_batch_size)  # checks it
        object.__setattr__(self, "lr_decay_rounds", tuple(self.lr_decay_rounds))  # a command line gives a list

    @property
    def needs_unseen(self) -> bool:  # type: ignore[override]  # a constant elsewhere, decided by a field here
        """Whether unseen data is needed: to rewind."""
        return self.rewind

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """The max pass, as long as it is due, then the min pass."""
        ascent = Pass(retain=False, forget_batch_size=self.forget_batch_size, name="max")
        descent = Pass(forget=False, name="min")
        return (ascent, descent) if index < self.msteps else (descent,)

    def learning_rate_scale(self, task: Task, index: int) -> float:
        """A tenth for each decay round that is over."""
        return 0.1 ** sum(index >= over for over in self.lr_decay_rounds)

    def loss(self, inputs: LossInputs) -> Tensor:
        """The max pass's loss for forget samples, the min pass's for retain samples, shape (batch,)."""
        assert inputs.teacher_logits is not None
        divergence = tempered_divergence(inputs.teacher_logits, inputs.logits, self.temperature) * self.temperature**2
        cross_entropy = F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")
        return torch.where(inputs.is_forget, -divergence, self.gamma * cross_entropy + self.alpha * divergence)

    def round_distance(self, run: Run) -> float | None:
        """With `rewind`, the distance of the forget accuracy from the accuracy on unseen data."""
        if not self.rewind:
            return None
        reference = 0.0 if run.class_wise else run.teacher_accuracy("unseen", like="forget")
        return abs(run.student_accuracy("forget") - reference)

    def default_arguments(self, task: Task) -> dict[str, object]:
        """The paper's at large scale: SGD 5e-4, momentum 0.9, 3 rounds, batches of 128; 1e-4 for whole classes.

        The batches of a class ascend in one direction, without a bound: with "cat" forgotten from a ResNet on
        CIFAR-10, 5e-4 leaves a retain accuracy of 0.12 and 1e-4 one of 0.94, with nothing left of the class either
        way.
        """
        return {
            "learning_rate": 1e-4 if task.class_wise else 5e-4,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "num_train_epochs": 3,
            "per_device_train_batch_size": 128,
        }
