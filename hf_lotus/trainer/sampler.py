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
    equally many batches. Where there are fewer samples left than batches to fill, some are repeated, under numbers
    from the size on.

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
    ):
        self.num_forget, self.num_retain, self.passes = num_forget, num_retain, passes
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.accumulation, self.ranks, self.rank = accumulation, ranks, rank
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
        """Samples that a full step takes of what the pass walks through."""
        alone = current.forget and not current.retain
        return ((current.forget_batch_size if alone else None) or self.batch_size) * self._parts

    def _walked(self, current: Pass) -> range:
        """The positions that the pass walks through: for pairs the retain side's, else those of every side in it."""
        start = 0 if current.forget and not current.paired else self.num_forget
        walked = range(start, self.size if current.retain else self.num_forget)
        if not walked or (current.paired and not self.num_forget):
            raise ValueError(f"The pass {current} has no samples.")
        return walked

    def _pass_steps(self, current: Pass) -> int:
        samples, stretch = len(self._walked(current)), self._stretch(current)
        return max(samples // stretch, 1) if self.drop_last else -(-samples // stretch)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, ORDER, self.round))
        for current in self.passes(self.round):
            walked, stretch = self._walked(current), self._stretch(current)
            order = (torch.randperm(len(walked), generator=generator) + walked.start).tolist()
            partners = self._endless_forget(generator) if current.paired else iter(())
            wanted = min((current.forget_batch_size or self.batch_size) * self._parts, self.num_forget)
            for step in range(self._pass_steps(current)):
                dealt = self._deal(order[step * stretch : (step + 1) * stretch])
                joined = self._deal(list(islice(partners, wanted)), fill=False)
                for turn in range(self.accumulation):
                    part = turn * self.ranks + self.rank
                    yield dealt[part] + joined[part]

    def _endless_forget(self, generator: torch.Generator) -> Iterator[int]:
        while True:
            yield from torch.randperm(self.num_forget, generator=generator).tolist()

    def _deal(self, positions: list[int], fill: bool = True) -> list[list[int]]:
        """Cut into one part for each accumulated batch and rank, as even as can be."""
        missing = self._parts - len(positions)
        if fill and missing > 0:
            positions = positions + [self.size + position for position in islice(cycle(positions), missing)]
        bounds = [len(positions) * part // self._parts for part in range(self._parts + 1)]
        return [positions[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]
