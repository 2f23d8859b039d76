"""Bad Teacher: imitate an ignorant model on what is forgotten and the original on what is kept (arXiv:2205.08096)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from hf_lotus.functional.tensors import reinitialized, tempered_divergence
from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Run, Task
from hf_lotus.methods.rounds import Streams
from hf_lotus.utils.seeds import WEIGHTS, derived_seed


@dataclass(frozen=True)
class BadTeacher(GradientMethod):
    """Distil a random model on the forget set and the original on the retain set (Chundawat et al., arXiv:2205.08096).

    With logits s of the student, t of the original and b of a *bad teacher*, the same architecture with random weights
    throughout, per sample::

        loss(x) = KL(softmax(b/T) ‖ softmax(s/T))   x ∈ D_f
        loss(x) = KL(softmax(t/T) ‖ softmax(s/T))   x ∈ D_r

    summed over the classes. (The authors' code also divides by the number of classes; that is not offered here.)

    Attributes:
        temperature: T.
        retain_fraction: share of the retain set that takes part, drawn once. The paper: 0.3.
    """

    name: ClassVar[str] = "bad_teacher"
    paper: ClassVar[Paper] = Paper(
        key="chundawat2023bad",
        title="Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks Using an Incompetent Teacher",
        authors="Chundawat, Vikram S. and Tarun, Ayush K. and Mandal, Murari and Kankanhalli, Mohan",
        venue="AAAI",
        year=2023,
        arxiv="2205.08096",
    )

    temperature: float = 1.0
    retain_fraction: float = 0.3

    needs_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}. The paper uses 1.")
        Streams(forget=True, retain_fraction=self.retain_fraction)  # checks retain_fraction

    def streams(self, task: Task) -> Streams:
        """The forget set and a part of the retain set, shuffled together."""
        return Streams(forget=True, retain_fraction=self.retain_fraction)

    def prepare(self, run: Run) -> nn.Module:
        """The bad teacher: random weights drawn from the run's seed, in eval mode, without gradients."""
        # The original may have been trained from the weights of the run's own seed.
        return reinitialized(run.teacher, derived_seed(run.seed, WEIGHTS)).eval().requires_grad_(False)

    def loss(self, inputs: LossInputs) -> Tensor:
        """Divergence from the teacher of each sample's side, shape (batch,)."""
        assert inputs.teacher_logits is not None
        targets = inputs.teacher_logits
        if inputs.forgotten:
            rows = inputs.rows(forget=True)
            bad_teacher = cast(nn.Module, inputs.state)  # what `prepare` gave
            with torch.no_grad():
                bad = bad_teacher(**{name: value[rows] for name, value in inputs.inputs.items()}).logits
            targets = targets.index_copy(0, rows, bad.to(targets.dtype))
        return tempered_divergence(targets, inputs.logits, self.temperature)

    def default_arguments(self, task: Task) -> dict[str, object]:
        """The paper's: Adam 1e-4, 1 round, batches of 256."""
        return {
            "learning_rate": 1e-4,
            "weight_decay": 0.0,
            "num_train_epochs": 1,
            "per_device_train_batch_size": 256,
        }
