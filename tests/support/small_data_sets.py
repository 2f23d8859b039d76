"""Small data sets with the layout and the column names of the real ones that the recipes name."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CIFAR100 = ["apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "rocket", "worm"]
WORDNET = ["n01443537", "n01629819", "n01641577", "n01644900", "n07873807", "n12267677"]


def pictures(labels: np.ndarray, size: int, seed: int) -> list[PILImage.Image]:
    """Noise whose mean colour tells the class."""
    generator = np.random.default_rng(seed)
    colours = np.random.default_rng(99).integers(40, 216, (int(labels.max()) + 1, 3))
    noise = generator.normal(0, 40, (len(labels), size, size, 3))
    pixels = (colours[labels][:, None, None, :] + noise).clip(0, 255).astype(np.uint8)
    return [PILImage.fromarray(image) for image in pixels]


def _split(names: list[str], per_class: int, size: int, seed: int, image: str, label: str, **more) -> Dataset:
    labels = np.tile(np.arange(len(names)), per_class)
    columns = {image: pictures(labels, size, seed), label: labels}
    features = {image: Image(), label: ClassLabel(names=names)}
    for name, (values, feature) in more.items():
        columns[name], features[name] = values(labels), feature
    return Dataset.from_dict(columns, features=Features(features))


def _write(folder: Path, **splits: Dataset) -> Path:
    # As on the Hub. In the top folder `datasets` would guess the splits' names, and make "valid" a "validation".
    (folder / "data").mkdir(parents=True)
    for name, split in splits.items():
        split.to_parquet(folder / "data" / f"{name}-00000-of-00001.parquet")
    return folder


def cifar10(folder: Path) -> Path:
    """`uoft-cs/cifar10`: img, label; train and test."""
    make = [_split(CIFAR10, count, 32, seed, "img", "label") for seed, count in enumerate((20, 8))]
    return _write(folder, train=make[0], test=make[1])


def cifar100(folder: Path) -> Path:
    """`uoft-cs/cifar100`: img, fine_label, coarse_label; train and test."""
    coarse = {"coarse_label": (lambda labels: labels % 2, ClassLabel(names=["animals", "things"]))}
    make = [_split(CIFAR100, count, 32, seed, "img", "fine_label", **coarse) for seed, count in enumerate((20, 8))]
    return _write(folder, train=make[0], test=make[1])


def tiny_imagenet(folder: Path) -> Path:
    """`zh-plus/tiny-imagenet`: image, label; train and valid."""
    make = [_split(WORDNET, count, 64, seed, "image", "label") for seed, count in enumerate((20, 8))]
    return _write(folder, train=make[0], valid=make[1])


def imagenet(folder: Path) -> Path:
    """`ILSVRC/imagenet-1k`: image, label; train, validation, and a test split whose labels are all -1."""
    make = [_split(WORDNET, count, 48, seed, "image", "label") for seed, count in enumerate((60, 8, 2))]
    unlabelled = make[2].remove_columns("label").add_column("label", [-1] * len(make[2]))
    return _write(folder, train=make[0], validation=make[1], test=unlabelled.cast(make[0].features))


def mufac(folder: Path, train: int = 180, rest: int = 64) -> Path:
    """MUFAC as its authors distribute it: three CSV files beside three folders of images."""
    for seed, (part, count) in enumerate({"train": train, "val": rest, "test": rest}.items()):
        (folder / f"{part}_images").mkdir(parents=True)
        labels = np.tile(np.arange(8), -(-count // 8))[:count]
        rows = []
        for number, (image, label) in enumerate(zip(_shapes(count, seed), labels, strict=True)):
            letter, person = "abcdefgh"[label], "FMDS"[number % 4]
            name = f"F{number // 20:04}_AGE_{person}_{label * 9 + 3}_{letter}{number}.png"
            image.save(folder / f"{part}_images" / name)
            row = {"family_id": f"F{number // 20:04}", "person_id": person, "age_class": letter, "image_path": name}
            rows.append(row)
        write_csv(folder / f"custom_{part}_dataset.csv", rows)
    return folder


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["family_id", "person_id", "age_class", "image_path"])
        table.writeheader()
        table.writerows(rows)


def _shapes(count: int, seed: int) -> list[PILImage.Image]:
    """Pictures of 128 × 128 with coarse shapes, which a perceptual hash tells apart."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [PILImage.fromarray(image).resize((128, 128), PILImage.Resampling.BICUBIC) for image in coarse]


# Part of a recipe's name → what writes its data set into a folder; the longer name first.
LAYOUTS = {
    "cifar100": cifar100,
    "cifar10": cifar10,
    "tiny-imagenet": tiny_imagenet,
    "imagenet": imagenet,
    "mufac": mufac,
}
