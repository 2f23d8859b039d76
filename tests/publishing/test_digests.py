"""Salts, salted digests and the Merkle tree, against values made by hand and a plain reading of RFC 6962."""

import hashlib
import hmac
import os
import stat

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage

from hf_lotus.publishing.digests import (
    Salt,
    digest_samples,
    file_digest,
    find_rows,
    merkle_root,
    salted_digests,
    sample_contents,
)

SALT = Salt(bytes(range(32)))


def sha(data):
    return hashlib.sha256(data).digest()


def reference_tree(leaves):
    """RFC 6962, section 2.1, as it is written there."""
    if len(leaves) == 1:
        return sha(b"\0" + leaves[0])
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    return sha(b"\1" + reference_tree(leaves[:left]) + reference_tree(leaves[left:]))


class TestMerkleRoot:
    @settings(deadline=None)
    @given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40))
    def test_is_that_of_the_rfc_over_the_sorted_leaves(self, leaves):
        assert merkle_root([leaf.hex() for leaf in leaves]) == reference_tree(sorted(leaves)).hex()

    def test_known_roots_of_the_rfcs_authors_for_leaves_in_order(self):
        """Two of the roots in Certificate Transparency's own tests, whose first leaves are in sorted order."""
        roots = {
            1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        }
        for size, root in roots.items():
            assert merkle_root(["", "00"][:size]) == root

    def test_no_leaf_can_stand_for_a_node(self):
        a, b = "aa" * 32, "bb" * 32
        node = (sha(b"\0" + bytes.fromhex(a)) + sha(b"\0" + bytes.fromhex(b))).hex()
        assert merkle_root([a, b]) != merkle_root([node])

    def test_of_nothing(self):
        with pytest.raises(ValueError, match="at least one sample"):
            merkle_root([])


class TestSalt:
    def test_is_made_once_for_its_owner_alone(self, tmp_path):
        path = tmp_path / "new" / "model.salt"
        salt = Salt.read_or_create(path)
        assert len(salt.value) == 32 and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert Salt.read_or_create(path) == salt == Salt.read(path)
        assert os.listdir(path.parent) == ["model.salt"]
        assert Salt.new() != Salt.new()

    def test_never_shows_itself(self):
        assert SALT.value.hex() not in repr(SALT) and str(SALT.value) not in repr(SALT)
        assert SALT.commitment == hashlib.sha256(b"hf-lotus salt\0" + SALT.value).hexdigest()

    @pytest.mark.parametrize("content", [b"", b"ab" * 31, b"zz" * 32, b"\xff\xfe", b"ab" * 32 + b"\n" + b"ab" * 32])
    def test_another_file_is_refused_without_showing_it(self, tmp_path, content):
        (tmp_path / "salt").write_bytes(content)
        with pytest.raises(ValueError, match="is not a salt: it must hold 64 hexadecimal digits") as error:
            Salt.read_or_create(tmp_path / "salt")
        assert "abab" not in str(error.value) and (tmp_path / "salt").read_bytes() == content

    def test_a_failed_write_leaves_nothing(self, tmp_path, monkeypatch):
        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            Salt.read_or_create(tmp_path / "salt")
        assert os.listdir(tmp_path) == []

    def test_digest_is_an_hmac_of_content_and_label(self):
        message = b"hf-lotus sample\0" + b"c" * 32 + (3).to_bytes(8, "big")
        assert SALT.digest(b"c" * 32, 3) == hmac.new(SALT.value, message, "sha256").hexdigest()
        others = [SALT.digest(b"d" * 32, 3), SALT.digest(b"c" * 32, 4), Salt.new().digest(b"c" * 32, 3)]
        assert len({SALT.digest(b"c" * 32, 3), *others}) == 4


def pictures(*images):
    return Dataset.from_dict({"image": list(images)}, features=Features({"image": Image()}))


class TestContents:
    def test_pictures_are_known_by_their_pixels_whatever_their_file(self, tmp_path, digits):
        image = digits[0]["image"]
        for name, options in {"a.png": {"compress_level": 0}, "b.png": {"compress_level": 9}, "c.bmp": {}}.items():
            image.save(tmp_path / name, **options)
        other = digits[1]["image"]
        kind, contents = sample_contents(
            pictures(*[str(tmp_path / n) for n in ("a.png", "b.png", "c.bmp")], image.convert("L"), other)
        )
        assert kind == "pixels" and len({c.tobytes() for c in contents[:4]}) == 1
        assert contents[4] not in contents[:4] and len(contents[0].tobytes()) == 32

    def test_pictures_of_16_bits_are_not_cut_to_8(self):
        bright, brighter = (
            PILImage.fromarray(np.full((4, 4), value, dtype=np.uint16)) for value in (40_000, 50_000)
        )  # RGB would show both as white
        _, contents = sample_contents(pictures(bright, brighter))
        assert contents[0] != contents[1]

    def test_other_samples_are_known_by_all_values_but_the_label(self):
        rows = {"input_ids": [[1, 2], [1, 2], [1, 3], [1, 2]], "text": ["a", "a", "a", "b"], "label": [0, 1, 0, 0]}
        kind, contents = sample_contents(Dataset.from_dict(rows))
        assert kind == "values" and contents[0] == contents[1]
        assert len({c.tobytes() for c in contents}) == 3

    def test_tensors_of_any_data_set(self):
        samples = [{"x": torch.tensor([1.0, 2.0]), "labels": 0}, {"x": torch.tensor([1.0, 2.0]), "labels": 1},
                   {"x": torch.tensor([[1.0], [2.0]]), "labels": 0}]  # fmt: skip
        _, contents = sample_contents(samples)
        assert contents[0] == contents[1] != contents[2]

    def test_names_and_values_do_not_run_together(self):
        _, contents = sample_contents([{"a": "b", "c": "d"}, {"a": 'b"c"', "d": ""}])
        assert contents[0] != contents[1]

    def test_samples_that_change_have_no_digest(self):
        class Noisy(torch.utils.data.Dataset):
            def __len__(self):
                return 2

            def __getitem__(self, row):
                return {"x": torch.rand(3), "labels": 0}

        with pytest.raises(ValueError, match="change whenever they are read"):
            sample_contents(Noisy())

    def test_values_without_content(self):
        with pytest.raises(ValueError, match="Column 'x' has values that no digest can be made of"):
            sample_contents([{"x": object(), "labels": 0}])


def test_what_a_record_tells_of_each_sample():
    data = Dataset.from_dict({"text": ["b", "a", "b", "c"]}, features=Features({"text": Value("string")}))
    told = digest_samples(data, [0, 0, 0, 1], SALT)
    _, contents = sample_contents(data)
    in_order = salted_digests(contents, [0, 0, 0, 1], SALT)
    assert told["samples"] == sorted(in_order) and told["merkle_root"] == merkle_root(in_order)
    assert (told["content"], told["salt_commitment"]) == ("text", SALT.commitment)
    assert in_order[0] == in_order[2] and len(set(in_order)) == 3


def test_rows_are_found_once_for_each_digest():
    rows, missing = find_rows(["a", "b", "a", "c", "a"], ["a", "c", "a", "d", "d"])
    assert rows.tolist() == [0, 2, 3] and missing == 2


def test_digest_of_a_file(tmp_path):
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    assert file_digest(tmp_path / "file") == hashlib.sha256(bytes(3_000_000)).hexdigest()
