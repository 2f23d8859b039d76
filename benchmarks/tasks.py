"""What the benchmarks unlearn from: real images and a real checkpoint, or large models on images made up here."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, concatenate_datasets, load_dataset
from PIL import Image as PILImage
from torch import nn
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from hf_lotus import ForgetRetainSplit, LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.data.digits import load_digits
from hf_lotus.models.cifar_resnet import CifarResNetConfig, CifarResNetForImageClassification

SHARED = Path(__file__).parents[2] / "shared"
ALPHA, RATE, BATCH = 2.0, 1e-4, 128
# An ordinary photograph's width, height and JPEG quality.
PHOTOGRAPH = (500, 375, 90)


@dataclass(frozen=True)
class Task:
    """What is unlearned from what."""

    model: nn.Module
    processor: object
    sets: dict[str, Dataset]

    @classmethod
    def of(cls, model: nn.Module, processor: object, train: Dataset, test: Dataset) -> Task:
        """A tenth of the training rows is to be forgotten; half of the test rows are the unseen set."""
        split = ForgetRetainSplit.from_fraction(train, 0.1, label_column="label")
        held_out = ForgetRetainSplit.from_fraction(test, 0.5, label_column="label")
        sets = {"forget": split.forget, "retain": split.retain, "unseen": held_out.forget, "test": held_out.retain}
        return cls(model, processor, sets)

    def trainer(self, folder: str, rounds: int | None, **settings: object) -> UnlearningTrainer:
        """A trainer with a model of its own, which neither stops nor saves; with no `rounds`, of LoTUS's own settings.

        Args:
            folder: of its output.
            rounds: rounds of a run, in batches of `BATCH`.
            **settings: further training arguments.
        """
        chosen: dict[str, object] = {"save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
        if rounds is not None:
            chosen |= {"num_train_epochs": rounds, "learning_rate": RATE, "per_device_train_batch_size": BATCH}
        arguments = UnlearningArguments(folder, **(chosen | settings))
        sets = {f"{'eval' if name == 'test' else name}_dataset": data for name, data in self.sets.items()}
        method = LoTUS(alpha=ALPHA, stop_margin=2.0)
        return UnlearningTrainer(copy.deepcopy(self.model), arguments, method, processing_class=self.processor, **sets)


def load(rows: int, name: str = "cifar10") -> Task:
    """A task of at most `rows` training rows and a quarter as many held out.

    Args:
        rows: training rows.
        name: "cifar10" for the real model and data where they lie beside the project, or what stands in for them;
            "resnet18" or "vit-b16" for that model, untrained, on photographs of noise at 224 pixels.
    """
    model, processor, train, test = _cifar10() if name == "cifar10" else _photographs(name, rows + rows // 4)
    train, test = (part.select(range(min(size, len(part)))) for part, size in ((train, rows), (test, rows // 4)))
    return Task.of(model, processor, train, test)


def cifar10_sized(name: str) -> Task:
    """A tenth of CIFAR-10, whole, to be forgotten by an untrained "resnet18" (the paper's) or "vit-b16" (224 pixels).

    Where the pictures do not lie beside the project, as many of noise: what is done takes the same time.
    """
    if (SHARED / "data" / "cifar10").is_dir():
        data = load_dataset(str(SHARED / "data" / "cifar10"))
        train, test = data["train"], data["test"]
    else:
        train, test = (_noise(rows) for rows in (50_000, 10_000))
    if name == "vit-b16":
        model, processor = ViTForImageClassification(ViTConfig(num_labels=10)), ViTImageProcessorPil()
    else:
        model = CifarResNetForImageClassification(CifarResNetConfig(num_labels=10))
        processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    return Task.of(model, processor, train, test)


def _noise(rows: int) -> Dataset:
    """Pictures of 32 × 32 pixels, few of them different."""
    noise = np.random.default_rng(0)
    files = [noise_file(noise, 32, 32, form="PNG") for _ in range(256)]
    return pictures([files[row % len(files)] for row in range(rows)])


def noise_file(noise: np.random.Generator, width: int, height: int, cell: int = 1, **options: object) -> bytes:
    """A picture of noise as a file: what decoding and resizing cost depends on its size, not on what it shows.

    Args:
        noise: where it is drawn from.
        width: in pixels.
        height: in pixels.
        cell: pixels a side of what is drawn at once, and blurred.
        **options: `form` of the file, and what Pillow takes for it.
    """
    coarse = PILImage.fromarray(noise.integers(0, 255, (height // cell, width // cell, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize((width, height)).save(buffer, options.pop("form", "JPEG"), **options)
    return buffer.getvalue()


def pictures(files: Sequence[bytes], num_classes: int = 10, present: int | None = None) -> Dataset:
    """A data set of such files, with labels of the first `present` classes in turn; of all if None."""
    features = Features({"image": Image(), "label": ClassLabel(num_classes=num_classes)})
    stored = [{"bytes": content, "path": None} for content in files]
    labels = [row % (present or num_classes) for row in range(len(files))]
    return Dataset.from_dict({"image": stored, "label": labels}, features=features)


def _cifar10() -> tuple[nn.Module, object, Dataset, Dataset]:
    checkpoint = SHARED / "checkpoints" / "cifar10-resnet" / "original"
    if checkpoint.is_dir():
        data = load_dataset(str(SHARED / "data" / "cifar10"))
        model = AutoModelForImageClassification.from_pretrained(checkpoint)
        return model, AutoImageProcessor.from_pretrained(checkpoint, backend="pil"), data["train"], data["test"]
    parts = load_digits(seed=0)
    config = ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[2] * 4, layer_type="basic", num_labels=10
    )
    # Rows of their own, though their pictures repeat: the sets of a run must not share any.
    train = concatenate_datasets([parts.train] * 12).flatten_indices()
    test = concatenate_datasets([parts.test, parts.unseen] * 5).flatten_indices()
    return ResNetForImageClassification(config), ViTImageProcessorPil(size={"height": 32, "width": 32}), train, test


def photograph_files() -> list[bytes]:
    """Sixteen JPEGs as large as ImageNet's."""
    width, height, quality = PHOTOGRAPH
    noise = np.random.default_rng(0)
    return [noise_file(noise, width, height, cell=8, quality=quality) for _ in range(16)]


def _photographs(name: str, rows: int) -> tuple[nn.Module, object, Dataset, Dataset]:
    """JPEGs as large as ImageNet's, few of them different."""
    files = photograph_files()
    data = pictures([files[row % len(files)] for row in range(rows)])
    if name == "vit-b16":
        model = ViTForImageClassification(ViTConfig(num_labels=10))
    else:
        config = ResNetConfig(
            embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2] * 4, layer_type="basic", num_labels=10
        )
        model = ResNetForImageClassification(config)
    test = rows // 5
    return model, ViTImageProcessorPil(), data.select(range(test, rows)), data.select(range(test))
