"""MUFAC from its authors' folder, and the cleaning that the LoTUS paper describes."""

import csv
import shutil

import numpy as np
import pytest
from PIL import Image as PILImage

from hf_lotus.data.duplicates import perceptual_hash
from hf_lotus.data.loading import DatasetArguments, load_splits
from hf_lotus.data.mufac import clean_mufac, is_mufac, load_mufac
from hf_lotus.data.splits import ForgetRetainSplit
from tests.support.small_data_sets import mufac, write_csv


@pytest.fixture
def folder(tmp_path):
    return mufac(tmp_path / "mufac", train=24, rest=8)


def rows_of(folder, part):
    with (folder / f"custom_{part}_dataset.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def copy_into(folder, source, target, name):
    """Add a row of one part, with its picture saved anew as JPEG, to another part under another name."""
    row = {**rows_of(folder, source[0])[source[1]], "image_path": name}
    picture = PILImage.open(folder / f"{source[0]}_images" / rows_of(folder, source[0])[source[1]]["image_path"])
    picture.save(folder / f"{target}_images" / name, quality=85)
    write_csv(folder / f"custom_{target}_dataset.csv", [*rows_of(folder, target), row])


def test_the_columns_and_splits_are_those_of_the_files(folder):
    data = load_mufac(folder)
    assert is_mufac(folder) and not is_mufac(folder / "train_images")
    assert {name: len(split) for name, split in data.items()} == {"train": 24, "validation": 8, "test": 8}
    row, written = data["train"][3], rows_of(folder, "train")[3]
    assert data["train"].features["label"].int2str(row["label"]) == "20-30 years" and written["age_class"] == "d"
    assert (row["family_id"], row["person_id"]) == (written["family_id"], written["person_id"])
    assert row["image"].size == (128, 128)


def test_what_occurs_several_times_is_removed_as_the_paper_does(folder):
    for source, target, name in [
        (("train", 2), "train", "in_retain.jpg"),  # a forgotten one in retain: goes from forget
        (("train", 15), "train", "twice_retained.jpg"),  # within retain: the first stays
        (("val", 0), "test", "val_in_test.jpg"),  # goes from validation
        (("train", 20), "test", "train_in_test.jpg"),  # goes from test
        (("val", 3), "val", "twice_in_val.jpg"),  # within validation: the first stays
    ]:
        copy_into(folder, source, target, name)
    first = rows_of(folder, "train")
    write_csv(folder / "custom_train_dataset.csv", [*first[:10], first[4], *first[10:]])  # within forget, row 10
    data = load_mufac(folder)
    names = {name: [f"{name} {n}" for n in range(len(split))] for name, split in data.items()}
    data = {name: split.add_column("name", names[name]) for name, split in data.items()}
    cleaned = clean_mufac(data, forget_rows=11)
    gone = {name: sorted(set(names[name]) - set(split["name"])) for name, split in cleaned.items()}
    assert gone == {
        "train": ["train 10", "train 2", "train 26"],
        "validation": ["validation 0", "validation 8"],
        "test": ["test 9"],
    }
    assert cleaned["train"]["name"][:3] == ["train 0", "train 1", "train 3"]


def test_the_perceptual_hash_withstands_compression_and_scaling_and_tells_pictures_apart(folder, tmp_path):
    pictures = [row["image"] for row in load_mufac(folder)["train"]]
    hashes = [perceptual_hash(picture) for picture in pictures]
    assert len(set(hashes)) == len(pictures) and {len(value) for value in hashes} == {8}
    pictures[0].save(tmp_path / "again.jpg", quality=85)
    assert perceptual_hash(PILImage.open(tmp_path / "again.jpg")) == hashes[0]
    bits = np.unpackbits(np.frombuffer(hashes[0], np.uint8))
    larger = np.unpackbits(np.frombuffer(perceptual_hash(pictures[0].resize((300, 300))), np.uint8))
    assert bits.sum() == 32 and (bits != larger).sum() <= 4


def test_the_command_line_loads_and_cleans_the_folder(folder):
    copy_into(folder, ("train", 20), "test", "train_in_test.jpg")

    def select(train, arguments, label_column):
        return ForgetRetainSplit.from_indices(train, range(5))

    data = load_splits(DatasetArguments(str(folder)), 8, select)
    assert (len(data.split.retain), len(data.unseen), len(data.test)) == (19, 8, 8)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"age_class": "z"}, "row 1: age class 'z' is none of a, b"),
        ({"image_path": "nowhere.jpg"}, "row 1: there is no image .*nowhere.jpg. Unpack"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(folder, change, told):
    rows = rows_of(folder, "train")
    write_csv(folder / "custom_train_dataset.csv", [{**rows[0], **change}, *rows[1:]])
    with pytest.raises(ValueError, match=told):
        load_mufac(folder)


def test_a_missing_column_is_named(folder):
    shutil.copy(folder / "custom_val_dataset.csv", folder / "kept.csv")
    text = (folder / "kept.csv").read_text().replace("age_class", "age")
    (folder / "custom_val_dataset.csv").write_text(text)
    with pytest.raises(ValueError, match="lacks the column 'age_class'; its columns are .*'age'"):
        load_mufac(folder)
