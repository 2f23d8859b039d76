"""DELETE: imitate the original with the forgotten class struck out (arXiv:2503.23751)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Task
from hf_lotus.methods.rounds import Streams


@dataclass(frozen=True)
class Delete(GradientMethod):
    """Distil on the forget set what the original says of all other classes (Zhou et al., arXiv:2503.23751).

    With logits s of the student, t of the original and the label y, on the forget set alone::

        target  = softmax(t with t_y = −∞)        0 for y, and for the others in proportion as before
        loss(x) = KL(target ‖ softmax(s))         x ∈ D_f

    No retained sample is shown, and no unseen data is needed: what is kept of the rest is what the original says of it
    on D_f. The paper forgets classes. The loss is one of samples, and so the method takes any forget set; of a random
    one every sample is made to be misclassified, which a model that was trained without it would not do, so that few
    rounds are in place there. A model of a single class leaves no other, and is refused.
    """

    name: ClassVar[str] = "delete"
    paper: ClassVar[Paper] = Paper(
        key="zhou2025decoupled",
        title="Decoupled Distillation to Erase: A General Unlearning Method for Any Class-centric Tasks",
        authors="Zhou, Yu and Zheng, Dian and Mo, Qijie and Lu, Renjie and Lin, Kun-Yu and Zheng, Wei-Shi",
        venue="CVPR",
        year=2025,
        arxiv="2503.23751",
    )

    needs_teacher: ClassVar[bool] = True
    is_same_work: ClassVar[bool] = True

    def streams(self, task: Task) -> Streams:
        """The forget set alone."""
        return Streams(forget=True, retain_fraction=0.0)

    def loss(self, inputs: LossInputs) -> Tensor:
        """Divergence from the original without the label, shape (batch,).

        Raises:
            ValueError: if there is no class but the label's.
        """
        assert inputs.teacher_logits is not None
        targets = without_label(inputs.teacher_logits, inputs.labels)
        log_probabilities = F.log_softmax(inputs.logits.float(), dim=1)
        # Where a target is zero its term is zero, whatever the student says.
        return (torch.xlogy(targets, targets) - targets * log_probabilities).sum(dim=1)

    def default_arguments(self, task: Task) -> dict[str, object]:
        """SGD 1e-3, momentum 0.9, 10 rounds for whole classes; 2 for samples, of models with BatchNorm at 3e-3.

        Chosen without retraining (docs/default_rates.csv). A model that knows its data by heart breaks sooner than the
        one of that table. Public code: 0.01, 10 rounds.
        """
        return {
            "learning_rate": 3e-3 if task.is_batch_norm_model and not task.class_wise else 1e-3,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "num_train_epochs": 10 if task.class_wise else 2,
            "per_device_train_batch_size": 128 if task.is_batch_norm_model else 32,
        }


def without_label(logits: Tensor, labels: Tensor) -> Tensor:
    """``softmax(t with t_y = −∞)``: zero for the label, and the other classes in proportion as they were.

    Args:
        logits: t, shape (batch, classes).
        labels: y, shape (batch,).

    Returns:
        distributions, float32, shape (batch, classes).

    Raises:
        ValueError: if there is only one class.
    """
    if logits.shape[1] < 2:
        raise ValueError(
            "DELETE strikes the label out of the classes, and this model has no other. Give it two or more."
        )
    return logits.float().scatter(1, labels[:, None], -torch.inf).softmax(dim=1)
