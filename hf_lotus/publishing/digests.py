"""Salted digests of samples, and one Merkle root over them: they tell what was to be forgotten and name nobody."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from tqdm.auto import tqdm

from hf_lotus.data.columns import LABEL_NAMES, SampleColumns, find_samples
from hf_lotus.data.duplicates import content_digests
from hf_lotus.data.sized import sized
from hf_lotus.publishing.merkle import tree_levels
from hf_lotus.utils.files import write_private

if TYPE_CHECKING:
    from typing_extensions import Unpack

SALT_BYTES = 32
# What of a sample of each kind is digested.
CONTENT = {"image": "pixels", "text": "text", "audio": "samples"}
# Each kind of hash begins differently, so that none can stand for another.
_COMMITMENT, _SAMPLE = b"hf-lotus salt\0", b"hf-lotus sample\0"


class SampleDigests(TypedDict):
    """What a record tells of each sample, as JSON values.

    Attributes:
        algorithm: of the salted digests.
        content: what of a sample is digested: "pixels", "text", "samples" or "values".
        salt_commitment: `Salt.commitment`.
        merkle_root: `merkle_root` of the samples.
        samples: their salted digests, sorted.
    """

    algorithm: str
    content: str
    salt_commitment: str
    merkle_root: str
    samples: list[str]


@dataclass(frozen=True)
class Salt:
    """The owner's secret. Without it nobody can tell which samples the digests of a record are of.

    Attributes:
        value: 32 random bytes.
    """

    value: bytes = field(repr=False)

    @classmethod
    def new(cls) -> Salt:
        """A fresh salt, from the operating system's randomness."""
        return cls(secrets.token_bytes(SALT_BYTES))

    @classmethod
    def read(cls, path: str | Path) -> Salt:
        """The salt in a file.

        Raises:
            OSError: if there is no such file.
            ValueError: if it is not a salt's file; its content is not shown.
        """
        if Path(path).is_dir():
            raise ValueError(f"{path} is a folder, and a salt is a file of {2 * SALT_BYTES} hexadecimal digits.")
        text = Path(path).read_bytes().strip()
        try:
            value = bytes.fromhex(text.decode("ascii"))
        except ValueError:  # also of a file that is not text
            value = b""
        if len(value) != SALT_BYTES:
            raise ValueError(f"{path} is not a salt: it must hold {2 * SALT_BYTES} hexadecimal digits and no more.")
        return cls(value)

    @classmethod
    def read_or_create(cls, path: str | Path) -> Salt:
        """The salt in a file that only its owner may read; made with a fresh one where there is none.

        A salt that is there is kept: without it, nothing that was recorded with it can be proven any more. Of several
        processes that make one at once, all take that of the first.

        Raises:
            OSError: if the file cannot be written.
            ValueError: if the file there is not a salt's.
        """
        if not Path(path).exists():
            salt = cls.new()
            with suppress(FileExistsError):
                write_private(path, salt.value.hex() + "\n", new=True)
                return salt
        return cls.read(path)

    @property
    def commitment(self) -> str:
        """A digest that tells this salt from any other and says nothing else of it.

        It stands in the record, or the owner could "prove" with another salt that a sample was never in a request.
        """
        return hashlib.sha256(_COMMITMENT + self.value).hexdigest()

    def digest(self, content: bytes, label: int) -> str:
        """The salted digest of a sample: HMAC-SHA256 of its content's digest and its label."""
        return hmac.new(
            self.value, _SAMPLE + content + int(label).to_bytes(8, "big", signed=True), "sha256"
        ).hexdigest()


def salted_digests(contents: np.ndarray, labels: Sequence[int] | np.ndarray, salt: Salt) -> list[str]:
    """The salted digest of every sample, in the samples' order.

    Args:
        contents: `sample_contents` of them, shape (samples,).
        labels: their classes, shape (samples,).
        salt: the owner's.
    """
    labels = np.asarray(labels).tolist()
    return [salt.digest(content.tobytes(), label) for content, label in zip(contents, labels, strict=True)]


def digest_samples(
    samples: torch.utils.data.Dataset,
    labels: Sequence[int] | np.ndarray,
    salt: Salt,
    **columns: Unpack[SampleColumns],
) -> SampleDigests:
    """What a record tells of each sample: salted digests in their sorted order, and one Merkle root over them.

    Args:
        samples: as `sample_contents` takes them.
        labels: their classes, shape (samples,).
        salt: the owner's.
        **columns: of the samples, where they cannot be told from the features.

    Returns:
        the `digests` of a record, as JSON values.

    Raises:
        ValueError: if the samples have no content that a digest could tell.
    """
    kind, contents = sample_contents(samples, **columns)
    listed = sorted(salted_digests(contents, labels, salt))
    return {
        "algorithm": "hmac-sha256",
        "content": kind,
        "salt_commitment": salt.commitment,
        "merkle_root": merkle_root(listed),
        "samples": listed,
    }


def sample_contents(samples: torch.utils.data.Dataset, **columns: Unpack[SampleColumns]) -> tuple[str, np.ndarray]:
    """A 32-byte digest of each sample's content, its label left out.

    Images are known by their decoded pixels, so that one saved again without loss is still the same; one saved again
    as a JPEG is another, and so may be a JPEG that another decoder rounds differently. Texts are known by their
    characters, to the last space, and clips by their samples on one channel. Others are known by all their values.

    Args:
        samples: a `datasets.Dataset`, or any data set whose samples are mappings.
        **columns: of the samples, where they cannot be told from the features.

    Returns:
        what was digested ("pixels", "text", "samples" or "values"), and the digests, shape (samples,).

    Raises:
        ValueError: if a sample is not the same when it is read again, or has values that have no content of their own.
    """
    if isinstance(samples, Dataset):
        samples = samples.with_format(None)
        if (found := find_samples(samples, **columns)) is not None:
            content = CONTENT[found[0]]
            return content, content_digests(samples, by=content, size=32, **columns)
    size = len(sized(samples))
    contents = np.empty(size, dtype="V32")
    if _values(samples[0]) != _values(samples[0]):
        raise ValueError("The samples change whenever they are read (random augmentation?), so no digest tells them.")
    for row in tqdm(range(size), "Hashing samples", leave=False, disable=size < 20_000):
        contents[row] = hashlib.blake2b(_values(samples[row]), digest_size=32).digest()
    return "values", contents


def _values(sample: Mapping[str, Any]) -> bytes:
    """All values of a sample but its label, each with its name, in the names' order."""
    parts = []
    for name in sorted(set(sample) - set(LABEL_NAMES)):
        value = sample[name]
        if isinstance(value, torch.Tensor):
            value = value.cpu().numpy()
        if isinstance(value, np.ndarray | np.generic):
            content = f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
        else:
            try:
                content = json.dumps(value, sort_keys=True).encode()
            except TypeError as error:
                raise ValueError(f"Column {name!r} has values that no digest can be made of: {error}.") from error
        parts += [name.encode(), content]
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def merkle_root(digests: Sequence[str]) -> str:
    """The root of the tree over the digests in their sorted order, so that the order of the samples is not told.

    The tree is that of Certificate Transparency (RFC 6962, section 2.1), so that `InclusionProof` can tell of one
    digest alone.

    Raises:
        ValueError: if there are no digests.
    """
    return tree_levels([bytes.fromhex(digest) for digest in sorted(digests)])[-1][0].hex()


def find_rows(digests: Sequence[str], wanted: Sequence[str]) -> tuple[np.ndarray, int]:
    """The rows whose digests are wanted, each wanted digest at most once.

    Args:
        digests: of all rows, in order.
        wanted: those of a record; one that occurs twice wants two rows.

    Returns:
        the row numbers, sorted, and how many of the wanted digests no row has.
    """
    missing, rows = Counter(wanted), []
    for row, digest in enumerate(digests):
        if missing[digest] > 0:
            missing[digest] -= 1
            rows.append(row)
    return np.asarray(rows, dtype=np.int64), missing.total()


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and buffers, with their names."""
    sha = hashlib.sha256()
    for name, value in model.state_dict().items():
        sha.update(name.encode() + value.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
