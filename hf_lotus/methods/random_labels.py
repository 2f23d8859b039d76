"""Random labels: learn wrong labels for what is to be forgotten (amnesiac unlearning, arXiv:2010.10981)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor

from hf_lotus.functional.tensors import Draws, relabelled
from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Run, Task
from hf_lotus.methods.rounds import Streams
from hf_lotus.utils.seeds import LABELS, derived_seed


@dataclass(frozen=True)
class RandomLabels(GradientMethod):
    """Train on random labels for the forget set and true ones for the retain set (Graves et al., arXiv:2010.10981).

    With student logits s, over both sets shuffled together::

        loss(x) = CE(s, y')  x ∈ D_f, y' uniform over the wrong classes, drawn once
        loss(x) = CE(s, y)   x ∈ D_r

    The relabelling of SalUn (arXiv:2310.12508) differs in both fields: there y' may be the true class, and is drawn
    anew every round.

    Attributes:
        allow_true: whether y' may be the true class.
        redraw: whether y' is drawn anew every round.
        retain_fraction: share of the retain set that takes part, drawn once.
    """

    name: ClassVar[str] = "random_labels"
    paper: ClassVar[Paper] = Paper(
        key="graves2021amnesiac",
        title="Amnesiac Machine Learning",
        authors="Graves, Laura and Nagisetty, Vineel and Ganesh, Vijay",
        venue="AAAI",
        year=2021,
        arxiv="2010.10981",
    )

    allow_true: bool = False
    redraw: bool = False
    retain_fraction: float = 1.0

    is_same_work: ClassVar[bool] = True

    def __post_init__(self) -> None:
        Streams(forget=True, retain_fraction=self.retain_fraction)  # checks retain_fraction

    def streams(self, task: Task) -> Streams:
        """The forget set and the retain set, shuffled together."""
        return Streams(forget=True, retain_fraction=self.retain_fraction)

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
        """The paper's: Adam 1e-4, 3 rounds."""
        return {
            "learning_rate": 1e-4,
            "weight_decay": 0.0,
            "num_train_epochs": 3,
            "per_device_train_batch_size": 128 if task.is_batch_norm_model else 32,
        }
