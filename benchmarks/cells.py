"""The settings in which methods are compared: data, a small model, a forget set, a seed.

Two data sets (5,000 images of CIFAR-10; scikit-learn's digits) × two small models (ResNet, ViT) × four forget sets
(10 % and 50 % of each class; 10 %, of which 80 % from two classes; 10 % with 20 unseen samples a class) × three seeds,
each with its own split, original and retrained model.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, load_dataset
from torch import Tensor, nn
from transformers import ViTImageProcessorPil

from hf_lotus.data.columns import find_label_column, read_labels
from hf_lotus.data.digits import load_digits
from hf_lotus.data.images import ReadyImages
from hf_lotus.data.splits import stratified_rows
from hf_lotus.models.small import small_resnet, small_vit

SIZE, SEEDS = 32, (0, 1, 2)
DATA, MODELS = ("cifar10", "digits"), ("resnet", "vit")
FORGET = ("10 %", "50 %", "10 %, skewed", "10 %, few unseen")
UNSEEN_A_CLASS, SKEW = 20, 0.8


@dataclass(frozen=True)
class Parts:
    """The data of one cell."""

    train: Dataset
    unseen: Dataset
    test: Dataset


def parser_beside(about: str | None, output: str) -> argparse.ArgumentParser:
    """Options of what is measured beside the comparison: its folder, the data, and where to write."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", help="output_dir of floor_comparison.py")
    parser.add_argument("--cifar10", default="uoft-cs/cifar10", help="the data set, by id or folder")
    parser.add_argument("--output", type=Path, default=Path(output), help="path without suffix")
    return parser


def load(name: str, cifar10: str, seed: int) -> Parts:
    """5,000 + 2,000 + 2,000 images of CIFAR-10, drawn by class; or all the digits, in halves and quarters."""
    if name == "digits":
        digits = load_digits(seed)
        return Parts(digits.train, digits.unseen, digits.test)
    data = load_dataset(cifar10)
    train, test = (data[split] for split in ("train", "test"))
    rows, held_out = stratified_rows(_labels(train), 0.1, seed), stratified_rows(_labels(test), 0.4, seed)
    unseen = held_out[stratified_rows(_labels(test)[held_out], 0.5, seed)]
    return Parts(train.select(rows), test.select(unseen), test.select(np.setdiff1d(held_out, unseen)))


def _labels(data: Dataset) -> np.ndarray:
    return read_labels(data, find_label_column(data))


def forget_rows(labels: np.ndarray, how: str, seed: int) -> np.ndarray:
    """Row numbers to forget."""
    if how != "10 %, skewed":
        return stratified_rows(labels, 0.5 if how == "50 %" else 0.1, seed)
    rng, count = np.random.default_rng(seed), round(0.1 * len(labels))
    two = rng.choice(np.unique(labels), 2, replace=False)
    inside = rng.permutation(np.flatnonzero(np.isin(labels, two)))[: round(SKEW * count)]
    outside = rng.permutation(np.flatnonzero(~np.isin(labels, two)))[: count - len(inside)]
    return np.sort(np.concatenate([inside, outside]))


@dataclass
class Cell:
    """One model, one data set, one forget set, one seed."""

    data: str
    model: str
    forget: str
    seed: int
    options: argparse.Namespace
    processor: object = field(default_factory=lambda: ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}))

    @property
    def name(self) -> str:
        """Of its folder."""
        scenario = self.forget.replace(" %", "").replace(", ", "-").replace(" ", "-")
        return f"{self.data}-{self.model}-{scenario}-seed{self.seed}"

    def settings(self) -> dict[str, object]:
        """The models and the sets, as `Comparison` and `UnlearningTrainer` take them."""
        parts = load(self.data, self.options.cifar10, self.seed)
        labels, unseen = _labels(parts.train), parts.unseen
        forget = forget_rows(labels, self.forget, self.seed)
        retain = parts.train.select(np.setdiff1d(np.arange(len(labels)), forget))
        models = Path(self.options.output_dir) / "models"
        shared = self.forget.removesuffix(", few unseen")  # the same forget set, with less to compare it with
        retrained = f"{self.data}-{self.model}-{shared}-seed{self.seed}".replace(" ", "_")
        if shared != self.forget:
            of_class = [np.flatnonzero(_labels(unseen) == c)[:UNSEEN_A_CLASS] for c in np.unique(labels)]
            unseen = unseen.select(np.sort(np.concatenate(of_class)))
        return {
            "model": self.trained(models / f"{self.data}-{self.model}-seed{self.seed}", parts.train),
            "retrain_model": self.trained(models / retrained, retain),
            "forget_dataset": parts.train.select(forget),
            "retain_dataset": retain,
            "unseen_dataset": unseen,
            "eval_dataset": parts.test,
            "processing_class": self.processor,
        }

    def trained(self, folder: Path, data: Dataset) -> nn.Module:
        """A model trained from scratch, or the one that was trained so before."""
        build = small_resnet if self.model == "resnet" else small_vit
        torch.manual_seed(self.seed)
        model = build()
        if (folder / "model.safetensors").exists():
            return type(model).from_pretrained(folder)
        images = ReadyImages(data, self.processor, num_labels=10)
        batch = images.finish(images.__getitems__(range(len(images))))
        train(model, batch["pixel_values"], batch["labels"], epochs=30, seed=self.seed)
        model.save_pretrained(folder)
        return model


def train(model: nn.Module, pixels: Tensor, labels: Tensor, epochs: int, seed: int) -> None:
    """AdamW with a cosine schedule, until the training set is all but known."""
    generator, batch_size = torch.Generator().manual_seed(seed), 64
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=5e-4, fused=True)
    steps = epochs * math.ceil(len(labels) / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), generator=generator).split(batch_size):
            F.cross_entropy(model(pixel_values=pixels[rows]).logits, labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
