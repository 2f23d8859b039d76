"""Rows of predictions: what a user gives, checked, as float64 distributions (NumPy only).

Large arrays are checked and converted a block at a time, so a metric needs a few MiB beside them, not a float64 copy.
This file, `divergences.py` and `membership.py` stand in the stand-alone metrics too (`metrics/`), as links: they
import nothing of the package but each other, and that relatively.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from accelerate import Accelerator

# Rows are divided by their sum, so a distribution may be off by rounding; more than this is not a distribution.
SUM_TOLERANCE = 1e-3

# Numbers in a block: 4 MiB of float64.
_BLOCK = 2**19


def as_array(name: str, values: Any) -> np.ndarray:
    """`values` as a NumPy array of numbers: an array, a torch tensor on any device, or nested lists.

    Raises:
        ValueError: if it holds something other than numbers, or rows of different lengths.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # NumPy has no bfloat16.
        values = (values.float() if values.is_floating_point() and values.element_size() < 4 else values).numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"The rows of {name} must all have the same number of columns.") from error
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must hold numbers, got {array.dtype}: {str(values)[:60]}.")
    return array


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of consecutive rows, each of a few MiB in float64, that together cover all `rows`."""
    step = max(1, _BLOCK // columns)
    return (slice(start, start + step) for start in range(0, rows, step))


def check_rows(name: str, values: object, *, from_logits: bool = False) -> np.ndarray:
    """The array of `values`, once every row is known to be a distribution (or finite logits).

    Args:
        name: what to call it in an error.
        values: shape (samples, classes).
        from_logits: whether the rows are logits.

    Returns:
        the array itself, in its own type; `distributions` converts it.

    Raises:
        ValueError: if the shape is another, or a row is not what it should be; the first such row is named.
    """
    array = as_array(name, values)
    if array.ndim != 2 or array.shape[1] < 2:
        raise ValueError(f"{name} must have shape (samples, classes) with two classes or more, got {array.shape}.")
    for block in blocks(*array.shape):
        rows = array[block]
        if from_logits:
            bad = ~np.isfinite(rows).all(axis=1)
        else:
            with np.errstate(invalid="ignore"):
                # A row with a NaN or an infinity in it has no sum near one either.
                bad = (rows.min(axis=1) < 0) | ~(np.abs(rows.sum(axis=1, dtype=np.float64) - 1) <= SUM_TOLERANCE)
        if bad.any():
            _refuse(name, rows, block.start, int(np.flatnonzero(bad)[0]), from_logits)
    return array


def _refuse(name: str, rows: np.ndarray, start: int, row: int, from_logits: bool) -> None:
    if from_logits:
        raise ValueError(f"{name} must hold finite logits; row {start + row} does not.")
    with np.errstate(invalid="ignore"):
        total = rows[row].sum(dtype=np.float64)
    raise ValueError(
        f"{name} must hold probabilities: every row finite, not negative and summing to 1. Row {start + row} is not "
        f"(sum {total:.6g}, minimum {rows[row].min():.6g}). Pass softmax probabilities, or say that these are logits."
    )


def check_labels(labels: object, rows: int, columns: int) -> np.ndarray:
    """`labels` as an integer array, once each is known to be the number of a column.

    Raises:
        ValueError: if there is not one integer for each of `rows` rows, or one lies outside the columns.
    """
    array = as_array("labels", labels)
    if array.shape != (rows,) or array.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers of shape ({rows},), got {array.dtype} of shape {array.shape}.")
    outside = np.flatnonzero((array < 0) | (array >= columns))
    if len(outside):
        raise ValueError(
            f"Label {array[outside[0]]} in row {outside[0]} is outside the {columns} classes of the probabilities "
            f"(allowed: 0 to {columns - 1})."
        )
    return array


def distributions(rows: np.ndarray, *, from_logits: bool = False) -> np.ndarray:
    """Checked rows as float64 distributions, each divided by its sum (logits: their softmax)."""
    rows = np.asarray(rows, dtype=np.float64)
    if from_logits:
        rows = np.exp(rows - rows.max(axis=1, keepdims=True))
    return rows / rows.sum(axis=1, keepdims=True)


def sum_over_processes(values: np.ndarray, accelerator: Accelerator) -> np.ndarray:
    """Sum of an array over all processes of an `accelerate.Accelerator`, in its own precision, on each of them."""
    # Who has an Accelerator has torch; the metrics do without.
    import torch

    return accelerator.reduce(torch.from_numpy(values).to(accelerator.device), reduction="sum").cpu().numpy()


class ClassSample:
    """A bounded, uniform sample of rows for each class, in the order of their arrival.

    Every row draws a random key and those with the smallest keys stay, so merging the samples that several processes
    took gives a sample of all their rows. Up to `per_class` rows of a class, it is simply all of them.

    Args:
        per_class: the most rows to keep of a class.
        seed: seed of the keys.
    """

    def __init__(self, per_class: int, seed: int = 0):
        self.per_class = per_class
        self._rng = np.random.default_rng(seed)
        self._arrivals = 0
        # class → heap of (minus the key, process, arrival, row): the largest key, the first to go, is on top.
        self._heaps: dict[int, list[tuple[float, int, int, np.ndarray]]] = {}

    def add(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Offer rows of shape (samples, classes) with their classes of shape (samples,)."""
        for row, label, key in zip(rows, labels.tolist(), self._rng.random(len(rows)).tolist(), strict=True):
            self._offer(label, (-key, 0, self._arrivals, row))
            self._arrivals += 1

    def _offer(self, label: int, entry: tuple[float, int, int, np.ndarray]) -> None:
        heap = self._heaps.setdefault(label, [])
        if len(heap) == self.per_class and entry < heap[0]:
            return
        # A copy: a view would keep the whole batch in memory.
        entry = (*entry[:3], entry[3].copy())
        (heapq.heappush if len(heap) < self.per_class else heapq.heapreplace)(heap, entry)

    @classmethod
    def merged(cls, samples: Sequence[ClassSample]) -> ClassSample:
        """The sample of all rows that the given ones, one of each process, were offered."""
        whole = cls(samples[0].per_class)
        for process, sample in enumerate(samples):
            for label, heap in sample._heaps.items():
                for key, _, arrival, row in heap:
                    whole._offer(label, (key, process, arrival, row))
        return whole

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """What was kept: rows of shape (kept, classes) and their classes of shape (kept,), class after class."""
        kept = {label: sorted(heap, key=lambda entry: entry[1:3]) for label, heap in sorted(self._heaps.items())}
        labels = np.repeat(list(kept), [len(heap) for heap in kept.values()])
        return np.stack([entry[3] for heap in kept.values() for entry in heap]), labels
