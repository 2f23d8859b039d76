"""Samples made ready once: the one protocol by which everything trains on, measures, digests and records them.

What differs between pictures and texts stands in a class of its own for each kind (`images`, `text`); whoever uses
samples asks them here, and not what they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeGuard

import datasets
import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

    from hf_lotus.data.images import Augmentation


class ReadySamples(torch.utils.data.Dataset, ABC):
    """A data set whose raw rows are made ready once and given as whole batches.

    What it gives of a row depends on the row alone, whichever others are in the batch, but for padding.

    Attributes:
        kind: what the samples are: "image", "text" or "audio".
        labels: true classes, int64, shape (samples,).
    """

    kind: ClassVar[str]
    labels: Tensor

    @property
    @abstractmethod
    def source(self) -> datasets.Dataset:
        """The raw rows, in order: what digests and fingerprints tell the samples by."""

    @abstractmethod
    def __getitems__(self, rows: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """The given rows as one batch, with `labels` of shape (batch,)."""

    @abstractmethod
    def select(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Some of the rows, in the order that they are named, as a set of its own which shares what was made ready."""

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in self.__getitems__([row]).items()}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def input_range(self) -> tuple[Tensor, Tensor] | None:
        """Lowest and highest value of the model's input, each of shape (channels, 1, 1); None where there is none."""
        return None

    @property
    def row_bytes(self) -> int | None:
        """Bytes of a row's inputs, where all rows are of one size; None where a batch is padded."""
        return None

    def joined(self, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Batches of this kind laid end to end."""
        return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}

    def finish(
        self,
        batch: Mapping[str, Tensor],
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """What is left to do to make model inputs of a batch, on the device that it is on.

        Raises:
            ValueError: if it is to be augmented as pictures are, and the samples are none.
        """
        require_augmentable(self.kind, augmentation)
        return dict(batch)


def bounds_of(lengths: Sequence[int]) -> Tensor:
    """Where each of some rows that are laid end to end begins and ends, int64, shape (rows, 2)."""
    sizes = torch.tensor(lengths)
    ends = sizes.cumsum(0)
    return torch.stack([ends - sizes, ends], dim=1)


def are_ready(dataset: object) -> TypeGuard[ReadySamples]:
    """Whether a data set's samples were made ready here; others give model inputs of their own."""
    return isinstance(dataset, ReadySamples)


def kind_of(dataset: object) -> str | None:
    """What the samples of a data set are; None where they were not made ready here."""
    return dataset.kind if are_ready(dataset) else None


def require_augmentable(kind: str | None, augmentation: object) -> None:
    """Raise `ValueError` for samples that are to be flipped or cropped and are not pictures."""
    if augmentation and kind not in (None, "image"):
        raise ValueError(
            f"horizontal_flip and crop_padding are for pictures, and these samples are {kind}. Leave them out."
        )
