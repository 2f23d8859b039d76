"""Pictures that look like an asked one: a hint apart from any proof, for a picture that was saved or scaled anew.

A record's digests know a picture by its exact pixels, so a JPEG saved again is another to them. Perceptual hashes
(`duplicates.perceptual_hash`, 64 bits) of the two differ in few bits. How few was measured on CIFAR-10's 50,000
training pictures (32 × 32), with 500 of them changed in nine ways: as JPEG of quality 50, 60, 75, 85 and 95, scaled by
0.8 and 1.2, and both with JPEG of quality 50 after it.

    bits that may differ    changed pictures found    pairs of rows taken for one    pictures with another such row
    4                       99.87 % of 4,500          2.7e-7                         1.0 %
    8 (`LOOKS_LIKE`)        100 %                     9.3e-7                         3.0 %
    12                      100 %                     1.1e-5                         32 %

The last two columns are of 300 pictures against all other rows. Not all of these are mistakes: CIFAR-10 has pictures
that stand in it twice, nearly the same (Barz and Denzler 2020). Larger data sets have more pairs, hence more mistakes.
A picture that was cropped, mirrored, turned or painted over is not found. Nothing here is proof: two pictures that
look alike may be two, and who wants to can make a picture of any hash.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image as PILImage

from hf_lotus.data.duplicates import perceptual_hash

BITS = 64
LOOKS_LIKE = 8
# Half of a picture's bits are set, by the hash's making, unless most of its frequencies are the same: it is plain.
_FEWEST_SET = 24
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Lookalikes:
    """Which pictures look like an asked one.

    Attributes:
        rows: their places among the pictures that were looked through, the nearest first.
        distances: in how many of the 64 bits each differs.
        plain: whether the asked picture has too little in it for its hash to tell anything.
    """

    rows: tuple[int, ...]
    distances: tuple[int, ...]
    plain: bool = False

    def __str__(self) -> str:
        if self.plain:
            return "too plain a picture to say what it looks like"
        if not self.rows:
            return "looks like none of them"
        pictures = "1 picture" if len(self.rows) == 1 else f"{len(self.rows)} pictures"
        return f"looks like {pictures} of them (the nearest differs in {self.distances[0]} of {BITS} bits); no proof"


def perceptual_hashes(pictures: Iterable[PILImage.Image]) -> np.ndarray:
    """The perceptual hash of every picture, shape (pictures, 8), uint8."""
    found = [np.frombuffer(perceptual_hash(picture), dtype=np.uint8) for picture in pictures]
    return np.stack(found) if found else np.empty((0, BITS // 8), dtype=np.uint8)


def hamming_distances(hashes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """In how many bits each hash differs from another.

    Args:
        hashes: shape (pictures, 8), uint8.
        other: shape (8,), uint8.

    Returns:
        shape (pictures,), 0 to 64.

    Raises:
        ValueError: for arrays of other shapes or kinds.
    """
    hashes, other = np.asarray(hashes), np.asarray(other)
    for name, array, shape in (("hashes", hashes, hashes.shape[:1] + (BITS // 8,)), ("other", other, (BITS // 8,))):
        if array.dtype != np.uint8 or array.shape != shape:
            raise ValueError(f"{name} must be of bytes and shape {shape}, got {array.dtype} of shape {array.shape}.")
    return _ONES[hashes ^ other].sum(axis=1, dtype=np.int64)


def is_plain(bits: np.ndarray) -> bool:
    """Whether a picture has too little in it, such as one shade all over, for its hash to tell it from others.

    Args:
        bits: its hash, shape (8,), uint8.
    """
    return int(_ONES[bits].sum()) < _FEWEST_SET


def find_lookalikes(asked: PILImage.Image, hashes: np.ndarray, most: int = LOOKS_LIKE) -> Lookalikes:
    """Which of the pictures with these hashes look like an asked one.

    Args:
        asked: the picture.
        hashes: `perceptual_hashes` of the pictures to look through, shape (pictures, 8).
        most: bits that may differ.

    Raises:
        ValueError: for a number of bits that is none.
    """
    if not 0 <= most < BITS // 2:
        raise ValueError(f"Pictures that look alike differ in 0 to {BITS // 2 - 1} bits, got {most}.")
    bits = perceptual_hashes([asked])[0]
    if is_plain(bits):
        return Lookalikes((), (), plain=True)
    distances = hamming_distances(hashes, bits)
    near = [row for row in np.argsort(distances, kind="stable") if distances[row] <= most]
    return Lookalikes(tuple(map(int, near)), tuple(int(distances[row]) for row in near))
