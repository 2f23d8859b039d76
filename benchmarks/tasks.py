"""What the benchmarks unlearn from: real images and a real checkpoint, or large models on images made up here."""

from __future__ import annotations

import copy
import io
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
    split = ForgetRetainSplit.from_fraction(train, 0.1, label_column="label")
    held_out = ForgetRetainSplit.from_fraction(test, 0.5, label_column="label")
    return Task(
        model,
        processor,
        {"forget": split.forget, "retain": split.retain, "unseen": held_out.forget, "test": held_out.retain},
    )


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
    split = ForgetRetainSplit.from_fraction(train, 0.1, label_column="label")
    held_out = ForgetRetainSplit.from_fraction(test, 0.5, label_column="label")
    return Task(
        model,
        processor,
        {"forget": split.forget, "retain": split.retain, "unseen": held_out.forget, "test": held_out.retain},
    )


def _noise(rows: int) -> Dataset:
    """Pictures of 32 × 32 pixels, few of them different."""
    noise, files = np.random.default_rng(0), []
    for _ in range(256):
        buffer = io.BytesIO()
        PILImage.fromarray(noise.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
        files.append({"bytes": buffer.getvalue(), "path": None})
    features = Features({"image": Image(), "label": ClassLabel(num_classes=10)})
    columns = {"image": [files[row % 256] for row in range(rows)], "label": [row % 10 for row in range(rows)]}
    return Dataset.from_dict(columns, features=features)


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


def _photographs(name: str, rows: int) -> tuple[nn.Module, object, Dataset, Dataset]:
    """JPEGs as large as ImageNet's: what decoding and resizing cost depends on their size, not on what they show."""
    width, height, quality = PHOTOGRAPH
    noise, files = np.random.default_rng(0), []
    for _ in range(16):
        coarse = PILImage.fromarray(noise.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((width, height)).save(buffer, "JPEG", quality=quality)
        files.append({"bytes": buffer.getvalue(), "path": None})
    features = Features({"image": Image(), "label": ClassLabel(num_classes=10)})
    columns = {"image": [files[row % 16] for row in range(rows)], "label": [row % 10 for row in range(rows)]}
    data = Dataset.from_dict(columns, features=features)
    if name == "vit-b16":
        model = ViTForImageClassification(ViTConfig(num_labels=10))
    else:
        config = ResNetConfig(
            embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2] * 4, layer_type="basic", num_labels=10
        )
        model = ResNetForImageClassification(config)
    test = rows // 5
    return model, ViTImageProcessorPil(), data.select(range(test, rows)), data.select(range(test))
