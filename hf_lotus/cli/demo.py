"""`hf-lotus demo`: the whole way on real scans that ship inside scikit-learn, in a minute or two, with no download.

A small ViT and a small ResNet are trained for a moment as the stand-in for a published checkpoint, 10 % of their
training rows are unlearned with LoTUS, and the same models are retrained without those rows for comparison.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Array3D, ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage
from sklearn.datasets import load_digits
from torch import nn
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    set_seed,
)

from hf_lotus.cli.parsing import parse
from hf_lotus.data.splits import ForgetRetainSplit, stratified_rows
from hf_lotus.evaluation.results import UnlearningResult, to_markdown
from hf_lotus.methods import LoTUS
from hf_lotus.publishing.digests import Salt
from hf_lotus.publishing.record import ForgetSetRecord, salt_path
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.trainer import UnlearningTrainer

SIZE = 32


@dataclass
class DemoArguments:
    """Where the demonstration writes, and what it draws."""

    output_dir: str = field(default="demo_output", metadata={"help": "Folder for the models and what was measured."})
    seed: int = field(default=42, metadata={"help": "Seed of the splits, the training and the unlearning."})


@dataclass(frozen=True)
class Digits:
    """scikit-learn's 1,797 scans of handwritten digits, in three parts that share no row."""

    train: Dataset
    unseen: Dataset
    test: Dataset


def load_parts(seed: int) -> Digits:
    """Half of the digits to train on, and a quarter each unseen and to test on, by class."""
    digits = load_digits()
    scans = [PILImage.fromarray(np.uint8(scan * 255 / 16)).convert("RGB") for scan in digits.images]
    features = Features({"image": Image(), "label": ClassLabel(names=[str(name) for name in digits.target_names])})
    everything = Dataset.from_dict({"image": scans, "label": digits.target}, features=features)
    train = stratified_rows(digits.target, 0.5, seed)
    rest = np.setdiff1d(np.arange(len(everything)), train)
    unseen = rest[stratified_rows(digits.target[rest], 0.5, seed)]
    return Digits(*(everything.select(rows) for rows in (train, unseen, np.setdiff1d(rest, unseen))))


def small_vit() -> nn.Module:
    """A ViT of 0.2 M parameters."""
    config = ViTConfig(
        image_size=SIZE, patch_size=8, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=128, num_labels=10,
    )  # fmt: skip
    return ViTForImageClassification(config)


def small_resnet() -> nn.Module:
    """A ResNet of basic blocks, 0.2 M parameters."""
    config = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 64], depths=[1, 1, 1], layer_type="basic", num_labels=10
    )
    return ResNetForImageClassification(config)


def train_from_scratch(build, data: Dataset, processor: ViTImageProcessorPil, folder: Path, seed: int) -> nn.Module:
    """Train a fresh model with the stock `Trainer`; the original and the retrained model differ in `data` alone."""

    def to_pixels(batch: dict) -> dict:
        return {
            "pixel_values": processor(batch["image"], return_tensors="np")["pixel_values"],
            "labels": batch["label"],
        }

    set_seed(seed)
    features = Features({"pixel_values": Array3D((3, SIZE, SIZE), "float32"), "labels": data.features["label"]})
    ready = data.map(to_pixels, batched=True, remove_columns=data.column_names, features=features)
    arguments = TrainingArguments(
        str(folder), num_train_epochs=30, learning_rate=2e-3, per_device_train_batch_size=64, seed=seed,
        lr_scheduler_type="cosine", save_strategy="no", logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(build(), arguments, train_dataset=ready.with_format("torch"))
    trainer.train()
    return trainer.model


def unlearn_one(name: str, build, digits: Digits, folder: Path, seed: int) -> UnlearningResult:
    """Train, unlearn, retrain and measure one model; everything is written into `folder`."""
    processor = ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})
    split = ForgetRetainSplit.from_fraction(digits.train, 0.1, seed)
    print(
        f"\n{name}: training the original on {len(digits.train)} scans, and again without {len(split.forget)} of them"
    )
    original = train_from_scratch(build, digits.train, processor, folder, seed)
    started = time.perf_counter()
    retrained = train_from_scratch(build, split.retain, processor, folder, seed)
    retrain_seconds = time.perf_counter() - started
    print(f"{name}: unlearning {len(split.forget)} scans with LoTUS")
    trainer = UnlearningTrainer(
        model=original,
        args=UnlearningArguments(
            str(folder), seed=seed, learning_rate=1e-4, num_train_epochs=10, per_device_train_batch_size=32
        ),
        method=LoTUS(),
        forget_dataset=split.forget,
        retain_dataset=split.retain,
        unseen_dataset=digits.unseen,
        eval_dataset=digits.test,
        retrain_model=retrained,
        processing_class=processor,
        forget_set=ForgetSetRecord.of_split(
            split,
            Salt.read_or_create(salt_path(folder)),
            name="scikit-learn digits",
            base_model={"name": f"a small {name} trained on digits", "id": None, "revision": None, "license": {}},
        ),
    )
    trainer.train()
    result = trainer.compare(retrain_seconds=retrain_seconds)
    trainer.create_model_card()
    return result


def run(argv: list[str]) -> int:
    """Run the demonstration for both models and print one table; return the exit status."""
    (arguments,) = parse(argv, [DemoArguments], "demo")
    folder = Path(arguments.output_dir)
    digits = load_parts(arguments.seed)
    results = {
        name: unlearn_one(name, build, digits, folder / name.lower(), arguments.seed)
        for name, build in {"ViT": small_vit, "ResNet": small_resnet}.items()
    }
    print(f"\n{to_markdown(results)}\n\nThe models, results.json, entropy.png and a card of each are in {folder}/.")
    return 0
