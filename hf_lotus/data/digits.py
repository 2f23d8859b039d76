"""scikit-learn's handwritten digits: real scans that need no download, as a data set in parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

from hf_lotus.data.splits import stratified_rows


@dataclass(frozen=True)
class Digits:
    """The 1,797 scans of 8 × 8 pixels, in RGB, in three parts that share no row.

    Attributes:
        train: half of them; columns "image" and "label".
        unseen: a quarter.
        test: the other quarter.
    """

    train: Dataset
    unseen: Dataset
    test: Dataset


def load_digits(seed: int) -> Digits:
    """Half of the digits to train on, and a quarter each unseen and to test on, drawn by class."""
    from sklearn import datasets as sklearn_datasets  # here, as it takes a second to import

    digits = sklearn_datasets.load_digits()
    scans = [PILImage.fromarray(np.uint8(scan * 255 / 16)).convert("RGB") for scan in digits.images]
    features = Features({"image": Image(), "label": ClassLabel(names=[str(name) for name in digits.target_names])})
    everything = Dataset.from_dict({"image": scans, "label": digits.target}, features=features)
    train = stratified_rows(digits.target, 0.5, seed)
    rest = np.setdiff1d(np.arange(len(everything)), train)
    unseen = rest[stratified_rows(digits.target[rest], 0.5, seed)]
    return Digits(*(everything.select(rows) for rows in (train, unseen, np.setdiff1d(rest, unseen))))
