"""The batches of a round: every pass's samples, dealt out to steps, accumulated batches and ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice

import torch

from hf_lotus.methods.rounds import Pass
from hf_lotus.utils.seeds import ORDER, derived_seed


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
    ):
        self.num_forget, self.num_retain, self.passes = num_forget, num_retain, passes
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.accumulation, self.ranks, self.rank, self.at_least = accumulation, ranks, rank, at_least
        self.round = 0

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
        """The pass in which a round's step lies, and whether that step is the pass's last."""
        for current in self.passes(index):
            steps = self._pass_steps(current)
            if step < steps:
                return current, step == steps - 1
            step -= steps
        raise IndexError(f"Round {index} has no step {step} more.")

    def _stretch(self, current: Pass) -> int:
        """Samples that a full step takes of what the pass walks through; of a balanced pass, of both sides."""
        alone = current.forget and not current.retain
        return ((current.forget_batch_size if alone else None) or self.batch_size) * self._parts

    def _walked(self, current: Pass) -> range:
        """The positions that the pass walks through: for pairs the retain side's, else those of every side in it."""
        start = 0 if current.forget and not current.paired else self.num_forget
        walked = range(start, self.size if current.retain else self.num_forget)
        needs_both = current.paired or current.forget_share is not None
        if not walked or (needs_both and not (self.num_forget and self.num_retain)):
            raise ValueError(f"The pass {current} has no samples.")
        return walked

    def _pass_steps(self, current: Pass) -> int:
        samples, stretch = len(self._walked(current)), self._stretch(current)
        if current.samples is not None:
            return -(-current.samples // stretch)  # each of them full: the sides start over
        full, rest = divmod(samples, stretch)
        if self.drop_last:
            return max(full, 1)
        joins = full and self.at_least > 1 and rest < self.at_least * self._parts
        return full + (rest > 0 and not joins)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, ORDER, self.round))
        for current in self.passes(self.round):
            steps = self._balanced if current.samples is not None else self._walk
            for dealt in steps(current, generator):
                for turn in range(self.accumulation):
                    yield dealt[turn * self.ranks + self.rank]

    def _walk(self, current: Pass, generator: torch.Generator) -> Iterator[list[list[int]]]:
        """The parts of each step of a pass that walks through its samples once."""
        walked, stretch, steps = self._walked(current), self._stretch(current), self._pass_steps(current)
        order = (torch.randperm(len(walked), generator=generator) + walked.start).tolist()
        forget = range(self.num_forget)
        partners = _endless(forget, generator) if current.paired else iter(())
        wanted = min((current.forget_batch_size or self.batch_size) * self._parts, self.num_forget)
        for step in range(steps):
            takes_rest = step == steps - 1 and not self.drop_last
            dealt = self._deal(order[step * stretch : None if takes_rest else (step + 1) * stretch])
            joined = self._deal(list(islice(partners, wanted)), fill=False)
            yield [first + second for first, second in zip(dealt, joined, strict=True)]

    def _balanced(self, current: Pass, generator: torch.Generator) -> Iterator[list[list[int]]]:
        """The parts of each step of a balanced pass."""
        self._walked(current)  # checks that both sides have samples
        forget = _endless(range(self.num_forget), generator)
        retain = _endless(range(self.num_forget, self.size), generator)
        stretch = self._stretch(current)
        assert current.forget_share is not None  # as `samples` is given
        wanted = min(max(round(current.forget_share * stretch), 1), max(stretch - 1, 1))
        # No more than there are: a picture repeated sixteen times would make up a quarter of BatchNorm's statistics.
        wanted = min(wanted, self.num_forget)
        for _ in range(self._pass_steps(current)):
            first, second = list(islice(forget, wanted)), list(islice(retain, stretch - wanted))
            # Every part has its share of both sides: the fewer of one are dealt from the other end.
            dealt = zip(self._deal(first, fill=False), self._deal(second, fill=False)[::-1], strict=True)
            yield [mine + others for mine, others in dealt]

    def _deal(self, positions: list[int], fill: bool = True) -> list[list[int]]:
        """Cut into one part for each accumulated batch and rank, as even as can be."""
        missing = self.at_least * self._parts - len(positions)
        if fill and missing > 0:
            positions = positions + [self.size + position for position in islice(cycle(positions), missing)]
        bounds = [len(positions) * part // self._parts for part in range(self._parts + 1)]
        return [positions[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]


def _endless(positions: range, generator: torch.Generator) -> Iterator[int]:
    """Walks through the positions, one after the other, each in an order of its own."""
    while True:
        yield from (torch.randperm(len(positions), generator=generator) + positions.start).tolist()
