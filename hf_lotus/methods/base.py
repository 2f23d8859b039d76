"""What a method is: a frozen dataclass of its paper's symbols with a few hooks that the trainer calls.

The state of a run lives with the trainer, never on the method, so one method object can serve many runs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.methods.rounds import Pass, Streams

# Weights from which on a transformer counts as large.
_LARGE = 10_000_000
# Families of convolutional models with BatchNorm, for which the papers train at higher rates than for transformers.
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Task:
    """What is to be unlearned, as far as it is known before anything is run.

    Attributes:
        model: the model to unlearn.
        class_wise: whether whole classes are forgotten: no retained sample has a forgotten sample's class.
        num_labels: the model's number of classes, where its configuration says so.
        forget_classes: the classes of the forget set, in order.
        num_retain: samples of the retain set.
        num_forget: samples of the forget set.
        kind: what the samples are, "image" or "text"; None where they are model inputs of the user's.
    """

    model: nn.Module
    class_wise: bool
    num_labels: int | None
    forget_classes: tuple[int, ...] = ()
    num_retain: int = 0
    num_forget: int = 0
    kind: str | None = None

    @property
    def is_batch_norm_model(self) -> bool:
        """Whether the model normalises by batch statistics, as ResNets do and transformers do not."""
        return any(isinstance(module, _BATCH_NORM) for module in self.model.modules())

    @property
    def is_large_transformer(self) -> bool:
        """Whether the model has no BatchNorm and so many weights that it was trained on other data before.

        ViT-B/16 has 86 million, a model that was trained from scratch on small images a hundredth of that. At the
        rates that suit the latter, the former loses what it was pretrained for.
        """
        return not self.is_batch_norm_model and sum(p.numel() for p in self.model.parameters()) >= _LARGE


class Run(Protocol):
    """What a method may ask of the run it is in.

    Attributes:
        task: what is unlearned.
        student: the model being unlearned.
        teacher: the frozen original model, or the student as it was when it last became the teacher.
        teacher_is_renewed: whether it did.
        class_wise: whether whole classes are forgotten.
        seed: seed of the run.
        num_rounds: rounds that the run is to begin, be it stopped before or not.
        num_forget: forget samples of a round; their positions are the first.
        input_range: lowest and highest value of the model's image inputs, each of shape (channels, 1, 1), or None
            where the inputs are no images or were made by the user.
        round_state: `Round.state` of the last decision; empty before the first.
        prepared: what `GradientMethod.prepare` returned.
        parts: what `GradientMethod.parts` returned.
        renewed_before: the round before which the student last became the teacher; None where it did not.
        num_samples: samples of a round; positions from there on repeat one before.
        rank: number of this process.
        ranks: how many processes there are.
    """

    task: Task
    class_wise: bool
    seed: int

    @property
    def student(self) -> nn.Module:
        """The model being unlearned."""

    @property
    def teacher(self) -> nn.Module:
        """The frozen original model, or the student as it was when it last became the teacher."""

    @property
    def teacher_is_renewed(self) -> bool:
        """Whether the student became the teacher since."""

    @property
    def num_rounds(self) -> int:
        """Rounds that the run is to begin, be it stopped before or not."""

    @property
    def num_forget(self) -> int:
        """Forget samples of a round; their positions are the first."""

    @property
    def input_range(self) -> tuple[Tensor, Tensor] | None:
        """Lowest and highest value of the model's image inputs, if there are any; each of shape (channels, 1, 1)."""

    @property
    def round_state(self) -> Mapping[str, Tensor]:
        """`Round.state` of the last decision; empty before the first."""

    @property
    def prepared(self) -> object:
        """What `GradientMethod.prepare` returned."""

    @property
    def rank(self) -> int:
        """Number of this process."""

    @property
    def ranks(self) -> int:
        """How many processes there are."""

    @property
    def parts(self) -> Tensor | None:
        """What `GradientMethod.parts` returned."""

    @property
    def renewed_before(self) -> int | None:
        """The round before which the student last became the teacher; None where it did not."""

    @property
    def num_samples(self) -> int:
        """Samples of a round; positions from there on repeat one before."""

    def student_accuracy(self, split: str) -> float:
        """Exact accuracy of the student on a split ("forget", "retain", "unseen"), over all ranks, in eval mode."""

    def teacher_accuracy(self, split: str, like: str | None = None) -> float:
        """The same of the teacher, measured once; with each class weighted as in the split `like`, if given."""

    def teacher_predictions(self, split: str, rows: Sequence[int] | None = None) -> Predictions:
        """The labels and logits of the teacher, on every rank: on all of "forget" or "unseen", in order, and kept.

        Or on some rows of a split, "retain" too; those are not kept.
        """

    def student_predictions(self, split: str) -> Predictions:
        """The same of the student, as it is: labels and logits on "forget" or "unseen", in eval mode."""

    def labels(self, split: str) -> Tensor:
        """The true class of every sample of "forget", "retain" or "unseen", int64, shape (samples,)."""

    def example(self, split: str) -> dict[str, Tensor]:
        """The model inputs of the first batch of a split, the same on every rank."""

    def inputs(self, split: str, rows: Sequence[int]) -> dict[str, Tensor]:
        """The model inputs of some rows of a split, in this order, on the device: evaluation transforms."""

    def batches(
        self, *splits: str, rows: Mapping[str, Sequence[int]] | None = None
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """This rank's share of the batches of the splits, shuffled together once: (model inputs, labels).

        Evaluation transforms, training batch size. The batches are the same on any number of ranks. Of a split that
        `rows` names only those rows take part.
        """

    def sum_over_ranks(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each tensor summed over all ranks."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One training batch, on the device.

    Attributes:
        inputs: the model's inputs by name, such as "pixel_values" of shape (batch, channels, height, width).
        labels: true classes, shape (batch,).
        is_forget: True for samples of the forget set, shape (batch,).
        positions: the samples' places among the round's samples, shape (batch,); below the run's `num_forget` for
            forget samples, and the same in every round.
        round_index: the round, from 0.
        round_share: how much of the round is over before this optimizer step, from 0 to below 1.
        round_values: what `begin_round` returned for this round.
        state: what `prepare` returned for this run.
        round_state: `Round.state` of this round, on the batch's device.
        generator: source of the batch's random numbers, on the batch's device.
        num_forget: how many samples are of the forget set, where the host knows it; None where it must be counted,
            for which it waits for the device. A `transform` that changes `is_forget` gives both.
    """

    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    labels: Tensor
    is_forget: Tensor
    positions: Tensor | None = None
    round_index: int = 0
    round_share: float = 0.0
    round_values: Mapping[str, float] = field(default_factory=dict)
    state: object = None
    round_state: Mapping[str, Tensor] = field(default_factory=dict)
    generator: torch.Generator | None = None
    num_forget: int | None = None

    @property
    def forgotten(self) -> int:
        """How many samples are of the forget set."""
        return int(self.is_forget.sum()) if self.num_forget is None else self.num_forget

    def rows(self, forget: bool) -> Tensor:
        """The rows of one side in the batch, rising, shape (samples of the side,): indices that the device finds."""
        return rows_of_side(self.is_forget, self.forgotten, forget)


def rows_of_side(is_forget: Tensor, forgotten: int, forget: bool) -> Tensor:
    """The rows of one side in a batch, rising. A mask would do, but for it the host has to wait for its count.

    Args:
        is_forget: True for samples of the forget set, shape (batch,).
        forgotten: how many they are.
        forget: which side.
    """
    if forgotten in (0, len(is_forget)):
        whole = forget == (forgotten > 0)
        return torch.arange(len(is_forget) if whole else 0, device=is_forget.device)
    order = is_forget.byte().argsort(stable=True)
    first = len(order) - forgotten
    return order[first:] if forget else order[:first]


@dataclass(frozen=True, kw_only=True)
class LossInputs(Batch):
    """One training batch after the forward pass, as the loss of a method sees it.

    Attributes:
        logits: of the student, shape (batch, classes), with gradient.
        teacher_logits: of the frozen original model, the same shape, or None unless `needs_teacher`.
    """

    logits: Tensor
    teacher_logits: Tensor | None = None


@dataclass(frozen=True)
class Round:
    """The decision before a round.

    Attributes:
        values: numbers that the round's loss needs; logged, and saved with every checkpoint.
        stop: True to end the run before this round.
        state: tensors that the round's loss needs, or the next decision (`Run.round_state`): the same on every rank.
            Saved with every checkpoint, to the bit, and not logged.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    stop: bool = False
    state: Mapping[str, Tensor] = field(default_factory=dict)


def lotus_arguments(task: Task) -> dict[str, object]:
    """The LoTUS paper's: 10 rounds at 1e-4 for ResNets, 3 rounds at 1e-6 and batches of 32 for transformers."""
    if task.is_batch_norm_model:
        return {"learning_rate": 1e-4, "num_train_epochs": 10, "per_device_train_batch_size": 128}
    return {"learning_rate": 1e-6, "num_train_epochs": 3, "per_device_train_batch_size": 32}


def recovery_arguments(task: Task) -> dict[str, object]:
    """For a finetuning that must bring a model back: what it may be trained at, falling to 0 by a cosine.

    SGD 0.05 with BatchNorm; else AdamW, 1e-3 for small transformers and 5e-5 for large ones.
    """
    common: dict[str, object] = {"lr_scheduler_type": "cosine", "weight_decay": 5e-4}
    if task.is_batch_norm_model:
        sgd = {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.05}
        return {**common, **sgd, "num_train_epochs": 10, "per_device_train_batch_size": 128}
    rate, rounds, batch = (5e-5, 3, 32) if task.is_large_transformer else (1e-3, 10, 64)
    return {**common, "learning_rate": rate, "num_train_epochs": rounds, "per_device_train_batch_size": batch}


@dataclass(frozen=True)
class Paper:
    """What a method is cited by.

    Attributes:
        key: of the BibTeX entry.
        title: of the paper.
        authors: "Last, First and Last, First", as BibTeX has them.
        venue: conference or journal.
        year: of publication.
        arxiv: number on arXiv.
    """

    key: str
    title: str
    authors: str
    venue: str
    year: int
    arxiv: str


class RefusedModel(ValueError):
    """A method that is not defined for a model was asked to unlearn it."""


class UnlearningMethod(ABC):  # noqa: B024 - its two kinds have the abstract methods
    """Any way to unlearn: a frozen dataclass of a paper's symbols, with what the trainer must know of it.

    Either a `GradientMethod` or a `WeightEdit`.

    Attributes:
        name: what the command line, recipes and tables call it; None for one that is only used from Python, which
            goes by its class's name.
        paper: what it is cited by, where there is a paper.
        needs_teacher: whether the loss needs the original model's logits on the training batches.
        needs_unseen: whether unseen data is needed, unless whole classes are forgotten.
        depends_on_length: whether its steps depend on how many rounds there are to be: a run that was broken off can
            then be made neither longer nor shorter.
        writes_all_weights: whether it writes to weights, trained or not, other than by gradient steps: it is then
            refused where an adapter alone may change.
        needs_whole_weights: why every device must have all weights, where it must: the end of "it …". They are then
            not divided where FSDP or DeepSpeed are asked for, and the run is refused where they do not fit.
    """

    name: ClassVar[str | None] = None
    paper: ClassVar[Paper | None] = None
    needs_teacher: ClassVar[bool] = False
    needs_unseen: ClassVar[bool] = False
    depends_on_length: ClassVar[bool] = False
    writes_all_weights: ClassVar[bool] = False
    needs_whole_weights: ClassVar[str | None] = None

    if TYPE_CHECKING:  # its kinds that can be made are dataclasses, all of them
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def default_arguments(self, task: Task) -> dict[str, object]:
        """Training arguments for this method and task where the user leaves them open."""
        return {}

    def refusal(self, task: Task) -> str | None:
        """Why the method is not defined for this task, to end a sentence with; None where it is."""
        return None


class WeightEdit(UnlearningMethod):
    """An unlearning method that edits the weights once and takes no gradient steps."""

    @abstractmethod
    def edit(self, run: Run) -> dict[str, float]:
        """Edit `run.student` in place; return what to log of it."""


class GradientMethod(UnlearningMethod):
    """An unlearning method that takes gradient steps on a loss, round after round. Only `loss` must be written.

    Attributes:
        transform_asks_student: whether `transform` does, where it is overridden.
        is_same_work: whether `transform` and `loss` call the same operators for every batch of a shape in a round, so
            that a step can be recorded on a GPU and replayed. They then ask neither how many samples of a side a batch
            has (`Batch.num_forget`, `forgotten`, `rows`) nor for `round_share`, and draw from `Batch.generator` alone.
    """

    transform_asks_student: ClassVar[bool] = True
    is_same_work: ClassVar[bool] = False

    def streams(self, task: Task) -> Streams:
        """The data of the run; by default the forget set and all of the retain set."""
        return Streams(forget=True, retain_fraction=1.0)

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """The passes of round `index` (from 0) over that data; by default one over all of it, shuffled together."""
        streams = self.streams(task)
        return (Pass(forget=streams.forget, retain=streams.retain_fraction > 0),)

    def parts(self, run: Run) -> Tensor | None:
        """The number of the part that each forget sample belongs to, where passes take one part alone (`Pass.part`).

        Called once, before `prepare`, while the teacher is the original model. It must depend only on that, the data
        and the seed.

        Returns:
            int64, shape (num_forget,), the same on every rank; or None.
        """
        return None

    def prepare(self, run: Run) -> object:
        """What the run's batches need besides: called when training starts, and again when it is resumed.

        It must depend only on the original model, the data and the seed, so that a resumed run gets the same.
        """
        return None

    def mask(self, run: Run) -> Mapping[str, Tensor] | None:
        """Which weights may move: parameter name → True where it may; None for all. The rest stay bit-identical."""
        return None

    def begin_round(self, run: Run, index: int) -> Round:
        """Decide, before round `index` (from 0), what its loss needs and whether it takes place at all."""
        return Round()

    def learning_rate_scale(self, task: Task, index: int) -> float:
        """Factor on the learning rate in round `index`."""
        return 1.0

    def learning_rate_within(self, task: Task, index: int, share: float, rounds: float) -> float:
        """Factor on the learning rate after the `share` of round `index` (0 to 1), of so many `rounds` in all.

        By default that of the round. It multiplies the schedule of the training arguments, step by step.
        """
        return self.learning_rate_scale(task, index)

    def renews_teacher(self, task: Task, index: int) -> bool:
        """Whether the student, as it is before round `index`, becomes the teacher from then on.

        `prepare` is then called again, before the round is decided.
        """
        return False

    def may_end_with(self, task: Task, index: int) -> bool:
        """Whether the run may end with the weights of round `index`: where not, it is not measured to be chosen."""
        return True

    def transform(self, batch: Batch, student: nn.Module) -> Batch:
        """Replace what the student is shown; by default nothing. The teacher's logits are those of the batch given."""
        return batch

    @abstractmethod
    def loss(self, inputs: LossInputs) -> Tensor:
        """The loss of each sample, shape (batch,).

        The trainer averages it over all samples of an optimizer step, on all ranks; in a paired pass, over each side
        on its own, and adds the two means.
        """

    def round_distance(self, run: Run) -> float | None:
        """How far the student is, after a round, from where it should be; None for methods that do not rewind.

        Where it is given, the run ends with the weights of the round with the least distance.
        """
        return None


def says_same_work(method: UnlearningMethod) -> bool:
    """Whether a method says of its own `loss` and `transform` that they are the same work for every batch.

    One that overrides either without a word of its own does not: what it inherits was said of others.
    """
    kinds = type(method).__mro__

    def giver(name: str) -> int:
        return next((number for number, kind in enumerate(kinds) if name in vars(kind)), len(kinds))

    said = bool(getattr(method, "is_same_work", False))
    return said and giver("is_same_work") <= min(giver("loss"), giver("transform"))
