"""Read pictures of a data set, and say of which row one is that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset
from PIL import Image as PILImage

from hf_lotus.utils.text import one_line


def read_pictures(dataset: Dataset, column: str, rows: Sequence[int]) -> list[PILImage.Image]:
    """The pictures of some rows, decoded.

    Args:
        dataset: a data set, or a selection of its rows.
        column: its image column, decoded or not.
        rows: places in it.

    Raises:
        ValueError: if one is missing, no picture, cut off, or says that it is larger than Pillow will decode; the
            message has its row in the whole data set.
    """
    try:
        pictures = dataset[rows if isinstance(rows, range) else list(rows)][column]
        for picture in pictures:
            _decode(picture)
    except Exception as error:
        if len(rows) > 1:  # which of them it is
            for row in rows:
                read_pictures(dataset, column, [row])
            raise
        why = one_line(error, 200).rstrip(".") or type(error).__name__
        raise ValueError(
            f"The picture in row {row_in_whole(dataset, rows[0])} of the data set (column {column!r}) cannot be read: "
            f"{why}. Leave the row out of the data set, or mend it."
        ) from error
    return pictures


def _decode(picture: object) -> None:
    """Raise unless it is a picture that can be decoded to its last pixel."""
    if picture is None:
        raise ValueError("there is none")
    if isinstance(picture, PILImage.Image):
        picture.load()


def row_in_whole(dataset: Dataset, row: int) -> int:
    """The number that a row of a selection has in the data set that it was selected from."""
    return row if dataset._indices is None else int(dataset._indices.column(0)[row].as_py())
