"""Warm restart: first really forget, then unlearn by any method (this project's own)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple, TypeVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from hf_lotus.data.images import Augmentation
from hf_lotus.methods.base import Batch, GradientMethod, LossInputs, Paper, Round, Run, Task, says_same_work
from hf_lotus.methods.margin_matching import MarginMatching
from hf_lotus.methods.rounds import Pass, Streams

AnyBatch = TypeVar("AnyBatch", bound=Batch)

# Rounds of matching after a restart, and the share of its steps over which the inner method's rate rises.
_MATCHING_ROUNDS, _INNER_WARMUP = 3, 0.05
# So many samples a restart shows, within these numbers of rounds: four epochs of CIFAR-10.
_RESTART_SAMPLES, _FEWEST_ROUNDS = 180_000, 4


@dataclass(frozen=True)
class WarmRestart(GradientMethod):
    """Let go of what was memorised by training on, at the rate of the first training; then unlearn by another method.

    Finetuning at a small rate keeps what a model knows by heart, and a model that only hides it relearns it in one
    round. One cycle of SGDR (arXiv:1608.03983) lets go of it::

        rounds 1 … n:   loss(x) = CE(s, y),  x ∈ D_r,  augmented as in the first training
                        rate = learning_rate · (rises over 10 % of n, falls to 0 by a cosine)
        rounds n+1 …:   the inner method, rate = learning_rate · inner_scale · (rises over 5 %, falls by a cosine)

    The restarted model is the inner method's teacher, and all that it measures of a teacher is measured of it: what
    the original says of D_f is what is to be forgotten, and its targets would teach it back, ranks of memorisation
    included. One optimizer serves both: its state after a rate that has fallen to zero is that of a model at rest.

    `num_train_epochs` counts the rounds of both phases. In the log, "restart" and "unlearn" name them. A round to end
    with is chosen among the second phase's, and early stopping counts only those.

    Attributes:
        inner: the method of the second phase; not one that masks weights.
        restart_rounds: n, rounds of the restart. Default: 4 rounds of 45,000 samples, more of fewer, up to 15 for
            BatchNorm models and 10 for others; 1 for large transformers.
        inner_scale: the inner method's rate, as a share of the restart's.
        restart_flip: mirror images at random in the restart. Default: for models with BatchNorm.
        restart_crop: pad images by so many pixels in the restart, and crop them at random.
    """

    name: ClassVar[str] = "warm_restart"
    paper: ClassVar[Paper] = Paper(
        key="loshchilov2017sgdr",
        title="SGDR: Stochastic Gradient Descent with Warm Restarts",
        authors="Loshchilov, Ilya and Hutter, Frank",
        venue="ICLR",
        year=2017,
        arxiv="1608.03983",
    )

    inner: GradientMethod = field(default=MarginMatching())
    restart_rounds: int | None = None
    inner_scale: float = 0.2
    restart_flip: bool | None = None
    restart_crop: int = 0

    # The rates of both phases do.
    depends_on_length: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.inner, GradientMethod) or isinstance(self.inner, WarmRestart):
            raise TypeError(f"inner must be a gradient method such as MarginMatching(), got {self.inner!r}.")
        if type(self.inner).mask is not GradientMethod.mask:
            raise TypeError(
                f"inner must not hold weights still, as {type(self.inner).__name__} does: a restart moves them all."
            )
        if self.restart_rounds is not None and self.restart_rounds < 1:
            raise ValueError(f"restart_rounds must be 1 or more, got {self.restart_rounds}.")
        if not 0 < self.inner_scale < math.inf:
            raise ValueError(f"inner_scale must be above 0 and finite, got {self.inner_scale}.")
        if self.restart_crop < 0:
            raise ValueError(f"restart_crop must be 0 or more pixels, got {self.restart_crop}.")

    @property
    def needs_teacher(self) -> bool:  # type: ignore[override]  # a constant elsewhere, the inner method's here
        """Whether the inner method's loss needs the teacher's logits."""
        return self.inner.needs_teacher

    @property
    def needs_unseen(self) -> bool:  # type: ignore[override]  # likewise
        """Whether the inner method needs unseen data."""
        return self.inner.needs_unseen

    @property
    def is_same_work(self) -> bool:  # type: ignore[override]  # likewise
        """Whether the inner method's steps are."""
        return says_same_work(self.inner)

    def rounds(self, task: Task) -> int:
        """Rounds of the restart."""
        if self.restart_rounds is not None:
            return self.restart_rounds
        if task.is_large_transformer:
            return 1
        most = 15 if task.is_batch_norm_model else 10
        return min(max(round(_RESTART_SAMPLES / max(task.num_retain, 1)), _FEWEST_ROUNDS), most)

    def streams(self, task: Task) -> Streams:
        """The inner method's forget samples, and all of the retain set."""
        return replace(self.inner.streams(task), forget=True, retain_fraction=1.0, retain_per_class=None)

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """One pass over the retain set, or the inner method's passes."""
        before = self.rounds(task)
        if index >= before:
            inner = self.inner.passes(task, index - before)
            return tuple(replace(one, name=one.name or "unlearn") for one in inner)
        flip = task.is_batch_norm_model if self.restart_flip is None else self.restart_flip
        augmentation = Augmentation(flip, self.restart_crop) if flip or self.restart_crop else None
        return (Pass(forget=False, needs_teacher=False, augmentation=augmentation, name="restart"),)

    def renews_teacher(self, task: Task, index: int) -> bool:
        """The restarted model is the inner method's teacher."""
        return index == self.rounds(task)

    def may_end_with(self, task: Task, index: int) -> bool:
        """Only rounds of the second phase."""
        before = self.rounds(task)
        return index >= before and self.inner.may_end_with(task, index - before)

    def prepare(self, run: Run) -> Restarted:
        """What the inner method prepares, once the restarted model is there to measure."""
        return Restarted(self.rounds(run.task), self.inner.prepare(run) if run.teacher_is_renewed else None)

    def begin_round(self, run: Run, index: int) -> Round:
        """The inner method's decision, in its rounds."""
        before = self.rounds(run.task)
        return self.inner.begin_round(_as_inner(run), index - before) if index >= before else Round()

    def learning_rate_within(self, task: Task, index: int, share: float, rounds: float) -> float:
        """A rise and a cosine in each of the two phases."""
        before = self.rounds(task)
        if index < before:
            return rise_and_fall((index + share) / before, 0.1)
        left = max(rounds - before, 1.0)
        own = self.inner.learning_rate_scale(task, index - before)
        return self.inner_scale * own * rise_and_fall(min((index - before + share) / left, 1.0), _INNER_WARMUP)

    def transform(self, batch: Batch, student: nn.Module) -> Batch:
        """What the inner method shows the student, in its rounds."""
        if batch.round_index < _restarted(batch).before:
            return batch
        shown = self.inner.transform(_of_inner(batch), student)
        return replace(shown, round_index=batch.round_index, state=batch.state)

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the labels, or the inner method's loss; shape (batch,)."""
        if inputs.round_index < _restarted(inputs).before:
            return F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")
        return self.inner.loss(_of_inner(inputs))

    def round_distance(self, run: Run) -> float | None:
        """The inner method's distance."""
        return self.inner.round_distance(_as_inner(run))

    def default_arguments(self, task: Task) -> dict[str, object]:
        """What such models are trained at: SGD 0.1, Nesterov momentum 0.9 with BatchNorm; else AdamW.

        AdamW's rate is 5e-3 for small transformers and 1e-4 for large ones. Margin matching takes three rounds after
        the restart, another inner method its own number.
        """
        inner = self.inner.default_arguments(task)
        after = _MATCHING_ROUNDS if isinstance(self.inner, MarginMatching) else inner.get("num_train_epochs", 3)
        common: dict[str, object] = {"num_train_epochs": self.rounds(task) + cast(float, after), "weight_decay": 5e-4}
        if task.is_batch_norm_model:
            sgd = {"optim": "sgd", "optim_args": "momentum=0.9,nesterov=True", "learning_rate": 0.1}
            return {**common, **sgd, "per_device_train_batch_size": 128}
        large = task.is_large_transformer
        rate, batch = (1e-4, 32) if large else (5e-3, 64)
        return {**common, "learning_rate": rate, "per_device_train_batch_size": batch}


class Restarted(NamedTuple):
    """What a run prepares.

    Attributes:
        before: rounds of the restart.
        inner: what the inner method prepared; None before its first round.
    """

    before: int
    inner: object


class _InnerRun:
    """The run as the inner method sees it: what was prepared is its own."""

    def __init__(self, run: Run):
        self._run = run

    @property
    def prepared(self) -> object:
        return cast(Restarted, self._run.prepared).inner

    @property
    def num_rounds(self) -> int:
        return self._run.num_rounds - cast(Restarted, self._run.prepared).before

    def __getattr__(self, name: str) -> object:
        return getattr(self._run, name)


def _as_inner(run: Run) -> Run:
    return cast(Run, _InnerRun(run))  # all that is not its own it takes from the run


def _restarted(batch: Batch) -> Restarted:
    return cast(Restarted, batch.state)  # what `prepare` gave


def _of_inner(batch: AnyBatch) -> AnyBatch:
    """A batch as the inner method sees it: its own state, and its rounds counted from 0."""
    state = _restarted(batch)
    return replace(batch, round_index=batch.round_index - state.before, state=state.inner)


def rise_and_fall(done: float, warmup: float) -> float:
    """A factor that rises in a straight line to 1 over the share `warmup`, and falls to 0 by a cosine after it.

    Args:
        done: how much is over, from 0 to 1.
        warmup: share of the rise, above 0 and below 1.
    """
    if done < warmup:
        return done / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
