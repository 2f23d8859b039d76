"""One round of unlearning: which samples, in which order, each tagged forget or retain.

A *round* is one pass over the data a method asks for. `RoundDataset` puts the forget samples first and the chosen
retain samples after them, so that a position alone tells the side; `RoundSampler` shuffles the positions anew every
round, from a generator seeded by (seed, round), so that a resumed run and every rank see the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hf_lotus.batches import FORGET_FLAG, POSITION

# Independent random streams of one seed.
SUBSET, ORDER, NOISE = range(3)


def derived_seed(seed: int, *path: int) -> int:
    """A seed for one independent purpose: equal (seed, path) give equal seeds, different ones unrelated seeds."""
    return int(np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class Streams:
    """The data that a method asks for in a round.

    Attributes:
        forget: whether the forget set is part of it, whole.
        retain_fraction: the share of the retain set in it, drawn once per run; from 0 (none) to 1 (all).
    """

    forget: bool
    retain_fraction: float

    def __post_init__(self):
        if not 0 <= self.retain_fraction <= 1:
            raise ValueError(f"retain_fraction must lie between 0 and 1, got {self.retain_fraction}.")
        if not self.forget and self.retain_fraction == 0:
            raise ValueError("A round needs the forget set, a part of the retain set, or both.")


def draw_subset(size: int, fraction: float, seed: int) -> Tensor:
    """The rows of a random `fraction` of `size` rows, sorted; at least one unless the fraction is 0."""
    count = max(round(fraction * size), 1) if fraction > 0 else 0
    rows = np.random.default_rng(derived_seed(seed, SUBSET)).permutation(size)[:count]
    return torch.from_numpy(np.sort(rows))


class RoundDataset(torch.utils.data.Dataset):
    """The samples of a round: forget first, then the chosen retain rows.

    Whole batches are fetched where both sides offer them (`ReadyImages`), single samples otherwise. Either way each
    sample carries `is_forget` and its `position` among these samples. A position from the size on repeats one before
    it: it gives the same sample and keeps its own number, so that it can be told and left out of the loss.

    Args:
        forget: the forget set, or None.
        retain: the retain set.
        retain_rows: which of its rows take part, shape (chosen,).
    """

    def __init__(self, forget: torch.utils.data.Dataset | None, retain: torch.utils.data.Dataset, retain_rows: Tensor):
        self.forget, self.retain, self.retain_rows = forget, retain, retain_rows
        self.num_forget = len(forget) if forget is not None else 0

    @property
    def finish(self) -> Callable | None:
        """How the samples' batches become model inputs on the device, where they are of `ReadyImages`."""
        return getattr(self.retain, "finish", None)

    def __len__(self) -> int:
        return self.num_forget + len(self.retain_rows)

    def __getitem__(self, position: int) -> dict:
        given, position = position, position % len(self)
        is_forget = position < self.num_forget
        if is_forget:
            sample = self.forget[position]
        else:
            sample = self.retain[int(self.retain_rows[position - self.num_forget])]
        return {**sample, FORGET_FLAG: is_forget, POSITION: given}

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Tensor] | list[dict]:
        """The samples at the given positions: a batch, or a list where the data set has only single samples."""
        if not (self.forget is None or _gives_batches(self.forget)) or not _gives_batches(self.retain):
            return [self[position] for position in positions]
        given = torch.as_tensor(positions)
        positions = given % len(self)
        is_forget = positions < self.num_forget
        parts = []
        if is_forget.any():
            parts.append((is_forget, self.forget.__getitems__(positions[is_forget])))
        if not is_forget.all():
            rows = self.retain_rows[positions[~is_forget] - self.num_forget]
            parts.append((~is_forget, self.retain.__getitems__(rows)))
        return {**_interleave(parts, len(positions)), FORGET_FLAG: is_forget, POSITION: given}


def _gives_batches(dataset: torch.utils.data.Dataset) -> bool:
    return hasattr(dataset, "finish")  # the mark of a data set of `images`: whole batches, finished on the device


def _interleave(parts: list[tuple[Tensor, Mapping[str, Tensor]]], size: int) -> dict[str, Tensor]:
    """Put batches of different sides back into one, in the order that the masks say."""
    if len(parts) == 1:
        return dict(parts[0][1])
    merged = {name: values.new_empty((size, *values.shape[1:])) for name, values in parts[0][1].items()}
    for mask, batch in parts:
        for name, values in batch.items():
            merged[name][mask] = values
    return merged


class RoundSampler(torch.utils.data.Sampler[int]):
    """Every position once a round, in an order that depends only on (seed, round).

    Args:
        size: number of positions.
        seed: seed of the run.
        multiple: repeat the round's first positions, numbered from `size` on, until the count is a multiple of this:
            several ranks need batches of one size, and would else be given repetitions that nobody can tell.
    """

    def __init__(self, size: int, seed: int, multiple: int = 1):
        self.size, self.seed, self.multiple, self.round = size, seed, multiple, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the round whose order the next iteration gives; the name is the one that data loaders call."""
        self.round = epoch

    def __len__(self) -> int:
        return -(-self.size // self.multiple) * self.multiple

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, ORDER, self.round))
        order = torch.randperm(self.size, generator=generator).tolist()
        yield from order
        yield from (self.size + order[n % self.size] for n in range(len(self) - self.size))
