"""The samples of a round, each tagged forget or retain.

`RoundDataset` puts the forget samples first and the chosen retain samples after them, so that a position alone tells
the side. In which order and batches a pass takes them is the business of `sampler`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from hf_lotus.data.batches import FORGET_FLAG, POSITION, read_dataset_labels
from hf_lotus.data.prepared import num_samples
from hf_lotus.data.samples import are_ready
from hf_lotus.methods.rounds import Streams
from hf_lotus.utils.seeds import SUBSET, derived_seed


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

    Whole batches are fetched where both sides offer them (`ReadySamples`), single samples otherwise. Either way each
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
        """How the samples' batches become model inputs on the device, where they are `ReadySamples`."""
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
        if not are_ready(self.forget) or not are_ready(self.retain):
            return [self[position] for position in positions]
        given = torch.as_tensor(positions)
        places = given % len(self)
        is_forget = places < self.num_forget
        parts: list[tuple[Tensor, Mapping[str, Tensor]]] = []
        if is_forget.any():
            parts.append((is_forget, self.forget.__getitems__(self.forget_rows[places[is_forget]])))
        if not is_forget.all():
            rows = self.retain_rows[places[~is_forget] - self.num_forget]
            parts.append((~is_forget, self.retain.__getitems__(rows)))
        return {**_interleave(parts, len(places), self.retain.joined), FORGET_FLAG: is_forget, POSITION: given}


def draw_round(
    streams: Streams, forget: torch.utils.data.Dataset, retain: torch.utils.data.Dataset, seed: int
) -> RoundDataset:
    """The samples of a round; the part of the retain set in it is drawn here, once a run.

    Args:
        streams: what the method asks for.
        forget: the forget set.
        retain: the retain set.
        seed: seed of the draw.
    """
    forget_rows = torch.arange(num_samples(forget) if streams.forget else 0)
    if streams.forget_per_class is not None:
        forget_rows = draw_per_class(read_dataset_labels(forget), streams.forget_per_class, seed, repeat=True)
    if streams.retain_per_class is not None:
        retain_rows = draw_per_class(read_dataset_labels(retain), streams.retain_per_class, seed)
    else:
        retain_rows = draw_subset(num_samples(retain), streams.retain_fraction, seed)
    return RoundDataset(forget, retain, forget_rows, retain_rows)


class SplitRows(torch.utils.data.Dataset):
    """Some rows of a split, in the order given, as batches where the split gives them.

    Args:
        split: the split made ready.
        rows: row numbers.
    """

    def __init__(self, split: torch.utils.data.Dataset, rows: Sequence[int]):
        self.split, self.rows = split, torch.as_tensor(rows)

    @property
    def finish(self) -> Callable | None:
        """How the samples' batches become model inputs on the device, where they are `ReadySamples`."""
        return getattr(self.split, "finish", None)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> dict:
        return self.split[int(self.rows[position])]

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Tensor] | list[dict]:
        """The samples at the given positions: a batch, or a list where the split has only single samples."""
        if not are_ready(self.split):
            return [self[position] for position in positions]
        return self.split.__getitems__(self.rows[torch.as_tensor(positions)])


def _interleave(
    parts: list[tuple[Tensor, Mapping[str, Tensor]]],
    size: int,
    join: Callable[[Sequence[Mapping[str, Tensor]]], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Put batches of different sides back into one, in the order that the masks say; `join` lays them end to end."""
    if len(parts) == 1:
        return dict(parts[0][1])
    # Where each sample of the batch lies in the sides laid end to end.
    places = torch.empty(size, dtype=torch.long)
    places[torch.cat([mask.nonzero()[:, 0] for mask, _ in parts])] = torch.arange(size)
    return {name: values.index_select(0, places) for name, values in join([batch for _, batch in parts]).items()}
