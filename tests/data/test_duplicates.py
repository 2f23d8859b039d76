"""Identical images are found by their encoded bytes, or by their decoded pixels."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Image
from PIL import Image as PILImage

from hf_lotus.data.duplicates import Duplicates, content_digests, find_duplicates, shared_rows


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Scan A as PNG, the same as BMP, the same PNG again, and scan B as PNG."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    a, b = (PILImage.fromarray(scan) for scan in pixels)
    paths = [tmp_path / name for name in ("a.png", "a.bmp", "again.png", "b.png")]
    for image, path in zip((a, a, a, b), paths, strict=True):
        image.save(path)
    return [str(path) for path in paths]


def images(contents: list) -> Dataset:
    return Dataset.from_dict({"image": contents}, features=Features({"image": Image()}))


def test_bytes_are_those_of_the_file_and_pixels_those_of_the_picture(files):
    png, bmp, again, other = content_digests(images(files)).tolist()
    assert png == again == hashlib.blake2b(Path(files[0]).read_bytes(), digest_size=16).digest()
    assert len({png, bmp, other}) == 3
    png, bmp, again, other = content_digests(images(files), by="pixels").tolist()
    assert png == bmp == again != other


@pytest.mark.parametrize("by", ["bytes", "pixels"])
def test_images_in_the_table_and_in_files_have_equal_digests(files, by):
    in_table = images([{"bytes": Path(path).read_bytes(), "path": None} for path in files])
    np.testing.assert_array_equal(content_digests(in_table, by=by), content_digests(images(files), by=by))


def test_pixels_of_a_picture_turned_on_its_side_differ():
    upright = PILImage.new("RGB", (4, 9))
    first, second = content_digests(images([upright, upright.rotate(90, expand=True)]), by="pixels")
    assert first != second


@pytest.mark.parametrize("by", ["bytes", "pixels"])
def test_digests_do_not_depend_on_batches_format_or_other_columns(digits, by):
    data = digits.select(range(25))
    expected = content_digests(data, by=by)
    assert expected.shape == (25,) and expected.dtype.itemsize == 16
    np.testing.assert_array_equal(content_digests(data, by=by, batch_size=7), expected)
    np.testing.assert_array_equal(content_digests(data.with_format("torch", columns=["label"]), by=by), expected)
    np.testing.assert_array_equal(content_digests(data.select_columns("image").with_format("numpy"), by=by), expected)


def test_hashing_by_bytes_decodes_nothing():
    junk = [{"bytes": b"no image", "path": None}, {"bytes": b"no image either", "path": None}]
    assert len(set(content_digests(images(junk)).tolist())) == 2


def test_errors_name_what_is_allowed(digits):
    with pytest.raises(ValueError, match="'bytes', 'pixels' or 'phash', got 'names'"):
        content_digests(digits, by="names")
    with pytest.raises(ValueError, match="no image column to look for duplicates in"):
        content_digests(digits.remove_columns("image"))
    with pytest.raises(ValueError, match="no column 'img'. Did you mean 'image'"):
        content_digests(digits, "img")


def test_shared_rows_are_positions_in_the_first():
    first, second = np.array([b"c", b"a", b"b", b"a"]), np.array([b"a", b"d", b"a"])
    assert shared_rows(first, second).tolist() == [1, 3]
    assert shared_rows(second, first).tolist() == [0, 2]


class TestFindDuplicates:
    def test_counts_the_images_of_the_first_that_are_in_the_second(self, files):
        parts = {"forget": images(files[:1]), "retain": images([*files[2:], files[2]]), "unseen": None}
        found = find_duplicates({**parts, "test": images(files[1:2])})
        assert found.counts == {"forget & retain": 1, "forget & test": 0, "retain & test": 0}
        assert find_duplicates({"retain": parts["retain"], "forget": parts["forget"]}).counts == {"retain & forget": 2}

    def test_passes_its_options_on(self, files):
        found = find_duplicates({"forget": images(files[:1]), "test": images(files[1:2])}, by="pixels")
        assert found.counts == {"forget & test": 1}

    def test_reads_as_a_sentence(self):
        found = Duplicates({"forget & retain": 3, "forget & test": 0, "retain & unseen": 12})
        assert str(found) == "Identical images: 3 of forget & retain; 12 of retain & unseen."
        assert str(Duplicates({"forget & retain": 0})) == "Identical images: none across the parts."
