"""Inclusion proofs against RFC 6962: its example, its authors' vectors, a plain reading of it, and forgeries."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hf_lotus.publishing.digests import merkle_root
from hf_lotus.publishing.merkle import InclusionProof, audit_path, leaf_hash, node_hash, root_of_path, tree_levels

# Leaves, roots and paths of Certificate Transparency's own tests (github.com/google/certificate-transparency).
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {  # (leaf from 1, size) → path, as those tests count
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (3, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (2, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def split(size):
    """The largest power of two smaller than a size."""
    left = 1
    while left * 2 < size:
        left *= 2
    return left


def reference_root(leaves):
    """MTH of RFC 6962, section 2.1, as it is written there."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\1" + reference_root(leaves[:k]) + reference_root(leaves[k:])).digest()


def reference_path(index, leaves):
    """PATH of RFC 6962, section 2.1.1, as it is written there."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*reference_path(index, leaves[:k]), reference_root(leaves[k:])]
    return [*reference_path(index - k, leaves[k:]), reference_root(leaves[:k])]


class TestTree:
    @pytest.mark.parametrize("size", range(1, 9))
    def test_roots_of_the_rfcs_authors(self, size):
        assert tree_levels(LEAVES[:size])[-1][0].hex() == ROOTS[size - 1]

    @pytest.mark.parametrize(("leaf", "size"), PATHS)
    def test_paths_of_the_rfcs_authors(self, leaf, size):
        path = audit_path(LEAVES[:size], leaf - 1)
        assert [value.hex() for value in path] == PATHS[leaf, size]
        assert root_of_path(LEAVES[leaf - 1], leaf - 1, size, path).hex() == ROOTS[size - 1]

    def test_the_rfcs_example_of_seven_leaves(self):
        """RFC 6962, section 2.1.3: nodes a to l of the tree over d0 to d6, and the paths that it gives."""
        d = [bytes([number]) for number in range(7)]
        a, b, c, d3, e, f, j = map(leaf_hash, d)
        g, h, i = node_hash(a, b), node_hash(c, d3), node_hash(e, f)
        k, m = node_hash(g, h), node_hash(i, j)
        assert tree_levels(d)[-1] == [node_hash(k, m)]
        assert audit_path(d, 0) == [b, h, m]
        assert audit_path(d, 3) == [c, g, m]
        assert audit_path(d, 4) == [f, j, k]
        assert audit_path(d, 6) == [i, k]

    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=40), min_size=1, max_size=70), st.data())
    def test_is_the_rfcs_for_any_leaves(self, leaves, data):
        index = data.draw(st.integers(0, len(leaves) - 1))
        path = audit_path(leaves, index)
        assert path == reference_path(index, leaves)
        assert root_of_path(leaves[index], index, len(leaves), path) == reference_root(leaves)

    def test_a_leaf_that_is_not_there(self):
        for index in (-1, 3):
            with pytest.raises(ValueError, match=f"leaves 0 to 2; there is no leaf {index}"):
                audit_path(LEAVES[:3], index)
        with pytest.raises(ValueError, match="at least one sample"):
            tree_levels([])


digest = st.binary(min_size=32, max_size=32).map(bytes.hex)


@st.composite
def proven(draw):
    digests = draw(st.lists(digest, min_size=1, max_size=40))
    return digests, InclusionProof.of(digests, draw(st.sampled_from(digests)))


class TestProof:
    @settings(deadline=None)
    @given(proven())
    def test_every_digest_of_a_record_has_one_that_needs_no_other(self, drawn):
        digests, proof = drawn
        assert proof.leads_to(merkle_root(digests))
        assert len(proof.path) <= max(1, len(digests) - 1).bit_length()

    @settings(deadline=None)
    @given(proven(), digest, st.data())
    def test_no_forged_one_holds(self, drawn, other, data):
        digests, proof = drawn
        root = merkle_root(digests)
        assume(other not in digests)
        forged = [replace(proof, digest=other), replace(proof, path=[*proof.path, other])]
        if proof.path:
            where = data.draw(st.integers(0, len(proof.path) - 1))
            path = list(proof.path)
            bit = data.draw(st.integers(0, 255))
            path[where] = (int(path[where], 16) ^ 1 << bit).to_bytes(32, "big").hex()
            forged += [replace(proof, path=path), replace(proof, path=proof.path[:-1]), replace(proof, path=[])]
            forged.append(replace(proof, path=proof.path[1:]))
        assert not any(forgery.leads_to(root) for forgery in forged)
        assert not proof.leads_to(other)

    @settings(deadline=None)
    @given(st.lists(digest, min_size=2, max_size=40, unique=True), st.data())
    def test_holds_at_no_other_place(self, digests, data):
        proof = InclusionProof.of(digests, data.draw(st.sampled_from(digests)))
        elsewhere = data.draw(st.integers(0, len(digests) - 1).filter(lambda place: place != proof.index))
        assert not replace(proof, index=elsewhere).leads_to(merkle_root(digests))

    def test_a_node_cannot_stand_for_a_leaf(self):
        """Two leaves' hashes, joined, are no leaf: it would be "proven" with the rest of their path."""
        digests = sorted(hashlib.sha256(bytes([number])).hexdigest() for number in range(4))
        proof = InclusionProof.of(digests, digests[0])
        inner = node_hash(leaf_hash(bytes.fromhex(digests[0])), leaf_hash(bytes.fromhex(digests[1]))).hex()
        assert not InclusionProof(inner, 0, 2, proof.path[1:]).leads_to(merkle_root(digests))

    def test_of_a_sample_that_is_not_in_the_record(self):
        with pytest.raises(ValueError, match="is not among the 2 of the record"):
            InclusionProof.of(["aa" * 32, "bb" * 32], "cc" * 32)

    def test_goes_through_a_file_that_tells_no_other_digest(self, tmp_path):
        digests = [hashlib.sha256(bytes([number])).hexdigest() for number in range(100)]
        proof = InclusionProof.of(digests, digests[42])
        proof.to_json(tmp_path / "proof.json")
        text = (tmp_path / "proof.json").read_text()
        assert sum(digest in text for digest in digests) == 1
        assert InclusionProof.from_json(tmp_path / "proof.json") == proof

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"format": "another"}, "not an inclusion proof of hf-lotus"),
            ({"format_version": 2}, "of format version 2; this version reads 1"),
            ({"digest": "AA" * 32}, "64 hexadecimal digits, got 'AAAA"),
            ({"path": ["00"]}, "64 hexadecimal digits, got '00'"),
            ({"path": "00"}, "a list of SHA-256 digests"),
            ({"path": None}, "a list of SHA-256 digests"),
            ({"index": 1.0}, "index of an inclusion proof is a whole number, got 1.0"),
            ({"size": True}, "size of an inclusion proof is a whole number, got True"),
            ({"index": -1}, "lies in 0 to size - 1, got -1 of 2"),
            ({"index": 2}, "lies in 0 to size - 1, got 2 of 2"),
            ({"more": 1}, "unexpected keyword argument 'more'"),
        ],
    )
    def test_files_that_are_none(self, tmp_path, changes, message):
        path = tmp_path / "proof.json"
        InclusionProof.of(["aa" * 32, "bb" * 32], "bb" * 32).to_json(path)
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        with pytest.raises(ValueError, match=message):
            InclusionProof.from_json(path)

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1]", b"{", b"[" * 100_000])
    def test_files_that_are_not_even_documents(self, tmp_path, content):
        (tmp_path / "proof.json").write_bytes(content)
        with pytest.raises(ValueError, match="proof.json is not"):
            InclusionProof.from_json(tmp_path / "proof.json")
