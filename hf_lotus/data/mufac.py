"""MUFAC, the machine-unlearning benchmark of family faces, from the folder that its authors distribute.

The folder holds `custom_{train,val,test}_dataset.csv`, with the columns `family_id`, `person_id`, `age_class` (one of
eight letters) and `image_path`, and the images in `{train,val,test}_images/`. Many images occur several times, within
a part and across parts: the LoTUS paper (arXiv:2503.18314) removes them, by a perceptual hash, before any training.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from hf_lotus.data.duplicates import content_digests, shared_rows

# Part of the folder → split.
PARTS = {"train": "train", "val": "validation", "test": "test"}
# Age classes, in order: the letters of the files, and the years they stand for.
AGES = {"a": "0-6", "b": "7-12", "c": "13-19", "d": "20-30", "e": "31-45", "f": "46-55", "g": "56-66", "h": "67-80"}
COLUMNS = ("family_id", "person_id", "age_class", "image_path")
# The forget set of MUFAC's authors: so many first rows of train, before the cleaning. Of these, it leaves 1,062.
FORGET_ROWS = 1500


def is_mufac(folder: str | Path) -> bool:
    """Whether a folder has the layout of MUFAC."""
    return all((Path(folder) / f"custom_{part}_dataset.csv").is_file() for part in PARTS)


def load_mufac(folder: str | Path) -> DatasetDict:
    """The folder as splits "train", "validation" and "test", as they are: see `clean_mufac`.

    Columns: `image` (encoded files, decoded when touched), `label` (eight age classes), `family_id`, `person_id`.

    Raises:
        ValueError: if a file lacks a column, names an unknown age class, or an image that is not there.
    """
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=[f"{years} years" for years in AGES.values()]),
            "family_id": Value("string"),
            "person_id": Value("string"),
        }
    )
    splits = {}
    for part, split in PARTS.items():
        rows = _read(Path(folder), part)
        columns = {
            "image": [str(Path(folder) / f"{part}_images" / row["image_path"]) for row in rows],
            "label": [list(AGES).index(row["age_class"]) for row in rows],
            "family_id": [row["family_id"] for row in rows],
            "person_id": [row["person_id"] for row in rows],
        }
        splits[split] = Dataset.from_dict(columns, features=features)
    return DatasetDict(splits)


def _read(folder: Path, part: str) -> list[dict[str, str]]:
    path = folder / f"custom_{part}_dataset.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        if missing := [name for name in COLUMNS if name not in (table.fieldnames or [])]:
            raise ValueError(f"{path} lacks the column {missing[0]!r}; its columns are {table.fieldnames}.")
        rows = list(table)
    for number, row in enumerate(rows, start=1):
        if row["age_class"] not in AGES:
            raise ValueError(f"{path}, row {number}: age class {row['age_class']!r} is none of {', '.join(AGES)}.")
        image = folder / f"{part}_images" / row["image_path"]
        if not image.is_file():
            raise ValueError(f"{path}, row {number}: there is no image {image}. Unpack the whole archive there.")
    return rows


def clean_mufac(data: DatasetDict, forget_rows: int = FORGET_ROWS, by: str = "phash") -> DatasetDict:
    """Remove images that occur several times, as the LoTUS paper does; what stays keeps its order.

    Of the first `forget_rows` rows of train, those that occur among the later ones go; then rows of validation that
    occur in test, and rows of test that occur in train. In each of the four parts (forget, retain, validation, test)
    the first of several stays. The paper is left with 1,062 to forget, 5,513 to retain, 1,211 unseen, 1,118 to test.

    Args:
        data: what `load_mufac` gives.
        forget_rows: how many first rows of train are to be forgotten.
        by: what makes two images the same; see `content_digests`.
    """
    digests = {name: content_digests(split, by=by) for name, split in data.items()}
    forget, retain = np.split(digests["train"], [forget_rows])
    train, validation, test = digests["train"], digests["validation"], digests["test"]
    kept_forget = _first(forget, dropped=shared_rows(forget, retain))
    kept_retain = _first(retain) + len(forget)
    kept = {
        "train": np.concatenate([kept_forget, kept_retain]),
        "validation": _first(validation, dropped=shared_rows(validation, test)),
        "test": _first(test, dropped=shared_rows(test, train)),
    }
    return DatasetDict({name: split.select(kept[name]) for name, split in data.items()})


def _first(digests: np.ndarray, dropped: np.ndarray | None = None) -> np.ndarray:
    """Rows in order, the first of each digest, without those that are dropped."""
    rows = np.sort(np.unique(digests, return_index=True)[1])
    return rows if dropped is None else np.setdiff1d(rows, dropped)
