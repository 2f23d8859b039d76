"""Find identical images within and across data sets, by content.

The LoTUS paper found identical images across the parts of MUFAC: a forgotten image that is also retained is not
forgotten, and one that is also "unseen" is no reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from datasets import Dataset, Image
from PIL import Image as PILImage
from tqdm.auto import tqdm

from hf_lotus.data.columns import find_image_column

if TYPE_CHECKING:
    from typing_extensions import Unpack


class DigestOptions(TypedDict, total=False):
    """How images are compared: the arguments of `content_digests` by name."""

    image_column: str | None
    by: str
    batch_size: int
    size: int


def content_digests(
    dataset: Dataset, image_column: str | None = None, by: str = "bytes", batch_size: int = 1000, size: int = 16
) -> np.ndarray:
    """A digest of every image; equal images have equal digests. Shape (rows,).

    Args:
        dataset: a data set with an image column.
        image_column: its name; found from the features if None.
        by: "bytes" hashes the encoded files as stored (fast, no decoding); "pixels" hashes decoded RGB pixels, which
            also finds an image that was saved twice in different encodings; "phash" is the perceptual hash, by which
            the LoTUS paper cleans MUFAC: it also finds an image that was compressed or scaled anew, and now and then
            calls two images the same that only look alike.
        batch_size: images read at a time.
        size: bytes of a digest. 16 tell images apart; 32 withstand someone who looks for two that share a digest.

    Raises:
        ValueError: if there is no image column, or for another `by`.
    """
    column = find_image_column(dataset, image_column)
    if column is None:
        raise ValueError("The data set has no image column to look for duplicates in.")
    if by not in ("bytes", "pixels", "phash"):
        raise ValueError(f"Images can be compared by 'bytes', 'pixels' or 'phash', got {by!r}.")
    images = dataset.with_format(None).select_columns([column])
    if by == "bytes":
        images = images.cast_column(column, Image(decode=False))
    digests = np.empty(len(images), dtype=f"V{size}")
    with tqdm(total=len(images), desc="Hashing images", unit="img", leave=False, disable=len(images) < 20_000) as bar:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size][column]
            for offset, image in enumerate(batch):
                content = perceptual_hash(image) if by == "phash" else _content(image)
                digests[start + offset] = hashlib.blake2b(content, digest_size=size).digest()
            bar.update(len(batch))
    return digests


def _content(image: PILImage.Image | dict[str, Any]) -> bytes:
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
    """Identical images across the parts of a run.

    Attributes:
        counts: "part & other part" → number of images of the first that also occur in the second.
    """

    counts: Mapping[str, int]

    def __str__(self) -> str:
        found = [f"{count} of {pair}" for pair, count in self.counts.items() if count]
        return "Identical images: " + ("; ".join(found) if found else "none across the parts") + "."


def find_duplicates(parts: Mapping[str, Dataset | None], **find: Unpack[DigestOptions]) -> Duplicates:
    """Count identical images between every two parts (forget, retain, unseen, test).

    Args:
        parts: name → data set; parts that are None are left out.
        **find: passed to `content_digests`.
    """
    digests = {name: content_digests(part, **find) for name, part in parts.items() if part is not None}
    names = list(digests)
    return Duplicates(
        {
            f"{first} & {second}": len(shared_rows(digests[first], digests[second]))
            for position, first in enumerate(names)
            for second in names[position + 1 :]
        }
    )
