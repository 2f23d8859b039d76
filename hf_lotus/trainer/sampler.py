"""The batches of a round: every pass's samples, dealt out to steps, accumulated batches and ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, cycle, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hf_lotus.methods.rounds import Pass
from hf_lotus.utils.seeds import ORDER, derived_seed


class Sides(NamedTuple):
    """How many samples of each side.

    Attributes:
        retained: of the retain set.
        forgotten: of the forget set.
    """

    retained: int
    forgotten: int


class RoundBatches(torch.utils.data.Sampler[list[int]]):
    """This rank's batches of a round, in an order that depends only on (seed, round).

    The samples of an optimizer step, over all ranks and accumulated batches, are one stretch of the pass's order. The
    last stretch of a pass is shorter and is dealt out evenly, so no step straddles two passes and every rank takes
    equally many batches. Where it has too few samples to fill them all, it joins the stretch before it (`at_least` 2)
    or, as the only one or with `at_least` 1, some samples are repeated, under numbers from the size on.

    Args:
        num_forget: forget samples of the round, at the positions from 0.
        num_retain: retain samples, at the positions after them.
        passes: round → its passes, in order.
        batch_size: samples per device and batch.
        seed: seed of the order.
        accumulation: batches accumulated to one optimizer step.
        ranks: number of processes.
        rank: this process.
        drop_last: leave out a last stretch that is not full.
        at_least: samples that every batch must have; models with BatchNorm cannot be trained on batches of one.
        parts: the number of each forget sample's part, for passes that take one alone; shape (num_forget,).

    Raises:
        ValueError: if a round has no pass, or a pass no samples.
    """

    def __init__(
        self,
        num_forget: int,
        num_retain: int,
        passes: Callable[[int], Sequence[Pass]],
        batch_size: int,
        seed: int,
        *,
        accumulation: int = 1,
        ranks: int = 1,
        rank: int = 0,
        drop_last: bool = False,
        at_least: int = 1,
        parts: Tensor | None = None,
    ):
        self.num_forget, self.num_retain, self.passes = num_forget, num_retain, passes
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.accumulation, self.ranks, self.rank, self.at_least = accumulation, ranks, rank, at_least
        self.round = 0
        self._sides: tuple[int, np.ndarray] = (-1, np.empty(0))
        self._members: dict[int, Tensor] = {}
        for part in () if parts is None else parts.unique().tolist():
            self._members[part] = (parts == part).nonzero()[:, 0]

    @property
    def size(self) -> int:
        """Number of samples of the round."""
        return self.num_forget + self.num_retain

    @property
    def _parts(self) -> int:
        return self.accumulation * self.ranks

    def set_epoch(self, epoch: int) -> None:
        """Choose the round whose batches the next iteration gives; the name is the one that data loaders call."""
        self.round = epoch

    def __len__(self) -> int:
        return self.steps(self.round) * self.accumulation

    def steps(self, index: int) -> int:
        """Optimizer steps of a round."""
        if not self.passes(index):
            raise ValueError(f"Round {index} has no pass; `passes` must give at least one.")
        return sum(self._pass_steps(step) for step in self.passes(index))

    def first_step(self, index: int) -> int:
        """Optimizer steps of the run before a round."""
        return sum(self.steps(before) for before in range(index))

    def locate(self, step: int, last_round: int) -> int:
        """The round in which the optimizer step lies that follows `step` steps of the run."""
        index = 0
        while index < last_round and step >= self.steps(index):
            step -= self.steps(index)
            index += 1
        return index

    def pass_at(self, index: int, step: int) -> tuple[Pass, bool]:
        """The pass in which a round's step lies (of steps in turn, the step's side), and whether it is its last."""
        for current in self.passes(index):
            steps = self._pass_steps(current)
            if step < steps:
                return current.step(step), step == steps - 1
            step -= steps
        raise IndexError(f"Round {index} has no step {step} more.")

    def _stretch(self, current: Pass) -> int:
        """Samples that a full step takes of what the pass walks through; of a balanced pass, of both sides."""
        alone = current.forget and not current.retain
        return ((current.forget_batch_size if alone else None) or self.batch_size) * self._parts

    def _forget(self, current: Pass) -> Tensor:
        """The positions of the forget samples that take part in the pass, if any do."""
        if current.part is None:
            return torch.arange(self.num_forget)
        return self._members.get(current.part, torch.arange(0))

    def _walked(self, current: Pass) -> Tensor:
        """The positions that the pass walks through: for pairs and turns the retain side's, else of every side."""
        forget = self._forget(current)
        taken = forget if _walks_forget(current) else forget[:0]
        return torch.cat([taken, torch.arange(self.num_forget, self.size if current.retain else self.num_forget)])

    def _num_walked(self, current: Pass) -> int:
        """How many they are: asked far more often, and known without them."""
        forget = self.num_forget if current.part is None else len(self._members.get(current.part, ()))
        taken = forget if _walks_forget(current) else 0
        walked = taken + (self.num_retain if current.retain else 0)
        needs_both = current.paired or current.forget_share is not None or current.forget_every is not None
        if not walked or (needs_both and not (forget and self.num_retain)):
            raise ValueError(f"The pass {current} has no samples.")
        return walked

    def _pass_steps(self, current: Pass) -> int:
        samples, stretch = self._num_walked(current), self._stretch(current)
        if current.samples is not None:
            return -(-current.samples // stretch)  # each of them full: the sides start over
        full, rest = divmod(samples, stretch)
        joins = full and self.at_least > 1 and rest < self.at_least * self._parts
        walked = max(full, 1) if self.drop_last else full + (rest > 0 and not joins)
        return walked if current.forget_every is None else walked + -(-walked // current.forget_every)

    def shown(self, step: int, turn: int) -> Sides:
        """The samples of this rank's batch `turn` of a step of the round, repetitions included.

        Known here, they need not be counted where the batch is: that would have the host wait for the device.
        """
        retained, forgotten = self._counted()[step, turn * self.ranks + self.rank, 0]
        return Sides(int(retained), int(forgotten))

    def counted(self, step: int) -> Sides:
        """The samples of a step of the round, on all ranks and in all accumulated batches, without repetitions."""
        retained, forgotten = self._counted()[step, :, 1].sum(axis=0)
        return Sides(int(retained), int(forgotten))

    def _counted(self) -> np.ndarray:
        """Samples by step, part, (with repetitions, without) and (retained, forgotten), of the round; made once."""
        if self._sides[0] != self.round:
            parts = [part for dealt in self._steps_of_round() for part in dealt]
            lengths = np.array([len(part) for part in parts])
            positions = np.fromiter(chain.from_iterable(parts), dtype=np.int64, count=int(lengths.sum()))
            part = np.repeat(np.arange(len(parts)), lengths)
            is_forget, once = positions % self.size < self.num_forget, positions < self.size
            found = np.zeros((len(parts), 2, 2), dtype=np.int64)
            for repeats, taken in ((0, np.ones_like(once)), (1, once)):
                for side, mine in ((0, ~is_forget), (1, is_forget)):
                    found[:, repeats, side] = np.bincount(part[taken & mine], minlength=len(parts))
            self._sides = self.round, found.reshape(-1, self._parts, 2, 2)
        return self._sides[1]

    def __iter__(self) -> Iterator[list[int]]:
        for dealt in self._steps_of_round():
            for turn in range(self.accumulation):
                yield dealt[turn * self.ranks + self.rank]

    def _steps_of_round(self) -> Iterator[list[list[int]]]:
        """The parts of each optimizer step of the round, by accumulated batch and then rank."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, ORDER, self.round))
        for current in self.passes(self.round):
            steps = self._balanced if current.samples is not None else self._walk
            if current.forget_every is not None:
                steps = self._in_turn
            yield from steps(current, generator)

    def _walk(self, current: Pass, generator: torch.Generator) -> Iterator[list[list[int]]]:
        """The parts of each step of a pass that walks through its samples once."""
        walked, stretch, steps = self._walked(current), self._stretch(current), self._pass_steps(current)
        order = _shuffled(walked, generator)
        forget = self._forget(current)
        partners = _endless(forget, generator) if current.paired else iter(())
        wanted = min((current.forget_batch_size or self.batch_size) * self._parts, len(forget))
        for step in range(steps):
            takes_rest = step == steps - 1 and not self.drop_last
            dealt = self._deal(order[step * stretch : None if takes_rest else (step + 1) * stretch])
            joined = self._deal(list(islice(partners, wanted)), fill=False)
            yield [first + second for first, second in zip(dealt, joined, strict=True)]

    def _balanced(self, current: Pass, generator: torch.Generator) -> Iterator[list[list[int]]]:
        """The parts of each step of a balanced pass."""
        self._num_walked(current)  # checks that both sides have samples
        taken = self._forget(current)
        forget = _endless(taken, generator)
        retain = _endless(torch.arange(self.num_forget, self.size), generator)
        stretch = self._stretch(current)
        assert current.forget_share is not None  # as `samples` is given
        wanted = min(max(round(current.forget_share * stretch), 1), max(stretch - 1, 1))
        # No more than there are: a picture repeated sixteen times would make up a quarter of BatchNorm's statistics.
        wanted = min(wanted, len(taken))
        for _ in range(self._pass_steps(current)):
            first, second = list(islice(forget, wanted)), list(islice(retain, stretch - wanted))
            # Every part has its share of both sides: the fewer of one are dealt from the other end.
            dealt = zip(self._deal(first, fill=False), self._deal(second, fill=False)[::-1], strict=True)
            yield [mine + others for mine, others in dealt]

    def _in_turn(self, current: Pass, generator: torch.Generator) -> Iterator[list[list[int]]]:
        """The parts of each step of a pass whose retain steps have steps on forget samples between them."""
        self._num_walked(current)  # checks that both sides have samples
        taken = self._forget(current)
        forget = _endless(taken, generator)
        wanted = min((current.forget_batch_size or self.batch_size) * self._parts, len(taken))
        assert current.forget_every is not None
        for number, dealt in enumerate(self._walk(replace(current, forget=False, forget_every=None), generator)):
            if number % current.forget_every == 0:
                yield self._deal(list(islice(forget, wanted)))
            yield dealt

    def _deal(self, positions: list[int], fill: bool = True) -> list[list[int]]:
        """Cut into one part for each accumulated batch and rank, as even as can be."""
        missing = self.at_least * self._parts - len(positions)
        if fill and missing > 0:
            positions = positions + [self.size + position for position in islice(cycle(positions), missing)]
        bounds = [len(positions) * part // self._parts for part in range(self._parts + 1)]
        return [positions[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]


def _walks_forget(current: Pass) -> bool:
    """Whether a pass walks through its forget samples; pairs and steps in turn take them beside the retained ones."""
    return current.forget and not current.paired and current.forget_every is None


def _shuffled(positions: Tensor, generator: torch.Generator) -> list[int]:
    return positions[torch.randperm(len(positions), generator=generator)].tolist()


def _endless(positions: Tensor, generator: torch.Generator) -> Iterator[int]:
    """Walks through the positions, one after the other, each in an order of its own."""
    while True:
        yield from _shuffled(positions, generator)
