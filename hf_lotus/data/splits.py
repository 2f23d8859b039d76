"""Choose the rows to forget: a frozen split of a data set into forget and retain."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from datasets import ClassLabel, Dataset

from hf_lotus.data.columns import find_label_column, read_column, read_labels, require_map_style
from hf_lotus.data.duplicates import DigestOptions, content_digests, shared_rows
from hf_lotus.data.forget_choice import read_rows
from hf_lotus.utils.text import nearest

if TYPE_CHECKING:
    from typing_extensions import Unpack


def _few(values: Sequence | np.ndarray, limit: int = 5) -> str:
    shown = ", ".join(str(v) for v in list(values)[:limit])
    return shown + (f", … ({len(values)} in all)" if len(values) > limit else "")


def _array(rows: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.asarray(list(rows) if not isinstance(rows, np.ndarray) else rows)


def _rows(rows: Sequence[int] | np.ndarray, size: int, what: str) -> np.ndarray:
    """Row numbers as a sorted int64 array without repetition, or an error that names the first few bad ones."""
    array = _array(rows)
    if array.size == 0:
        raise ValueError(f"The {what} set is empty: give at least one row.")
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"The {what} rows must be a flat list of integers, got {array.dtype} of shape {array.shape}.")
    outside = array[(array < 0) | (array >= size)]
    if len(outside):
        raise ValueError(f"{what.capitalize()} rows out of range: {_few(outside)}. Rows go from 0 to {size - 1}.")
    unique = np.unique(array).astype(np.int64)
    unique.setflags(write=False)
    return unique


@dataclass(frozen=True, eq=False)
class ForgetRetainSplit:
    """Which rows of a data set to forget and which to retain.

    Row numbers are those of `dataset`, and stay so: `forget` and `retain` are views of it (`Dataset.select`), no data
    is copied. Make one with `from_indices`, `from_file`, `from_column`, `from_class` or `from_fraction`; or, by what a
    model makes of its training data, with the functions of `hf_lotus.data.selections`.

    Attributes:
        dataset: the training set of the model to unlearn.
        forget_rows: row numbers to forget, sorted, shape (forget,).
        retain_rows: row numbers to retain, sorted, shape (retain,); every other row unless given.
        selector: how the rows were chosen, as plain values; what and not who, so it can be published.

    Raises:
        TypeError: for a streamed data set.
        ValueError: for an empty side, rows out of range, or rows on both sides.
    """

    dataset: Dataset
    forget_rows: np.ndarray
    # None only until it is made: then the rows that are left are set.
    retain_rows: np.ndarray = cast(np.ndarray, None)
    selector: Mapping[str, object] = field(default_factory=lambda: {"by": "rows"})

    def __post_init__(self) -> None:
        require_map_style(self.dataset, "data set to split")
        size = len(self.dataset)
        forget = _rows(self.forget_rows, size, "forget")
        if self.retain_rows is None:
            keep = np.ones(size, dtype=bool)
            keep[forget] = False
            if not keep.any():
                raise ValueError(f"All {size} rows are to be forgotten; nothing is left to retain.")
            retain = _rows(np.flatnonzero(keep), size, "retain")
        else:
            retain = _rows(self.retain_rows, size, "retain")
        shared = np.intersect1d(forget, retain, assume_unique=True)
        if len(shared):
            raise ValueError(
                f"{len(shared)} rows are both to be forgotten and to be retained: {_few(shared)}. "
                "Take them out of one side."
            )
        object.__setattr__(self, "forget_rows", forget)
        object.__setattr__(self, "retain_rows", retain)

    @classmethod
    def from_indices(cls, dataset: Dataset, rows: Sequence[int]) -> ForgetRetainSplit:
        """Forget the given row numbers."""
        return cls(dataset, _array(rows))

    @classmethod
    def from_file(cls, dataset: Dataset, path: str | Path) -> ForgetRetainSplit:
        """Forget the row numbers in a file: JSON list, CSV (column 'row', or the only one), or text, one a line.

        Raises:
            ValueError: if the file does not hold row numbers; the message names the entry.
        """
        return cls(dataset, read_rows(path), selector={"by": "file", "file": Path(path).name})

    @classmethod
    def from_column(cls, dataset: Dataset, column: str, values: object | Sequence[object]) -> ForgetRetainSplit:
        """Forget every row whose `column` has one of `values` (or is the one value given), such as a user's images.

        Raises:
            ValueError: if the column, or one of the values in it, does not exist.
        """
        require_map_style(dataset, "data set to split")
        column_values = read_column(dataset, column)
        # Values from a command line are strings; compare as text so that they match a column of numbers too.
        as_text = column_values.astype(str)
        wanted = np.asarray([str(value) for value in _several(values)], dtype=str)
        unknown = wanted[~np.isin(wanted, as_text)].tolist()
        if unknown:
            raise ValueError(
                f"Column {column!r} has no row with {_few([repr(value) for value in unknown])}. "
                f"{nearest(unknown[0], np.unique(as_text).tolist())}"
            )
        # The values may be people: the selector records how many, not which.
        selector = {"by": "column", "column": column, "num_values": len(np.unique(wanted))}
        return cls(dataset, _nonempty(np.isin(as_text, wanted), f"column {column!r}"), selector=selector)

    @classmethod
    def from_class(
        cls, dataset: Dataset, classes: str | int | Sequence[str | int], label_column: str | None = None
    ) -> ForgetRetainSplit:
        """Forget every row of one or more classes, named or numbered (class-wise unlearning).

        Raises:
            ValueError: if a class does not exist (with the nearest names).
        """
        require_map_style(dataset, "data set to split")
        label_column = find_label_column(dataset, label_column)
        labels, name_of = read_labels(dataset, label_column), class_names(dataset, label_column)
        chosen = [class_number(given, name_of) for given in map(str, _several(classes))]
        selector = {"by": "class", "classes": [name_of[number] for number in chosen]}
        return cls(dataset, _nonempty(np.isin(labels, chosen), f"classes {selector['classes']}"), selector=selector)

    @classmethod
    def from_fraction(
        cls, dataset: Dataset, fraction: float, seed: int = 0, label_column: str | None = None
    ) -> ForgetRetainSplit:
        """Forget a random fraction of each class, drawn with `seed` (the paper's 10 % and 50 % settings).

        Raises:
            ValueError: if the fraction is not between 0 and 1, or so small that no row is chosen.
        """
        require_map_style(dataset, "data set to split")
        check_fraction(fraction)
        rows = stratified_rows(read_labels(dataset, find_label_column(dataset, label_column)), fraction, seed)
        if len(rows) == 0:
            raise ValueError(f"A fraction of {fraction} chooses no row of any class; forget more.")
        return cls(dataset, rows, selector={"by": "fraction", "fraction": fraction, "seed": seed})

    @cached_property
    def forget(self) -> Dataset:
        """The rows to forget, as a view."""
        return self.dataset.select(self.forget_rows)

    @cached_property
    def retain(self) -> Dataset:
        """The rows to retain, as a view."""
        return self.dataset.select(self.retain_rows)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the row numbers of both sides: two splits of one data set are equal if their digests are."""
        sha = hashlib.sha256()
        for rows in (self.forget_rows, self.retain_rows):
            sha.update(len(rows).to_bytes(8, "little"))
            sha.update(rows.astype("<i8").tobytes())
        return sha.hexdigest()

    def without_duplicates(self, how: str, **find: Unpack[DigestOptions]) -> ForgetRetainSplit:
        """A split in which no retained sample is identical to a forgotten one.

        Args:
            how: "move" forgets the identical retained rows too (the request covers the sample); "drop" leaves them out
                of both sides.
            **find: passed to `content_digests`.

        Raises:
            ValueError: for another `how`, or when nothing would be left to retain.
        """
        if how not in ("move", "drop"):
            raise ValueError(f"Identical samples can be handled by 'move' or 'drop', got {how!r}.")
        same = shared_rows(content_digests(self.retain, **find), content_digests(self.forget, **find))
        twins = self.retain_rows[same]
        forget = np.union1d(self.forget_rows, twins) if how == "move" else self.forget_rows
        retain = np.setdiff1d(self.retain_rows, twins, assume_unique=True)
        return ForgetRetainSplit(self.dataset, forget, retain, {**self.selector, "duplicates": how})


def _several(values: object) -> list:
    """A list of what was given: one string or number is a list of one."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]


def _nonempty(chosen: np.ndarray, what: str) -> np.ndarray:
    rows = np.flatnonzero(chosen)
    if len(rows) == 0:
        raise ValueError(f"No row matches {what}: the forget set would be empty.")
    return rows


def check_fraction(fraction: float) -> None:
    """Raise a ValueError unless a fraction to forget lies between 0 and 1."""
    if not 0 < fraction < 1:
        raise ValueError(f"The fraction to forget must lie between 0 and 1 (both excluded), got {fraction}.")


def class_names(dataset: Dataset, label_column: str) -> dict[int, str]:
    """Number → name of the classes; the numbers that there are where they have no names."""
    feature = dataset.features[label_column]
    if isinstance(feature, ClassLabel):
        return dict(enumerate(feature.names))
    return {int(number): str(number) for number in np.unique(read_labels(dataset, label_column))}


def class_number(given: str, name_of: Mapping[int, str]) -> int:
    """The number of a class that is named or numbered: a name first, as a class may be named "3" and be number 5.

    Raises:
        ValueError: if there is none (with the nearest names).
    """
    number_of = {name: number for number, name in name_of.items()}
    number = number_of.get(given, int(given) if given.isdecimal() else None)
    if number is None or number not in name_of:
        raise ValueError(f"There is no class {given!r} to forget. {nearest(given, list(number_of))}")
    return number


def stratified_rows(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A random `fraction` of the rows of each class, rounded to the nearest count; sorted row numbers."""
    rng = np.random.default_rng(seed)
    per_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.sort(np.concatenate([rng.permutation(rows)[: round(fraction * len(rows))] for rows in per_class]))
