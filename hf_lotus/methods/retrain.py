"""Retraining from scratch without the forget set: the gold standard that every gap is measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hf_lotus.functional.tensors import reinitialized
from hf_lotus.methods.base import GradientMethod, LossInputs, Round, Run, Task
from hf_lotus.methods.rounds import Streams


@dataclass(frozen=True)
class Retrain(GradientMethod):
    """Forget everything, then train on the retain set alone: ``loss(x) = CE(s, y)``, x ∈ D_r, from random weights.

    The training arguments should be those that the original model was trained with; the defaults here only train a
    small model reasonably. The random weights are drawn from the run's seed by the model's own initialisation.
    """

    name: ClassVar[str] = "retrain"
    writes_all_weights: ClassVar[bool] = True
    is_same_work: ClassVar[bool] = True

    def streams(self, task: Task) -> Streams:
        """All of the retain set, shuffled."""
        return Streams(forget=False, retain_fraction=1.0)

    def begin_round(self, run: Run, index: int) -> Round:
        """Before the first round, replace the student's weights by fresh ones."""
        if index == 0:
            run.student.load_state_dict(reinitialized(run.student, run.seed).state_dict())
        return Round()

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the labels, shape (batch,)."""
        return F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")

    def default_arguments(self, task: Task) -> dict[str, object]:
        """AdamW 1e-3 with a one-cycle-like cosine schedule, 20 rounds."""
        return {
            "learning_rate": 1e-3,
            "num_train_epochs": 20,
            "lr_scheduler_type": "cosine",
            "per_device_train_batch_size": 128,
        }
