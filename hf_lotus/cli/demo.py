"""`hf-lotus demo`: the whole way on real scans that ship inside scikit-learn, in a minute or two, with no download.

A small ViT and a small ResNet are trained for a moment as the stand-in for a published checkpoint, 10 % of their
training rows are unlearned with LoTUS, and the same models are retrained without those rows for comparison.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from datasets import Array3D, Dataset, Features
from transformers import PreTrainedModel, Trainer, TrainingArguments, ViTImageProcessorPil, set_seed

from hf_lotus.cli.parsing import parse
from hf_lotus.data.digits import Digits, load_digits
from hf_lotus.data.splits import ForgetRetainSplit
from hf_lotus.evaluation.results import UnlearningResult, to_markdown
from hf_lotus.methods import LoTUS
from hf_lotus.models.small import SMALL_SIZE, small_resnet, small_vit
from hf_lotus.publishing.digests import Salt
from hf_lotus.publishing.record import ForgetSetRecord, salt_path
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.trainer import UnlearningTrainer


@dataclass
class DemoArguments:
    """Where the demonstration writes, and what it draws."""

    output_dir: str = field(default="demo_output", metadata={"help": "Folder for the models and what was measured."})
    seed: int = field(default=42, metadata={"help": "Seed of the splits, the training and the unlearning."})


@dataclass(frozen=True)
class Trained:
    """The two models that the demonstration trains itself, and how long the second took, in seconds."""

    original: PreTrainedModel
    retrained: PreTrainedModel
    retrain_seconds: float


@dataclass(frozen=True)
class Demo:
    """One model of the demonstration: trained, unlearned and measured; everything is written into `folder`."""

    name: str
    build: Callable[[], PreTrainedModel]
    digits: Digits
    folder: Path
    seed: int

    def run(self) -> UnlearningResult:
        """Train, unlearn and measure."""
        split = ForgetRetainSplit.from_fraction(self.digits.train, 0.1, self.seed)
        known, forgotten = len(self.digits.train), len(split.forget)
        print(f"\n{self.name}: training the original on {known} scans, and again without {forgotten} of them")
        trained = self.train(split)
        print(f"{self.name}: unlearning {forgotten} scans with LoTUS")
        return self.measure(self.unlearn(split, trained), trained)

    @property
    def processor(self) -> ViTImageProcessorPil:
        """What makes scans into model inputs."""
        return ViTImageProcessorPil(size={"height": SMALL_SIZE, "width": SMALL_SIZE})

    def train(self, split: ForgetRetainSplit) -> Trained:
        """The original on all rows, and the retrained model on those that are retained."""
        original = self._fit(split.dataset)
        started = time.perf_counter()
        retrained = self._fit(split.retain)
        return Trained(original, retrained, time.perf_counter() - started)

    def _fit(self, data: Dataset) -> PreTrainedModel:
        """Train a fresh model with the stock `Trainer`; the original and the retrained one differ in `data` alone."""
        processor = self.processor

        def to_pixels(batch: dict) -> dict:
            pixels = processor(batch["image"], return_tensors="np")["pixel_values"]
            return {"pixel_values": pixels, "labels": batch["label"]}

        set_seed(self.seed)
        pixels = Array3D((3, SMALL_SIZE, SMALL_SIZE), "float32")
        features = Features({"pixel_values": pixels, "labels": data.features["label"]})
        ready = data.map(to_pixels, batched=True, remove_columns=data.column_names, features=features)
        arguments = TrainingArguments(
            str(self.folder), num_train_epochs=30, learning_rate=2e-3, per_device_train_batch_size=64, seed=self.seed,
            lr_scheduler_type="cosine", save_strategy="no", logging_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(self.build(), arguments, train_dataset=ready.with_format("torch"))
        trainer.train()
        return cast(PreTrainedModel, trainer.model)

    def unlearn(self, split: ForgetRetainSplit, trained: Trained) -> UnlearningTrainer:
        """Unlearn the original; the trainer that did it."""
        base: dict[str, Any] = {
            "name": f"a small {self.name} trained on digits",
            "id": None,
            "revision": None,
            "license": {},
        }
        salt = Salt.read_or_create(salt_path(self.folder))
        trainer = UnlearningTrainer(
            model=trained.original,
            args=UnlearningArguments(
                str(self.folder), seed=self.seed, learning_rate=1e-4, num_train_epochs=10,
                per_device_train_batch_size=32,
            ),
            method=LoTUS(),
            forget_dataset=split.forget,
            retain_dataset=split.retain,
            unseen_dataset=self.digits.unseen,
            eval_dataset=self.digits.test,
            retrain_model=trained.retrained,
            processing_class=self.processor,
            forget_set=ForgetSetRecord.of_split(split, salt, name="scikit-learn digits", base_model=base),
        )  # fmt: skip
        trainer.train()
        return trainer

    def measure(self, trainer: UnlearningTrainer, trained: Trained) -> UnlearningResult:
        """Hold the unlearned model against the other two, and write its card."""
        result = trainer.compare(retrain_seconds=trained.retrain_seconds)
        trainer.create_model_card()
        return result


def run(argv: list[str]) -> int:
    """Run the demonstration for both models and print one table; return the exit status."""
    (arguments,) = parse(argv, [DemoArguments], "demo")
    folder = Path(arguments.output_dir)
    digits = load_digits(arguments.seed)
    results = {
        name: Demo(name, build, digits, folder / name.lower(), arguments.seed).run()
        for name, build in {"ViT": small_vit, "ResNet": small_resnet}.items()
    }
    print(f"\n{to_markdown(results)}\n\nThe models, results.json, entropy.png and a card of each are in {folder}/.")
    return 0
