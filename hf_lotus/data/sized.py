"""Data sets that tell how many samples they have."""

from __future__ import annotations

from typing import Any, Protocol, cast

from torch.utils.data import Dataset


class SizedDataset(Protocol):
    """A map-style data set: rows by number, and how many there are."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Any: ...


def sized(dataset: Dataset) -> SizedDataset:
    """The same data set, as one that has a length: torch's base class declares none, and each map-style one has it."""
    return cast(SizedDataset, dataset)
