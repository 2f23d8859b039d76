"""A method in one run: the place where each of its hooks is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from hf_lotus.data.batches import FiniteCheck, class_logits
from hf_lotus.methods import Batch, GradientMethod, LossInputs, Round, Task, UnlearningMethod, WeightEdit, name_of
from hf_lotus.methods.base import Run
from hf_lotus.methods.rounds import Pass, Streams


class MethodHooks:
    """Every call that a run makes of its method, in the order in which a run comes to them.

        edit                            once, of a `WeightEdit`, in place of all the others
        streams                         once, when the trainer is made
        parts                           once, while the teacher is the original model
        prepare, mask                   once, when training starts or is resumed
        passes, learning_rate_within    whenever the batches of a round or the rate of a step are asked for
        renews_teacher, begin_round     before each round; `prepare` and `mask` once more in between where it does
        transform, loss                 for each batch, with the student's forward pass in between
        may_end_with, round_distance    after each round

    Args:
        method: the unlearning method.
        task: what is unlearned.

    Attributes:
        state: what `prepare` last returned for this run.
        finite: whether the student's logits were finite so far.
    """

    def __init__(self, method: UnlearningMethod, task: Task):
        self.method, self.task = method, task
        self.state: object = None
        self.finite = FiniteCheck()
        self._parts: tuple[Tensor | None] | None = None

    @property
    def edits(self) -> bool:
        """Whether the method edits the weights once, and there are no rounds."""
        return isinstance(self.method, WeightEdit)

    @property
    def _stepping(self) -> GradientMethod:
        assert isinstance(self.method, GradientMethod)
        return self.method

    def edit(self, run: Run) -> dict[str, float]:
        """Edit the weights; what to log of it."""
        assert isinstance(self.method, WeightEdit)
        return self.method.edit(run)

    def streams(self) -> Streams:
        """The data of the run."""
        return Streams(forget=True, retain_fraction=1.0) if self.edits else self._stepping.streams(self.task)

    def parts(self, run: Run) -> Tensor | None:
        """The number of each forget sample's part, asked once; None where there are none."""
        if self._parts is None:
            self._parts = (self._stepping.parts(run),)
        return self._parts[0]

    def prepare(self, run: Run) -> None:
        """Make what the run's batches need besides."""
        self.parts(run)
        self.state = self._stepping.prepare(run)

    def mask(self, run: Run) -> Mapping[str, Tensor] | None:
        """Which weights may move; None for all."""
        return self._stepping.mask(run)

    def passes(self, index: int) -> Sequence[Pass]:
        """The passes of a round."""
        return self._stepping.passes(self.task, index)

    def learning_rate_within(self, index: int, share: float, rounds: float) -> float:
        """Factor on the learning rate after a share of a round, of so many rounds in all."""
        return self._stepping.learning_rate_within(self.task, index, share, rounds)

    def renews_teacher(self, index: int) -> bool:
        """Whether the student becomes the teacher before a round."""
        return self._stepping.renews_teacher(self.task, index)

    def may_end_with(self, index: int) -> bool:
        """Whether the run may end with the weights of a round."""
        return self._stepping.may_end_with(self.task, index)

    def begin_round(self, run: Run, index: int) -> Round:
        """The decision before a round."""
        return self._stepping.begin_round(run, index)

    def losses(
        self,
        given: Batch,
        student: nn.Module,
        forward: Callable[[Batch], object],
        teacher_logits: Callable[[Batch], Tensor] | None,
    ) -> tuple[Tensor, Batch, object]:
        """The loss of each sample of a batch.

        Args:
            given: the batch as it was drawn.
            student: the model being unlearned, without wrappers.
            forward: batch → the student's outputs, with gradient.
            teacher_logits: batch → the teacher's logits, asked only where the method needs them; None where the pass
                does not.

        Returns:
            the losses, shape (batch,); the batch as the student was shown it; and the student's outputs.

        Raises:
            ValueError: if the method does not give one value a sample.
        """
        batch = self._stepping.transform(given, student)
        if batch.is_forget is not given.is_forget and batch.num_forget == given.num_forget:
            batch = replace(batch, num_forget=None)  # a method that tells the sides anew, and not how many they are
        outputs = forward(batch)
        known = teacher_logits(given) if teacher_logits is not None and self.method.needs_teacher else None
        logits = class_logits(outputs, len(batch.labels))
        self.finite.see(logits)
        per_sample = self._stepping.loss(LossInputs(**vars(batch), logits=logits, teacher_logits=known))
        if per_sample.shape != batch.labels.shape:
            raise ValueError(
                f"{name_of(self.method)}.loss must give one value a sample, shape {tuple(batch.labels.shape)}, "
                f"got {tuple(per_sample.shape)}. Do not average: the trainer does, over the optimizer step."
            )
        return per_sample, batch, outputs

    def round_distance(self, run: Run) -> float | None:
        """How far the student is from where it should be; None where the run does not rewind."""
        return self._stepping.round_distance(run)
