"""Inclusion proofs: that one digest is among those under a record's Merkle root, told without the others.

The tree of a record (`digests.merkle_root`) is that of Certificate Transparency (RFC 6962, section 2.1), over the
samples' salted digests in their sorted order. A proof is the audit path of section 2.1.1: for every node between the
leaf and the root the hash of its other half, at most ⌈log2 n⌉ of them. It is checked as RFC 9162, section 2.1.3.2,
says, against a root that came another way: from a signed record, or from the owner when the request was served.

What a proof tells: this digest was in the list. It takes the salt to say of which sample the digest is; whoever asked
to be forgotten may be given their sample's digest and its proof, and keeps both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_lotus.utils.files import write_whole

FORMAT, FORMAT_VERSION = "hf-lotus inclusion proof", 1
_LEAF, _NODE = b"\0", b"\1"
_SHA256 = re.compile("[0-9a-f]{64}")


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf's data: SHA-256 of a zero byte and the data."""
    return hashlib.sha256(_LEAF + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node: SHA-256 of a one byte and the hashes of its halves."""
    return hashlib.sha256(_NODE + left + right).digest()


def tree_levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The tree's levels from the leaves' hashes up to the root; a last node without a partner rises as it is.

    Raises:
        ValueError: if there are no leaves.
    """
    if not leaves:
        raise ValueError("There is no Merkle tree of no leaves; a forget set has at least one sample.")
    levels = [[leaf_hash(leaf) for leaf in leaves]]
    while len(below := levels[-1]) > 1:
        pairs = [node_hash(a, b) for a, b in zip(below[::2], below[1::2], strict=False)]
        levels.append(pairs + below[len(pairs) * 2 :])
    return levels


def audit_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes that lead from a leaf to the root, from below: PATH(m, D[n]) of RFC 6962, section 2.1.1.

    Args:
        leaves: the data of all leaves, in order.
        index: of the leaf, from 0.

    Raises:
        ValueError: if there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"The tree has leaves 0 to {len(leaves) - 1}; there is no leaf {index}.")
    path = []
    for level in tree_levels(leaves)[:-1]:
        partner = index ^ 1
        if partner < len(level):
            path.append(level[partner])
        index //= 2
    return path


def root_of_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to (RFC 9162, section 2.1.3.2); None where it is of another length or place.

    Args:
        leaf: the data of the leaf.
        index: of the leaf, from 0.
        size: how many leaves the tree has.
        path: the hashes, from below.
    """
    if not 0 <= index < size:
        return None
    place, last, found = index, size - 1, leaf_hash(leaf)
    for other in path:
        if last == 0:
            return None  # longer than the tree is high
        if place % 2 or place == last:
            found = node_hash(other, found)
            while place % 2 == 0 and place:  # levels at which the last node had no partner
                place, last = place // 2, last // 2
        else:
            found = node_hash(found, other)
        place, last = place // 2, last // 2
    return found if last == 0 else None


@dataclass(frozen=True)
class InclusionProof:
    """That a salted digest is one of those under a Merkle root.

    Attributes:
        digest: the sample's salted digest, 64 hexadecimal digits.
        index: its place among the sorted digests, from 0.
        size: how many digests there are.
        path: the hashes that lead to the root, from below.

    Raises:
        ValueError: for values that no proof has.
    """

    digest: str
    index: int
    size: int
    path: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.path, str) or not isinstance(self.path, Sequence):
            raise ValueError(f"The path of an inclusion proof is a list of SHA-256 digests, got {self.path!r}.")
        for value in (self.digest, *self.path):
            if not isinstance(value, str) or not _SHA256.fullmatch(value):
                raise ValueError(f"An inclusion proof has SHA-256 digests of 64 hexadecimal digits, got {value!r}.")
        for name, place in {"index": self.index, "size": self.size}.items():
            if isinstance(place, bool) or not isinstance(place, int):
                raise ValueError(f"The {name} of an inclusion proof is a whole number, got {place!r}.")
        if not 0 <= self.index < self.size:
            raise ValueError(
                f"The index of an inclusion proof lies in 0 to size - 1, got {self.index} of {self.size}."
            )
        object.__setattr__(self, "path", tuple(self.path))

    @classmethod
    def of(cls, digests: Sequence[str], digest: str) -> InclusionProof:
        """The proof for one of a record's digests (`record.digests["samples"]`).

        Raises:
            ValueError: if it is not among them.
        """
        listed = sorted(digests)
        if digest not in listed:
            raise ValueError(
                f"Digest {digest} is not among the {len(listed)} of the record, so there is no proof of it."
            )
        index = listed.index(digest)
        path = audit_path([bytes.fromhex(value) for value in listed], index)
        return cls(digest, index, len(listed), tuple(value.hex() for value in path))

    def leads_to(self, root: str) -> bool:
        """Whether the digest is one of those under a Merkle root, which must come from elsewhere than the proof."""
        path = [bytes.fromhex(value) for value in self.path]
        found = root_of_path(bytes.fromhex(self.digest), self.index, self.size, path)
        return found is not None and found.hex() == root

    def to_json(self, path: str | Path) -> None:
        """Write the proof; the file appears whole or not at all."""
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        write_whole(path, json.dumps(document, indent=1) + "\n")

    @classmethod
    def from_json(cls, path: str | Path) -> InclusionProof:
        """Read what `to_json` wrote.

        Raises:
            OSError: if there is no such file.
            ValueError: if it is not a proof, or one of another format version.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:  # also of a file that is not text
            raise ValueError(f"{path} is not valid JSON: {error}.") from error
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is not an inclusion proof of hf-lotus.")
        version = document.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ValueError(f"{path} is of format version {version!r}; this version reads {FORMAT_VERSION}.")
        try:
            return cls(**document)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not an inclusion proof that this version understands: {error}") from error
