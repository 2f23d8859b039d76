"""Find identical samples within and across data sets, by content.

The LoTUS paper found identical images across the parts of MUFAC: a forgotten image that is also retained is not
forgotten, and one that is also "unseen" is no reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset, Image
from PIL import Image as PILImage
from tqdm.auto import tqdm

from hf_lotus.data.audio import audio_content, undecoded
from hf_lotus.data.columns import SAMPLE_COLUMNS, SampleColumns, find_samples
from hf_lotus.data.pictures import read_pictures
from hf_lotus.data.text import folded, text_content

if TYPE_CHECKING:
    from typing_extensions import Unpack


class DigestOptions(SampleColumns, total=False):
    """How samples are compared: the arguments of `content_digests` by name."""

    by: str | None
    batch_size: int
    size: int


_PLURAL = {"image": "images", "text": "texts", "audio": "clips"}
# What samples of each kind can be compared by, the default first.
BY = {"image": ("bytes", "pixels", "phash"), "text": ("text", "folded"), "audio": ("samples",)}


def content_digests(
    dataset: Dataset,
    image_column: str | None = None,
    by: str | None = None,
    batch_size: int = 1000,
    size: int = 16,
    text_column: str | Sequence[str] | None = None,
    audio_column: str | None = None,
) -> np.ndarray:
    """A digest of every sample; equal samples have equal digests. Shape (rows,).

    Args:
        dataset: a data set with a column of images, texts or clips.
        image_column: its name; found from the features if None.
        by: of images, "bytes" hashes the encoded files as stored (fast, no decoding, and the default); "pixels" hashes
            decoded RGB pixels, which also finds an image that was saved twice in different encodings; "phash" is the
            perceptual hash, by which the LoTUS paper cleans MUFAC: it also finds an image that was compressed or
            scaled anew, and now and then calls two images the same that only look alike. Of texts, "text" hashes the
            characters, "folded" what is left of them without case and kinds of spaces. Of clips, "samples" hashes the
            samples on one channel.
        batch_size: samples read at a time.
        size: bytes of a digest. 16 tell samples apart; 32 withstand someone who looks for two that share a digest.
        text_column: name of the text column, or of two whose texts belong together; found from the features if None.
        audio_column: name of the column of clips, likewise.

    Raises:
        ValueError: if there is no column with samples, or for another `by`.
    """
    found = find_samples(dataset, image_column=image_column, text_column=text_column, audio_column=audio_column)
    if found is None:
        raise ValueError("The data set has no image column to look for duplicates in, and no text or clips.")
    kind, columns = found
    by = by or BY[kind][0]
    if by not in BY[kind]:
        raise ValueError(f"{_PLURAL[kind].capitalize()} can be compared by {_listed(BY[kind])}, got {by!r}.")
    samples = undecoded(dataset, *columns) if kind == "audio" else dataset.with_format(None).select_columns([*columns])
    if by == "bytes":
        samples = samples.cast_column(columns[0], Image(decode=False))
    digests = np.empty(len(samples), dtype=f"V{size}")
    hidden = len(samples) < 20_000
    with tqdm(total=len(samples), desc=f"Hashing {_PLURAL[kind]}", unit=kind, leave=False, disable=hidden) as bar:
        for start in range(0, len(samples), batch_size):
            rows = range(start, min(start + batch_size, len(samples)))
            if kind == "image":  # by which the row is told of one that cannot be read
                read = [read_pictures(samples, columns[0], rows)]
            else:
                batch = samples[rows.start : rows.stop]
                read = [batch[column] for column in columns]
            for offset, values in enumerate(zip(*read, strict=True)):
                digests[start + offset] = hashlib.blake2b(_content(values, by), digest_size=size).digest()
            bar.update(len(rows))
    return digests


def _listed(names: Sequence[str]) -> str:
    *first, last = (repr(name) for name in names)
    return f"{', '.join(first)} or {last}" if first else last


def _content(values: tuple[Any, ...], by: str) -> bytes:
    """What of a sample is hashed; `values` are those of its columns."""
    if by == "phash":
        return perceptual_hash(values[0])
    if by in BY["image"]:
        return _image_content(values[0])
    if by in BY["audio"]:
        return audio_content(values[0])
    texts = [value or "" for value in values]
    return text_content([folded(text) for text in texts] if by == "folded" else texts)


def _image_content(image: PILImage.Image | dict[str, Any]) -> bytes:
    if isinstance(image, dict):  # the encoded file: inside the table, or a path to it
        return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
    if image.mode == "F" or image.mode.startswith("I"):  # more than 8 bits a pixel, which RGB would cut off
        return f"{image.mode} {image.size}".encode() + image.tobytes()
    rgb = image.convert("RGB")
    return f"{rgb.size}".encode() + rgb.tobytes()


def perceptual_hash(image: PILImage.Image) -> bytes:
    """The 64 bits of an image's perceptual hash (pHash, Zauner 2010).

    Which of the 8 × 8 lowest frequencies of the image, as 32 × 32 shades of grey, lie above their median: the signs of
    coarse shapes, which neither scaling nor compression changes.
    """
    from scipy.fft import dctn  # here, as it is slow to import

    shades = np.asarray(image.convert("L").resize((32, 32), PILImage.Resampling.LANCZOS), dtype=np.float64)
    low = dctn(shades, type=2)[:8, :8]
    return np.packbits(low > np.median(low)).tobytes()


def shared_rows(digests: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Positions in `digests` whose value also occurs in `others`."""
    return np.flatnonzero(np.isin(digests, others))


@dataclass(frozen=True)
class Duplicates:
    """Identical samples across the parts of a run.

    Attributes:
        counts: "part & other part" → number of samples of the first that also occur in the second.
        kind: what the samples are.
        nearly: the same counts of texts without case and kinds of spaces; empty for other samples.
    """

    counts: Mapping[str, int]
    kind: str = "image"
    nearly: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        exact = _told(self.counts)
        more = _told({pair: count for pair, count in self.nearly.items() if count > self.counts[pair]})
        told = f"Identical {_PLURAL[self.kind]}: {exact or 'none across the parts'}"
        return f"{told} (but for case and spaces: {more})." if more else f"{told}."


def _told(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{count} of {pair}" for pair, count in counts.items() if count)


def find_duplicates(parts: Mapping[str, Dataset | None], **find: Unpack[DigestOptions]) -> Duplicates:
    """Count identical samples between every two parts (forget, retain, unseen, test).

    Args:
        parts: name → data set; parts that are None are left out.
        **find: passed to `content_digests`.
    """
    present = {name: part for name, part in parts.items() if part is not None}
    columns: SampleColumns = {name: find[name] for name in SAMPLE_COLUMNS if name in find}  # type: ignore[literal-required,assignment]
    found = find_samples(next(iter(present.values())), **columns) if present else None
    kind = found[0] if found is not None else "image"
    nearly = _counts(present, {**find, "by": "folded"}) if kind == "text" and find.get("by") is None else {}
    return Duplicates(_counts(present, find), kind, nearly)


def _counts(parts: Mapping[str, Dataset], find: DigestOptions) -> dict[str, int]:
    digests = {name: content_digests(part, **find) for name, part in parts.items()}
    names = list(digests)
    return {
        f"{first} & {second}": len(shared_rows(digests[first], digests[second]))
        for position, first in enumerate(names)
        for second in names[position + 1 :]
    }
