"""SalUn: any gradient method, restricted to the weights that matter to what is forgotten (arXiv:2310.12508)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from hf_lotus.evaluation.predictions import evaluation_mode
from hf_lotus.functional.tensors import summed_gradients, trainable_copy
from hf_lotus.methods.base import Batch, GradientMethod, LossInputs, Paper, Round, Run, Task, says_same_work
from hf_lotus.methods.random_labels import RandomLabels
from hf_lotus.methods.rounds import Pass, Streams


@dataclass(frozen=True)
class SalUn(GradientMethod):
    """Move only the salient weights (Fan et al., arXiv:2310.12508).

    The saliency of a weight is ``|Σ over D_f of ∂CE/∂θ|`` on the original model, in eval mode: of samples, so that a
    last batch that is not full counts for as many as it has, and the mask does not depend on the batch size. The
    `saliency` share of all weights with the largest may move, by the inner method; the others stay bit-identical,
    whatever the optimizer does.

    Attributes:
        inner: the method that moves them; the paper's relabels the forget set at random, true class included, anew
            every round. The LoTUS paper's "SalUn(LoTUS)" is ``SalUn(inner=LoTUS())``.
        saliency: share of the weights that may move. The paper: 0.5; the tables of LoTUS: 0.1.
    """

    name: ClassVar[str] = "salun"
    paper: ClassVar[Paper] = Paper(
        key="fan2024salun",
        title="SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image "
        "Classification and Generation",
        authors="Fan, Chongyu and Liu, Jiancheng and Zhang, Yihua and Wong, Eric and Wei, Dennis and Liu, Sijia",
        venue="ICLR",
        year=2024,
        arxiv="2310.12508",
    )

    inner: GradientMethod = field(default=RandomLabels(allow_true=True, redraw=True))
    saliency: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.inner, GradientMethod) and type(self.inner).parts is not GradientMethod.parts:
            raise TypeError(
                f"inner must unlearn the forget set as a whole, and {type(self.inner).__name__} splits it."
            )
        if not isinstance(self.inner, GradientMethod) or type(self.inner).mask is not GradientMethod.mask:
            raise TypeError(
                f"inner must be a gradient method such as LoTUS(), without a mask of its own as SalUn and SFRon have, "
                f"got {self.inner!r}."
            )
        if not 0 < self.saliency <= 1:
            raise ValueError(f"saliency must be above 0 and at most 1, got {self.saliency}. The paper uses 0.5.")

    def mask(self, run: Run) -> dict[str, Tensor]:
        """Parameter name → True for the weights that may move, `saliency` of all."""
        model = trainable_copy(run.teacher, run.student)
        with evaluation_mode(model):
            sums, _ = summed_gradients(model, run.batches("forget"), by_sample=True)
        sums = run.sum_over_ranks(sums)
        saliency = torch.cat([value.flatten() for value in sums.values()]).abs()
        chosen = torch.zeros_like(saliency, dtype=torch.bool)
        chosen[saliency.topk(max(round(self.saliency * len(saliency)), 1)).indices] = True
        parts = chosen.split([value.numel() for value in sums.values()])
        return {name: part.view_as(value) for (name, value), part in zip(sums.items(), parts, strict=True)}

    def default_arguments(self, task: Task) -> dict[str, object]:
        """For random labels the paper's: SGD 0.01, momentum 0.9, 10 rounds, batches of 256.

        Otherwise the inner method's.
        """
        if not isinstance(self.inner, RandomLabels):
            return self.inner.default_arguments(task)
        return {
            "learning_rate": 0.01,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "num_train_epochs": 10,
            "per_device_train_batch_size": 256,
        }

    # Everything else is the inner method's.

    @property
    def needs_teacher(self) -> bool:  # type: ignore[override]  # a constant elsewhere, the inner method's here
        """Whether the inner method's loss needs the original's logits."""
        return self.inner.needs_teacher

    @property
    def needs_unseen(self) -> bool:  # type: ignore[override]  # likewise
        """Whether the inner method needs unseen data."""
        return self.inner.needs_unseen

    @property
    def depends_on_length(self) -> bool:  # type: ignore[override]  # likewise
        """Whether the inner method's steps do."""
        return self.inner.depends_on_length

    @property
    def transform_asks_student(self) -> bool:  # type: ignore[override]  # likewise
        """Whether what the inner method shows is made by asking the student."""
        return self.inner.transform_asks_student

    @property
    def is_same_work(self) -> bool:  # type: ignore[override]  # likewise
        """Whether the inner method's steps are."""
        return says_same_work(self.inner)

    def streams(self, task: Task) -> Streams:
        """The inner method's data."""
        return self.inner.streams(task)

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """The inner method's passes."""
        return self.inner.passes(task, index)

    def prepare(self, run: Run) -> object:
        """What the inner method's batches need."""
        return self.inner.prepare(run)

    def begin_round(self, run: Run, index: int) -> Round:
        """The inner method's decision."""
        return self.inner.begin_round(run, index)

    def learning_rate_scale(self, task: Task, index: int) -> float:
        """The inner method's factor."""
        return self.inner.learning_rate_scale(task, index)

    def learning_rate_within(self, task: Task, index: int, share: float, rounds: float) -> float:
        """The inner method's factor."""
        return self.inner.learning_rate_within(task, index, share, rounds)

    def renews_teacher(self, task: Task, index: int) -> bool:
        """As the inner method."""
        return self.inner.renews_teacher(task, index)

    def may_end_with(self, task: Task, index: int) -> bool:
        """As the inner method."""
        return self.inner.may_end_with(task, index)

    def transform(self, batch: Batch, student: nn.Module) -> Batch:
        """What the inner method shows the student."""
        return self.inner.transform(batch, student)

    def loss(self, inputs: LossInputs) -> Tensor:
        """The inner method's loss, shape (batch,)."""
        return self.inner.loss(inputs)

    def round_distance(self, run: Run) -> float | None:
        """The inner method's distance."""
        return self.inner.round_distance(run)
