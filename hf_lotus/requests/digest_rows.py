"""The rows of a data set, found by the digests that requests name them by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class RowsByDigest:
    """Where digests are in a data set: sorted once, so that a thousand requests do not each walk through all of it.

    Args:
        digests: of all rows, shape (rows,).
    """

    def __init__(self, digests: np.ndarray):
        self._order = np.argsort(digests, kind="stable")
        self._sorted = digests[self._order]

    def __call__(self, wanted: Sequence[str]) -> np.ndarray:
        """The rows that have one of some digests, sorted; of rows that are alike, all."""
        names = np.unique(np.asarray(wanted, dtype=self._sorted.dtype if len(self._sorted) else None))
        starts, ends = (np.searchsorted(self._sorted, names, side=side) for side in ("left", "right"))
        ranges = [self._order[start:end] for start, end in zip(starts, ends, strict=True)]
        return np.sort(np.concatenate([np.empty(0, dtype=np.intp), *ranges]))
