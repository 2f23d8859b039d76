"""Lookalikes: real pictures saved and scaled anew are found, other ones are not, plain ones are said to be plain."""

import io

import numpy as np
import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as PILImage
from sklearn.datasets import load_digits, load_sample_images

from hf_lotus.data.perceptual import (
    LOOKS_LIKE,
    Lookalikes,
    find_lookalikes,
    hamming_distances,
    is_plain,
    perceptual_hashes,
)


def saved(picture, quality):
    """A picture as a JPEG file has it."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return PILImage.open(io.BytesIO(file.getvalue()))


def scaled(picture, factor):
    return picture.resize((round(picture.width * factor), round(picture.height * factor)), PILImage.Resampling.BICUBIC)


CHANGES = {
    **{f"JPEG {q}": lambda picture, q=q: saved(picture, q) for q in (50, 60, 75, 85, 95)},
    **{f"scaled {f}": lambda picture, f=f: scaled(picture, f) for f in (0.8, 1.2)},
    **{f"scaled {f}, JPEG 50": lambda picture, f=f: saved(scaled(picture, f), 50) for f in (0.8, 1.2)},
}


@pytest.fixture(scope="module")
def pictures():
    """Scikit-learn's two photographs, and 256 × 256 pieces of them that are not all sky."""
    photographs = [PILImage.fromarray(image) for image in load_sample_images().images]
    pieces = [
        photograph.crop((left, top, left + 256, top + 171))
        for photograph in photographs
        for top in (171, 256)
        for left in (0, 192, 384)
    ]
    return [*photographs, *pieces]


@pytest.mark.parametrize("change", CHANGES)
def test_a_picture_that_was_changed_is_found_first(pictures, change):
    hashes = perceptual_hashes(pictures)
    for row, picture in enumerate(pictures):
        found = find_lookalikes(CHANGES[change](picture), hashes)
        assert found.rows[0] == row and found.distances[0] <= LOOKS_LIKE


def test_other_photographs_are_not(pictures):
    china, flower = pictures[:2]
    assert find_lookalikes(china, perceptual_hashes([flower])) == Lookalikes((), ())
    mirrored = china.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT)
    assert find_lookalikes(mirrored, perceptual_hashes([china])).rows == ()  # as is said of mirrored ones


def test_scans_of_other_digits_are_seldom_taken_for_one():
    scans = [PILImage.fromarray((image * 15).astype(np.uint8)) for image in load_digits().images[:200]]
    hashes, labels = perceptual_hashes(scans), load_digits().target[:200]
    found = [(row, other) for row, scan in enumerate(scans) for other in find_lookalikes(scan, hashes).rows]
    assert {(row, row) for row in range(200)} <= set(found)
    mistaken = [(row, other) for row, other in found if labels[row] != labels[other]]
    assert len(mistaken) / (200 * 199) < 1e-3


def test_the_threshold_on_cifar10(shared):
    """What the module says of training pictures, on test pictures: all changed ones found, few pairs mistaken."""
    dataset = load_dataset("parquet", data_files=str(shared / "data/cifar10/test-*.parquet"), split="train[:2000]")
    column = next(name for name in dataset.column_names if "im" in name)
    real = dataset[column]
    hashes = perceptual_hashes(real)
    missed = [
        (row, change)
        for row in range(0, 2000, 40)
        for change in CHANGES
        if row not in find_lookalikes(CHANGES[change](real[row].convert("RGB")), hashes).rows
    ]
    assert missed == []
    mistaken = sum(int((hamming_distances(hashes[row + 1 :], hashes[row]) <= LOOKS_LIKE).sum()) for row in range(1999))
    assert mistaken / (2000 * 1999 / 2) < 1e-5


@settings(deadline=None)
@given(arrays(np.uint8, (5, 8)), arrays(np.uint8, (8,)))
def test_distances_are_those_of_the_bits(hashes, other):
    expected = (np.unpackbits(hashes, axis=1) != np.unpackbits(other)).sum(axis=1)
    np.testing.assert_array_equal(hamming_distances(hashes, other), expected)
    np.testing.assert_array_equal(hamming_distances(hashes, hashes[0])[0], 0)


@given(st.sampled_from([np.zeros((3, 8)), np.zeros((3, 7), np.uint8), np.zeros(8, np.uint8)]))
def test_arrays_that_are_no_hashes(hashes):
    with pytest.raises(ValueError, match="hashes must be of bytes and shape"):
        hamming_distances(hashes, np.zeros(8, np.uint8))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_plain_pictures_look_like_nothing(mode, pictures):
    plain = PILImage.new(mode, (40, 30))
    hashes = perceptual_hashes([plain, *pictures])
    assert is_plain(hashes[0]) and not any(map(is_plain, hashes[1:]))
    found = find_lookalikes(plain, hashes)
    assert found.plain and found.rows == () and "too plain" in str(found)


def test_what_is_said():
    assert str(Lookalikes((), ())) == "looks like none of them"
    said = "looks like 2 pictures of them (the nearest differs in 3 of 64 bits); no proof"
    assert str(Lookalikes((7, 2), (3, 5))) == said
    assert "looks like 1 picture of" in str(Lookalikes((7,), (3,)))


def test_nothing_to_look_through(pictures):
    assert perceptual_hashes([]).shape == (0, 8)
    assert find_lookalikes(pictures[0], perceptual_hashes([])).rows == ()
    for most in (-1, 32):
        with pytest.raises(ValueError, match="differ in 0 to 31 bits"):
            find_lookalikes(pictures[0], perceptual_hashes([]), most)
