"""One round of unlearning: which samples, each tagged forget or retain, and the passes over them.

`RoundDataset` puts the forget samples first and the chosen retain samples after them, so that a position alone tells
the side. In which order and batches a pass takes them is the business of `round_batches`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hf_lotus.batches import FORGET_FLAG, POSITION

# Independent random streams of one seed.
SUBSET, ORDER, NOISE, LABELS, WEIGHTS = range(5)


def derived_seed(seed: int, *path: int) -> int:
    """A seed for one independent purpose: equal (seed, path) give equal seeds, different ones unrelated seeds."""
    return int(np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class Streams:
    """The data that a method asks for, drawn once per run.

    Attributes:
        forget: whether the forget set is part of it, whole.
        retain_fraction: the share of the retain set in it, from 0 (none) to 1 (all).
        forget_per_class: instead of each forget sample once, this many of each class, repeated where there are fewer.
        retain_per_class: instead of a share, this many retain samples of each class, or all where there are fewer.
    """

    forget: bool
    retain_fraction: float
    forget_per_class: int | None = None
    retain_per_class: int | None = None

    def __post_init__(self):
        if not 0 <= self.retain_fraction <= 1:
            raise ValueError(f"retain_fraction must lie between 0 and 1, got {self.retain_fraction}.")
        if not self.forget and self.retain_fraction == 0:
            raise ValueError("A round needs the forget set, a part of the retain set, or both.")
        for name in ("forget_per_class", "retain_per_class"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name} must be 1 or more samples, got {count}.")


@dataclass(frozen=True)
class Pass:
    """One pass of a round over the chosen samples: mixed, over one side alone, or in pairs of batches.

    Attributes:
        forget: whether the forget samples take part.
        retain: whether the retain samples take part.
        paired: each batch of retain samples is joined by a batch of forget samples, which start over when they run
            out; the loss is then averaged over each side on its own. Otherwise both sides are shuffled together.
        forget_batch_size: forget samples per device and batch in a paired pass or one without retain samples; the
            training batch size if None.
        name: what the log calls the pass, where a round has several.
    """

    forget: bool = True
    retain: bool = True
    paired: bool = False
    forget_batch_size: int | None = None
    name: str = ""

    def __post_init__(self):
        if self.paired and not (self.forget and self.retain):
            raise ValueError("A paired pass needs both sides.")
        if self.forget_batch_size is not None and self.forget_batch_size < 1:
            raise ValueError(f"forget_batch_size must be 1 or more samples, got {self.forget_batch_size}.")


def draw_subset(size: int, fraction: float, seed: int) -> Tensor:
    """The rows of a random `fraction` of `size` rows, sorted; at least one unless the fraction is 0."""
    count = max(round(fraction * size), 1) if fraction > 0 else 0
    rows = np.random.default_rng(derived_seed(seed, SUBSET)).permutation(size)[:count]
    return torch.from_numpy(np.sort(rows))


def draw_per_class(labels: Tensor, count: int, seed: int, repeat: bool = False) -> Tensor:
    """`count` random rows of each class, sorted; where a class has fewer, all of them, repeated in turn if asked for.

    Args:
        labels: class of each row, shape (rows,).
        count: rows of each class to draw.
        seed: seed of the draw.
        repeat: whether rows may be repeated to reach `count`.
    """
    generator = np.random.default_rng(derived_seed(seed, SUBSET))
    drawn = []
    for label in labels.unique():
        rows = generator.permutation(torch.nonzero(labels == label)[:, 0].numpy())
        drawn.append(np.resize(rows, count) if repeat else rows[:count])
    return torch.from_numpy(np.sort(np.concatenate(drawn)))


class RoundDataset(torch.utils.data.Dataset):
    """The samples of a round: the chosen forget rows first, then the chosen retain rows.

    Whole batches are fetched where both sides offer them (`ReadyImages`), single samples otherwise. Either way each
    sample carries `is_forget` and its `position` among these samples. A position from the size on repeats one before
    it: it gives the same sample and keeps its own number, so that it can be told and left out of the loss.

    Args:
        forget: the forget set.
        retain: the retain set.
        forget_rows: which of its rows take part, shape (chosen,).
        retain_rows: the same of the retain set.
    """

    def __init__(
        self,
        forget: torch.utils.data.Dataset,
        retain: torch.utils.data.Dataset,
        forget_rows: Tensor,
        retain_rows: Tensor,
    ):
        self.forget, self.retain, self.forget_rows, self.retain_rows = forget, retain, forget_rows, retain_rows
        self.num_forget = len(forget_rows)

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
            sample = self.forget[int(self.forget_rows[position])]
        else:
            sample = self.retain[int(self.retain_rows[position - self.num_forget])]
        return {**sample, FORGET_FLAG: is_forget, POSITION: given}

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Tensor] | list[dict]:
        """The samples at the given positions: a batch, or a list where the data set has only single samples."""
        if not gives_batches(self.forget) or not gives_batches(self.retain):
            return [self[position] for position in positions]
        given = torch.as_tensor(positions)
        positions = given % len(self)
        is_forget = positions < self.num_forget
        parts = []
        if is_forget.any():
            parts.append((is_forget, self.forget.__getitems__(self.forget_rows[positions[is_forget]])))
        if not is_forget.all():
            rows = self.retain_rows[positions[~is_forget] - self.num_forget]
            parts.append((~is_forget, self.retain.__getitems__(rows)))
        return {**_interleave(parts, len(positions)), FORGET_FLAG: is_forget, POSITION: given}


def gives_batches(dataset: torch.utils.data.Dataset) -> bool:
    """Whether a data set gives whole batches, which are finished on the device, as those of `images` do."""
    return hasattr(dataset, "finish")


def _interleave(parts: list[tuple[Tensor, Mapping[str, Tensor]]], size: int) -> dict[str, Tensor]:
    """Put batches of different sides back into one, in the order that the masks say."""
    if len(parts) == 1:
        return dict(parts[0][1])
    # Where each sample of the batch lies in the sides laid end to end.
    places = torch.empty(size, dtype=torch.long)
    places[torch.cat([mask.nonzero()[:, 0] for mask, _ in parts])] = torch.arange(size)
    return {name: torch.cat([batch[name] for _, batch in parts]).index_select(0, places) for name in parts[0][1]}
