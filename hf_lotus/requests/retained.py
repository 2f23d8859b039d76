"""Which retained samples a run's model, and the original, classify correctly: to compare runs on the same samples.

Every run retains fewer samples than the one before, and those that leave are not like those that stay: accuracies on
each run's own retain set differ though no weight does. So each run keeps who was right on which sample, and a history
is of the samples that all of its runs retained. Samples are known by the first 8 bytes of their salted digests, which
tell nobody anything without the salt.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Retained:
    """Who was right on which retained sample.

    Attributes:
        samples: what the samples are known by, uint64, sorted, each once, shape (samples,).
        original: whether the original's prediction is right, bool, shape (samples,).
        model: whether the model's is.

    Raises:
        ValueError: for arrays of other kinds.
    """

    samples: np.ndarray
    original: np.ndarray
    model: np.ndarray

    def __post_init__(self) -> None:
        kinds = [array.dtype for array in (self.samples, self.original, self.model)]
        shapes = {array.shape for array in (self.samples, self.original, self.model)}
        if kinds != [np.uint64, bool, bool] or len(shapes) != 1 or self.samples.ndim != 1:
            raise ValueError("it holds other arrays than one of sample numbers and two of truth values")
        if (self.samples[1:] <= self.samples[:-1]).any():
            raise ValueError("its samples are not in order")

    @classmethod
    def of(cls, digests: Sequence[str] | np.ndarray, original: np.ndarray, model: np.ndarray) -> Retained:
        """From the salted digests of the retained samples and who was right on each, all in the samples' order."""
        known = np.array([int(digest[:16], 16) for digest in digests], dtype=np.uint64)
        samples, first = np.unique(known, return_index=True)  # pictures that are alike are predicted alike
        return cls(samples, np.asarray(original, dtype=bool)[first], np.asarray(model, dtype=bool)[first])

    def to_bytes(self) -> bytes:
        """As an NPZ file."""
        file = io.BytesIO()
        np.savez(file, samples=self.samples, original=np.packbits(self.original), model=np.packbits(self.model))
        return file.getvalue()

    @classmethod
    def read(cls, path: Path) -> Retained:
        """What `to_bytes` gave, in a file.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it holds something else.
        """
        try:
            # From memory: NumPy leaves a file open that is none of its own.
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
                samples = found["samples"]
                right = [np.unpackbits(found[name], count=len(samples)).astype(bool) for name in ("original", "model")]
            return cls(samples, *right)
        except Exception as error:  # an archive that is broken may raise anything
            raise ValueError(f"{path} is not what a run has kept of its retained samples: {error}.") from error


def retained_by_all(kept: Sequence[Retained]) -> np.ndarray:
    """The samples that every run retained, as `Retained.samples` has them."""
    common = kept[0].samples
    for each in kept[1:]:
        common = np.intersect1d(common, each.samples, assume_unique=True)
    return common


def accuracy_on(samples: np.ndarray, kept: Retained, which: str) -> float:
    """The share of some of the retained samples that a model classifies correctly.

    Args:
        samples: as `retained_by_all` gives them.
        kept: of a run.
        which: "original" or "model".
    """
    return float(getattr(kept, which)[np.searchsorted(kept.samples, samples)].mean())
