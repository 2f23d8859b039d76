"""Find the columns of a data set that hold its samples and labels, and read labels without decoding samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Image, IterableDataset, IterableDatasetDict, Value

from hf_lotus.utils.text import nearest

if TYPE_CHECKING:
    import pyarrow as pa

# Names under which a sample may carry its label, the likeliest first.
LABEL_NAMES = ("labels", "label", "label_ids")
# Names under which the data sets of the Hub have their texts, one alone or two that belong together; the first that
# fits. A name that is not here has to be given: any column of strings may be a text, or a person.
TEXT_NAMES = (
    *(("text",), ("sentence",), ("content",), ("review",), ("document",), ("review_body",), ("message",)),
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence")),
)

# What samples can be, in the order in which a data set's columns are looked through.
_KINDS = ("image", "audio", "text")
# The options that name the columns of samples.
SAMPLE_COLUMNS = ("image_column", "text_column", "audio_column")


class SampleColumns(TypedDict, total=False):
    """Which columns hold the samples, where a data set's features leave that open.

    Attributes:
        image_column: name of the image column.
        text_column: name of the text column, or of two whose texts belong together.
        audio_column: name of the column of clips.
    """

    image_column: str | None
    text_column: str | Sequence[str] | None
    audio_column: str | None


class InputOptions(SampleColumns, total=False):
    """How a data set's rows become model inputs, where its features and the model's processor leave that open.

    Attributes:
        label_column: name of the label column.
        max_length: tokens after which a text is cut off, or samples of a clip.
        ready_images_dir: folder where ready pixels are kept for other runs (`PixelStore`).
        keep_forgotten: whether those of the forget set are; yes if left out.
        decoding_workers: processes that decode the pictures which that folder lacks, where it pays; none if left out.
    """

    label_column: str | None
    max_length: int | None
    ready_images_dir: str | None
    keep_forgotten: bool
    decoding_workers: int


def require_map_style(dataset: object, what: str) -> None:
    """Raise `TypeError` for a streamed data set, whose rows have no numbers, and for several splits at once."""
    if isinstance(dataset, (DatasetDict, IterableDatasetDict)):
        raise TypeError(f"The {what} is a {type(dataset).__name__}: choose one of its splits ({', '.join(dataset)}).")
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            f"The {what} is an IterableDataset, which has no row numbers to forget by. "
            "Load it without streaming=True, or write it to disk first."
        )


def require_column(dataset: Dataset, column: str) -> None:
    """Raise `ValueError` naming the nearest columns if `dataset` has no such column."""
    if column not in dataset.column_names:
        raise ValueError(f"The data set has no column {column!r}. {nearest(column, dataset.column_names)}")


def find_image_column(dataset: Dataset, named: str | None = None) -> str | None:
    """Name of the image column: `named` if given, else the only `Image` feature, else None.

    Raises:
        ValueError: if `named` is not an image column, or there are several and none was named.
    """
    images = [name for name, feature in (dataset.features or {}).items() if isinstance(feature, Image)]
    if named is not None:
        require_column(dataset, named)
        if named not in images:
            raise ValueError(
                f"Column {named!r} is {dataset.features[named]}, not an Image feature ({images or 'none'})."
            )
        return named
    if len(images) > 1:
        raise ValueError(
            f"The data set has several image columns ({', '.join(images)}): name one as the image column."
        )
    return images[0] if images else None


def find_text_columns(dataset: Dataset, named: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """Names of the text columns, one or two: those named, else the first usual ones that there are, else none.

    Raises:
        ValueError: if a named column holds no texts, or there are more than two.
    """
    features = dataset.features or {}
    texts = [name for name, feature in features.items() if _is_text(feature)]
    if named is None:
        return next((names for names in TEXT_NAMES if all(name in texts for name in names)), ())
    wanted = (named,) if isinstance(named, str) else tuple(named)
    if len(wanted) not in (1, 2):
        raise ValueError(f"A sample is one text or two that belong together; got {len(wanted)} text columns.")
    for name in wanted:
        require_column(dataset, name)
        if name not in texts:
            raise ValueError(f"Column {name!r} is {features[name]}, which is no text ({', '.join(texts) or 'none'}).")
    return wanted


def _is_text(feature: object) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def find_audio_column(dataset: Dataset, named: str | None = None) -> str | None:
    """Name of the column of clips: `named` if given, else the only `Audio` or mapping with an array, else None.

    Raises:
        ValueError: if `named` holds no clips, or there are several columns of them and none was named.
    """
    features = dataset.features or {}
    clips = [name for name, feature in features.items() if _is_audio(feature)]
    if named is not None:
        require_column(dataset, named)
        numbers = isinstance(getattr(features[named], "feature", None), Value)  # a list of numbers is taken by name
        if named not in clips and not numbers:
            raise ValueError(
                f"Column {named!r} is {features[named]}, which is no clip ({', '.join(clips) or 'none'})."
            )
        return named
    if len(clips) > 1:
        raise ValueError(f"The data set has several columns of clips ({', '.join(clips)}): name one as audio_column.")
    return clips[0] if clips else None


def _is_audio(feature: object) -> bool:
    return isinstance(feature, Audio) or (isinstance(feature, dict) and {"array", "sampling_rate"} <= feature.keys())


def has_plain_columns(dataset: Dataset) -> bool:
    """Whether all columns hold numbers, strings or classes, and none lists, arrays or files."""
    return all(isinstance(feature, Value | ClassLabel) for feature in (dataset.features or {}).values())


def find_samples(dataset: Dataset, **named: object) -> tuple[str, tuple[str, ...]] | None:
    """What a data set's raw samples are, and the columns that hold them.

    A column that is named says what they are. Otherwise images and clips come before a text, which may be their
    caption, and a text is taken only where no column holds lists or arrays, which may be model inputs already.

    Args:
        dataset: the data set.
        **named: `InputOptions`; those that name no samples are left alone.

    Returns:
        "image", "audio" or "text", and the columns; None where there are none of them.

    Raises:
        ValueError: if columns of several kinds are named, or a named one is of another kind.
    """
    given: dict = {kind: named[f"{kind}_column"] for kind in _KINDS if named.get(f"{kind}_column")}
    if len(given) > 1:
        raise ValueError(f"Samples are of one kind; got {' and '.join(f'{kind}_column' for kind in given)}.")
    for kind in given or _KINDS:
        if kind == "text":
            plain = given or has_plain_columns(dataset)
            columns = find_text_columns(dataset, given.get(kind)) if plain else ()
        else:
            column = (find_image_column if kind == "image" else find_audio_column)(dataset, given.get(kind))
            columns = () if column is None else (column,)
        if columns:
            return kind, columns
    return None


def find_label_column(dataset: Dataset, named: str | None = None, num_labels: int | None = None) -> str:
    """Name of the label column: `named` if given, else the `ClassLabel` feature that fits, else the usual name.

    Args:
        dataset: the data set.
        named: the user's choice, checked to exist.
        num_labels: the model's number of classes; chooses between several label columns (CIFAR-100's fine and coarse).

    Raises:
        ValueError: if no column fits, or several do.
    """
    if named is not None:
        require_column(dataset, named)
        return named
    class_labels = [name for name, feature in (dataset.features or {}).items() if isinstance(feature, ClassLabel)]
    fitting = [name for name in class_labels if num_labels in (None, dataset.features[name].num_classes)]
    if len(fitting) == 1:
        return fitting[0]
    usual = [name for name in LABEL_NAMES if name in dataset.column_names and name in (fitting or [name])]
    if usual:
        return usual[0]
    raise ValueError(
        f"Cannot tell which column holds the labels: {len(fitting)} of the class-label columns "
        f"({', '.join(class_labels) or 'none'}) fit"
        + (f" a model with {num_labels} classes" if num_labels is not None else "")
        + f". Name the label column; the columns are {', '.join(dataset.column_names)}."
    )


def read_column(dataset: Dataset, column: str) -> np.ndarray:
    """One column as an array, without reading or decoding the others; shape (rows,)."""
    require_column(dataset, column)
    return np.asarray(dataset.select_columns([column]).with_format("numpy")[:][column])


def read_labels(dataset: Dataset, column: str) -> np.ndarray:
    """The label column as int64, shape (rows,).

    Raises:
        ValueError: if the labels are not integers (regression, several labels a sample, names).
    """
    labels = read_column(dataset, column)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Column {column!r} must hold one integer class a sample, got {labels.dtype} of shape {labels.shape}. "
            "Turn names into classes with dataset.class_encode_column; several labels a sample are not supported."
        )
    return labels.astype(np.int64)


def shared_base_rows(first: object, second: object) -> list[int]:
    """Rows of `first` that are also rows of `second`, where both are views of one table in memory or on disk.

    Selecting, slicing and dropping columns keep the table's buffers, so a row is known by its buffer and its place in
    it, without reading any data. Data sets of other kinds, or loaded twice, share no buffers and give no rows.
    """
    if not isinstance(first, Dataset) or not isinstance(second, Dataset):
        return []
    common = [name for name in first.column_names if name in second.column_names]
    column = next((name for name in common if _has_buffers(first, name) and _has_buffers(second, name)), None)
    if column is None:
        return []
    return np.flatnonzero(np.isin(_row_addresses(first, column), _row_addresses(second, column))).tolist()


def _first_buffer(chunk: pa.Array) -> int | None:
    return next((buffer.address for buffer in chunk.buffers() if buffer is not None), None)


def _has_buffers(dataset: Dataset, column: str) -> bool:
    """Whether the column's rows lie anywhere in memory: those of an empty column, or one of nulls alone, do not."""
    chunks = dataset.data.column(column).chunks
    return len(chunks) > 0 and all(_first_buffer(chunk) is not None for chunk in chunks)


def _row_addresses(dataset: Dataset, column: str) -> np.ndarray:
    """For each row, its buffer's address and its place in that buffer, shape (rows,)."""
    places = []
    for chunk in dataset.data.column(column).chunks:
        place = np.empty(len(chunk), dtype=[("buffer", np.int64), ("place", np.int64)])
        place["buffer"] = _first_buffer(chunk)
        place["place"] = np.arange(chunk.offset, chunk.offset + len(chunk))
        places.append(place)
    rows = np.concatenate(places)
    # A selection that is not contiguous keeps the whole table and a list of rows beside it.
    return rows if dataset._indices is None else rows[dataset._indices.column(0).to_numpy()]
