"""Data set + feature extractor → ready clips: decoded, mixed to one channel, resampled and featured once.

The only room that knows about sounds. WAV files are read by SciPy, all others by soundfile where it is installed.
"""

from __future__ import annotations

import copy
import io
import math
import mmap
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, cast

import datasets
import numpy as np
import torch
from scipy.io import wavfile
from scipy.signal import resample_poly
from torch import Tensor
from tqdm.auto import tqdm
from transformers import SequenceFeatureExtractor

from hf_lotus.data.columns import find_audio_column, find_label_column, read_labels
from hf_lotus.data.samples import ReadySamples, bounds_of

_MASK = "attention_mask"


class ReadyAudio(ReadySamples):
    """A data set of clips, decoded and featured when it is made.

    What an extractor makes equally long is stacked. Otherwise a batch is padded to its longest clip by the extractor's
    own `pad`, if the model takes an attention mask, which keeps padding out. Where it takes none, silence after a clip
    would change its logits, and by how much would depend on the other clips of the batch: all are then made of one
    length, which `max_length` says unless they are so already.

    Features lie in an unnamed file beside the data sets' cache, which memory holds as far as there is room.

    Args:
        dataset: a `datasets.Dataset` with a column of clips and a label column. Clips are `datasets.Audio`, mappings
            of "array" and "sampling_rate", or, where the column is named, lists of numbers at the extractor's rate.
        extractor: the model's feature extractor.
        audio_column: found from the features if None.
        label_column: found from the features if None.
        num_labels: the model's number of classes, to choose between several label columns.
        max_length: samples (of the extractor's rate) to which a longer clip is cut.

    Raises:
        ValueError: if a column cannot be found, a clip cannot be read, or the clips' lengths differ and must not.
    """

    kind: ClassVar[str] = "audio"

    def __init__(
        self,
        dataset: datasets.Dataset,
        extractor: SequenceFeatureExtractor,
        audio_column: str | None = None,
        label_column: str | None = None,
        num_labels: int | None = None,
        max_length: int | None = None,
    ):
        column = find_audio_column(dataset, audio_column)
        if column is None:
            raise ValueError(
                "Cannot tell which column holds the clips: name it by audio_column. The columns are "
                f"{', '.join(dataset.column_names)}."
            )
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be 1 sample or more, got {max_length}.")
        self.labels = torch.from_numpy(read_labels(dataset, find_label_column(dataset, label_column, num_labels)))
        self.clips, self.extractor = undecoded(dataset, column), extractor
        self.input_name = cast(Any, extractor).model_input_names[0]
        self.masks = bool(getattr(extractor, "return_attention_mask", False))
        pads = max_length is not None and not self.masks
        self.features, self.bounds = _stored(self._featured(column, max_length, pads), self.input_name)
        lengths = (self.bounds[:, 1] - self.bounds[:, 0]).unique()
        self.is_even = len(lengths) == 1
        if not self.is_even and not self.masks:
            longest = int(lengths.max())
            raise ValueError(
                f"The clips are of {int(lengths.min())} to {longest} samples, and the model takes no attention mask: "
                "its logits of a clip would depend on the others of its batch. Give max_length, to which all are cut "
                f"or filled with silence; {longest} keeps them whole."
            )

    @property
    def source(self) -> datasets.Dataset:
        """The column of clips, as it is stored."""
        return self.clips

    def select(self, rows: Sequence[int] | np.ndarray) -> ReadyAudio:
        """Some of the rows as a set of its own, which shares the features."""
        part, wanted = copy.copy(self), torch.as_tensor(np.asarray(rows, dtype=np.int64))
        part.labels, part.bounds, part.clips = self.labels[wanted], self.bounds[wanted], self.clips.select(rows)
        return part

    def _featured(self, column: str, max_length: int | None, pads: bool) -> Iterator[np.ndarray]:
        """The features of each clip in turn, float32, shape (length, …)."""
        cut: dict[str, Any] = {"padding": "max_length"} if pads else {}
        if max_length is not None:
            cut |= {"max_length": max_length, "truncation": True}
        rate = int(self.extractor.sampling_rate)
        hidden = len(self.clips) < 1000
        for row in tqdm(range(len(self.clips)), desc="Reading clips", unit="clip", leave=False, disable=hidden):
            try:
                wave = resampled(*read_clip(self.clips[row][column]), rate)
            except ValueError as error:
                raise ValueError(f"Row {row}, column {column!r}: {error}") from error
            made = cast(Any, self.extractor)(wave, sampling_rate=rate, return_tensors="np", **cut)
            yield np.asarray(made[self.input_name][0], dtype=np.float32)

    def __getitems__(self, rows: Sequence[int] | Tensor) -> dict[str, Tensor]:
        """Features (batch, longest of them, …) and labels (batch,) of the given rows, as one batch."""
        wanted = torch.as_tensor(rows)
        clips = [self.features[start:end] for start, end in self.bounds[wanted].tolist()]
        return {**self._batch(clips), "labels": self.labels[wanted]}

    def joined(self, batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Batches laid end to end, each padded to the longest clip of them all."""
        if self.is_even and len({batch[self.input_name].shape[1:] for batch in batches}) == 1:
            return super().joined(batches)
        clips = [
            clip[:length]
            for batch in batches
            for clip, length in zip(batch[self.input_name], batch[_MASK].sum(1).tolist(), strict=True)
        ]
        return {**self._batch(clips), "labels": torch.cat([batch["labels"] for batch in batches])}

    def _batch(self, clips: list[Tensor]) -> dict[str, Tensor]:
        if not self.masks:
            return {self.input_name: torch.stack(clips)}
        padded = cast(Any, self.extractor).pad(
            {self.input_name: [clip.numpy() for clip in clips]}, padding=True, return_attention_mask=True,
            return_tensors="pt",
        )  # fmt: skip
        return {self.input_name: padded[self.input_name].float(), _MASK: padded[_MASK].long()}


def _stored(clips: Iterator[np.ndarray], what: str) -> tuple[Tensor, Tensor]:
    """Features of all clips laid end to end, in a file mapped into memory, and each clip's bounds (clips, 2)."""
    lengths, shape = [], None
    folder = datasets.config.HF_DATASETS_CACHE  # a system's temporary folder may itself be in memory
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        for clip in clips:
            if shape is not None and clip.shape[1:] != shape or not clip.size:
                raise ValueError(f"The feature extractor gave {what} of shape {clip.shape}. Are there empty clips?")
            shape = clip.shape[1:]
            lengths.append(len(clip))
            file.write(clip.tobytes())
        file.flush()
        buffer = mmap.mmap(file.fileno(), 0)
    assert shape is not None
    return torch.frombuffer(buffer, dtype=torch.float32).view(-1, *shape), bounds_of(lengths)


def undecoded(dataset: datasets.Dataset, column: str) -> datasets.Dataset:
    """The column of clips alone, files as they are stored: `datasets` itself decodes only with torchcodec."""
    clips = dataset.with_format(None).select_columns([column])
    if isinstance(clips.features[column], datasets.Audio):
        clips = clips.cast_column(column, datasets.Audio(decode=False))
    return clips


def read_clip(clip: Any) -> tuple[np.ndarray, int | None]:
    """A clip's samples on one channel, float32 of shape (samples,), and its rate; None where only numbers are given.

    Args:
        clip: a file's "bytes" or "path", an "array" with its "sampling_rate", or numbers.

    Raises:
        ValueError: if it cannot be read.
    """
    if clip is None:
        raise ValueError("there is no clip. Leave the row out.")
    if not isinstance(clip, Mapping):
        return _one_channel(np.asarray(clip, dtype=np.float32)), None
    if clip.get("array") is not None:
        return _one_channel(np.asarray(clip["array"], dtype=np.float32)), int(clip["sampling_rate"])
    source = io.BytesIO(clip["bytes"]) if clip.get("bytes") is not None else open(clip["path"], "rb")  # noqa: SIM115
    with source:
        return _read_file(source)


def _read_file(source: Any) -> tuple[np.ndarray, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks of other programs, which are passed over
            rate, values = wavfile.read(source)
    except ValueError as error:
        return _read_by_soundfile(source, error)
    if values.dtype == np.uint8:
        values = (values.astype(np.float32) - 128) / 128
    elif np.issubdtype(values.dtype, np.integer):
        values = (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
    return _one_channel(values.astype(np.float32).T), int(rate)


def _read_by_soundfile(source: Any, error: ValueError) -> tuple[np.ndarray, int]:
    try:
        import soundfile
    except (ImportError, OSError):
        raise ValueError(
            f"the clip is no WAV file ({error}), and soundfile, which reads the others, is not installed. "
            "pip install 'hf-lotus[audio]'."
        ) from error
    source.seek(0)
    try:
        values, rate = soundfile.read(source, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as failed:
        raise ValueError(f"the clip cannot be read: {failed}") from failed
    return _one_channel(values.T), int(rate)


def _one_channel(values: np.ndarray) -> np.ndarray:
    """The mean of the channels, shape (samples,); `values` of shape (samples,) or (channels, samples)."""
    if values.ndim not in (1, 2) or not values.size or not np.isfinite(values).all():
        raise ValueError(f"a clip is finite numbers of shape (samples,) or (channels, samples), got {values.shape}.")
    return values if values.ndim == 1 else values.mean(axis=0, dtype=np.float32)


def resampled(wave: np.ndarray, rate: int | None, wanted: int) -> np.ndarray:
    """A clip at another rate, by a polyphase filter; as it is where the rates agree, or its own is not known."""
    if rate is None or rate == wanted:
        return wave
    if rate < 1:
        raise ValueError(f"the clip has a sampling rate of {rate}.")
    common = math.gcd(rate, wanted)
    return resample_poly(wave, wanted // common, rate // common).astype(np.float32)


def audio_content(clip: Any) -> bytes:
    """What tells a clip from any other: its rate, and its samples on one channel."""
    wave, rate = read_clip(clip)
    return f"{rate} {len(wave)} ".encode() + np.ascontiguousarray(wave, dtype="<f4").tobytes()
