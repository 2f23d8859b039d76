"""A part of the forget set as the method that unlearns it sees it: a run and batches of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.methods.base import Batch, GradientMethod, Run, Task

AnyBatch = TypeVar("AnyBatch", bound=Batch)


class Phase(NamedTuple):
    """The rounds of one part.

    Attributes:
        part: 0, 1 or 2.
        method: by which it is unlearned.
        task: the run's, with the number of samples of the part.
        start: its first round.
        stop: the first round after it; None for the last phase.
    """

    part: int
    method: GradientMethod
    task: Task
    start: int
    stop: int | None


class Refined(NamedTuple):
    """What a run prepares, and how positions are told to the method of a part, and back.

    Attributes:
        phase: the phase that it is for.
        rows: the forget samples of the part, rising, shape (part,).
        inwards_of: position in the round → position among the part's and all retained samples.
        outwards_of: the way back.
        inner: what the part's method prepared.
    """

    phase: Phase
    rows: Tensor
    inwards_of: Tensor
    outwards_of: Tensor
    inner: object = None

    @classmethod
    def of(cls, run: Run, phase: Phase) -> Refined:
        """Of a phase, before its method prepares anything."""
        assert run.parts is not None
        mine = run.parts == phase.part
        rows, others = mine.nonzero()[:, 0], (~mine).nonzero()[:, 0]
        # Its own samples first, as any method finds them; then the retained ones; those of other parts never come.
        outwards = torch.cat([rows, torch.arange(run.num_forget, run.num_samples), others])
        inwards = torch.empty_like(outwards)
        inwards[outwards] = torch.arange(len(outwards))
        device = next(run.student.parameters()).device  # where the batches are
        return cls(phase, rows, inwards.to(device), outwards.to(device))

    def inwards(self, batch: AnyBatch) -> AnyBatch:
        """A batch as the part's method sees it: its own state, positions and rounds."""
        index = batch.round_index - self.phase.start
        positions = _moved(batch.positions, self.inwards_of)
        return replace(batch, round_index=index, state=self.inner, positions=positions)

    def outwards(self, shown: Batch, given: Batch) -> Batch:
        """The batch that the part's method shows, as the run sees it."""
        positions = _moved(shown.positions, self.outwards_of)
        return replace(shown, round_index=given.round_index, state=given.state, positions=positions)


class _PartRun:
    """The run as the method of a part sees it: the forget set is the part, and what was prepared is its own."""

    def __init__(self, run: Run, state: Refined, begins: bool):
        self._run, self._state, self._begins = run, state, begins
        self.task, self.prepared, self.num_forget, self.parts = state.phase.task, state.inner, len(state.rows), None

    def __getattr__(self, name: str) -> object:
        return getattr(self._run, name)

    @property
    def num_rounds(self) -> int:
        phase = self._state.phase
        return (self._run.num_rounds if phase.stop is None else phase.stop) - phase.start

    @property
    def round_state(self) -> Mapping[str, Tensor]:
        return {} if self._begins else self._run.round_state  # not that of another part's method

    def _rows(self, split: str, rows: Sequence[int]) -> list[int]:
        return self._state.rows[list(rows)].tolist() if split == "forget" else list(rows)

    def teacher_predictions(self, split: str, rows: Sequence[int] | None = None) -> Predictions:
        if rows is not None:
            return self._run.teacher_predictions(split, self._rows(split, rows))
        return self._of_part(split, self._run.teacher_predictions(split))

    def student_predictions(self, split: str) -> Predictions:
        return self._of_part(split, self._run.student_predictions(split))

    def _of_part(self, split: str, whole: Predictions) -> Predictions:
        if split != "forget":
            return whole
        rows = self._state.rows.numpy()
        logits = None if whole.logits is None else whole.logits[rows]
        return Predictions(whole.labels[rows], whole.predicted[rows], whole.entropy[rows], logits)

    def student_accuracy(self, split: str) -> float:
        return self.student_predictions(split).accuracy if split == "forget" else self._run.student_accuracy(split)

    def teacher_accuracy(self, split: str, like: str | None = None) -> float:
        predictions = self.teacher_predictions(split)
        return predictions.accuracy if like is None else predictions.accuracy_weighted(self.labels(like).numpy())

    def labels(self, split: str) -> Tensor:
        labels = self._run.labels(split)
        return labels[self._state.rows] if split == "forget" else labels

    def inputs(self, split: str, rows: Sequence[int]) -> dict[str, Tensor]:
        return self._run.inputs(split, self._rows(split, rows))

    def example(self, split: str) -> dict[str, Tensor]:
        given = self._run.example(split)
        if split != "forget":
            return given
        return self.inputs(split, range(min(len(next(iter(given.values()))), self.num_forget)))

    def batches(
        self, *splits: str, rows: Mapping[str, Sequence[int]] | None = None
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        few = {"forget": range(self.num_forget), **(rows or {})}
        return self._run.batches(*splits, rows={split: self._rows(split, taken) for split, taken in few.items()})


def as_part(run: Run, state: Refined, begins: bool = False) -> Run:
    """The run as the method of a part sees it.

    Args:
        run: the whole one.
        state: of the phase.
        begins: whether the phase does, so that no decision was taken in it yet.
    """
    return cast(Run, _PartRun(run, state, begins))  # all that is not its own it takes from the run


def _moved(positions: Tensor | None, places: Tensor) -> Tensor | None:
    """Positions by another numbering; those from the size on repeat one before, and still do."""
    if positions is None:
        return None
    size = len(places)
    return places[positions % size] + positions // size * size
