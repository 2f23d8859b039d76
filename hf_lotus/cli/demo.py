"""`hf-lotus demo`: the whole way on real scans that ship inside scikit-learn, in a minute or two, with no download.

A small ViT and a small ResNet are trained on a few scans for a moment, as the stand-in for a published checkpoint: so
few that they know them by heart. They are made to forget three in ten of them, with LoTUS and with margin matching,
and are retrained without them twice for comparison: two trainings differ too.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from datasets import Array3D, Dataset, Features
from transformers import PreTrainedModel, Trainer, TrainingArguments, ViTImageProcessorPil, set_seed

from hf_lotus.cli.parsing import parse
from hf_lotus.data.columns import read_labels
from hf_lotus.data.digits import Digits, load_digits
from hf_lotus.data.splits import ForgetRetainSplit, stratified_rows
from hf_lotus.evaluation.results import UnlearningResult, to_markdown
from hf_lotus.methods import LoTUS, MarginMatching, UnlearningMethod, name_of
from hf_lotus.models.small import SMALL_SIZE, small_resnet, small_vit
from hf_lotus.publishing.digests import Salt
from hf_lotus.publishing.record import ForgetSetRecord, salt_path
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.output_folder import claimed
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.seeds import require_seed


@dataclass
class DemoArguments:
    """Where the demonstration writes, and what it draws."""

    output_dir: str = field(default="demo_output", metadata={"help": "Folder for the models and what was measured."})
    seed: int = field(default=42, metadata={"help": "Seed of the splits, the training and the unlearning."})


# Of the scans to train on, what the models are given, and what of it they are to forget.
SHARE, FORGET = 0.25, 0.3
# Of batches of 64, sixty rounds of what the original is given. Retrained models take as many: they see fewer scans.
STEPS = 240


@dataclass(frozen=True)
class Trained:
    """The models that the demonstration trains itself, and how long each of the retrained ones took, in seconds."""

    original: PreTrainedModel
    retrained: Sequence[PreTrainedModel]
    retrain_seconds: Sequence[float]


@dataclass(frozen=True)
class Demo:
    """One model of the demonstration: trained, unlearned and measured; everything is written into `folder`."""

    name: str
    build: Callable[[], PreTrainedModel]
    digits: Digits
    folder: Path
    seed: int

    def run(self) -> UnlearningResult:
        """Train, unlearn by each method, measure; the model of the last one is left in the folder, with its card."""
        labels = read_labels(self.digits.train, "label")
        known = self.digits.train.select(stratified_rows(labels, SHARE, self.seed))
        split = ForgetRetainSplit.from_fraction(known, FORGET, self.seed)
        forgotten = len(split.forget)
        print(f"\n{self.name}: training the original on {len(known)} scans, and twice without {forgotten} of them")
        trained = self.train(split)
        measured: dict[str, tuple] = {}
        for method in (LoTUS(), MarginMatching()):
            print(f"{self.name}: unlearning {forgotten} scans by {name_of(method)}")
            trainer = self.trainer(split, trained, method)
            trainer.train()
            measured[trainer.method_name] = trainer.student_predictions(), trainer.unlearning_seconds
        trainer.compare(measured[trainer.method_name][0], trained.retrain_seconds)
        trainer.create_model_card()
        return trainer.evaluator.compare(measured, trained.retrain_seconds)

    @property
    def processor(self) -> ViTImageProcessorPil:
        """What makes scans into model inputs."""
        return ViTImageProcessorPil(size={"height": SMALL_SIZE, "width": SMALL_SIZE})

    def train(self, split: ForgetRetainSplit) -> Trained:
        """The original on all rows, and two models on those that are retained, of two seeds."""
        original, retrained, seconds = self._fit(split.dataset, self.seed), [], []
        for seed in (self.seed, self.seed + 1):
            started = time.perf_counter()
            retrained.append(self._fit(split.retain, seed))
            seconds.append(time.perf_counter() - started)
        return Trained(original, retrained, seconds)

    def _fit(self, data: Dataset, seed: int) -> PreTrainedModel:
        """Train a fresh model with the stock `Trainer`."""
        processor = self.processor

        def to_pixels(batch: dict) -> dict:
            pixels = processor(batch["image"], return_tensors="np")["pixel_values"]
            return {"pixel_values": pixels, "labels": batch["label"]}

        set_seed(seed)
        pixels = Array3D((3, SMALL_SIZE, SMALL_SIZE), "float32")
        features = Features({"pixel_values": pixels, "labels": data.features["label"]})
        ready = data.map(to_pixels, batched=True, remove_columns=data.column_names, features=features)
        arguments = TrainingArguments(
            str(self.folder), max_steps=STEPS, learning_rate=2e-3, per_device_train_batch_size=64, seed=seed,
            lr_scheduler_type="cosine", save_strategy="no", logging_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(self.build(), arguments, train_dataset=ready.with_format("torch"))
        trainer.train()
        return cast(PreTrainedModel, trainer.model)

    def trainer(self, split: ForgetRetainSplit, trained: Trained, method: UnlearningMethod) -> UnlearningTrainer:
        """Of a copy of the original."""
        base: dict[str, Any] = {
            "name": f"a small {self.name} trained on digits",
            "id": None,
            "revision": None,
            "license": {},
        }
        salt = Salt.read_or_create(salt_path(self.folder))
        # LoTUS's own rate is for models that were trained for longer.
        rate: dict[str, Any] = {"learning_rate": 1e-3, "num_train_epochs": 10} if isinstance(method, LoTUS) else {}
        return UnlearningTrainer(
            copy.deepcopy(trained.original),
            UnlearningArguments(
                str(self.folder), seed=self.seed, per_device_train_batch_size=32, save_strategy="no", **rate
            ),
            method,
            forget_dataset=split.forget,
            retain_dataset=split.retain,
            unseen_dataset=self.digits.unseen,
            eval_dataset=self.digits.test,
            retrain_model=trained.retrained[0],
            retrain_models=trained.retrained[1:],
            processing_class=self.processor,
            forget_set=ForgetSetRecord.of_split(split, salt, name="scikit-learn digits", base_model=base),
        )


def run(argv: list[str]) -> int:
    """Run the demonstration for both models and print one table; return the exit status."""
    (arguments,) = parse(argv, [DemoArguments], "demo")
    folder = Path(arguments.output_dir)
    require_seed(arguments.seed, "seed")
    with claimed(folder, sources={}, goes_on=True):
        return _show(folder, arguments.seed)


def _show(folder: Path, seed: int) -> int:
    digits = load_digits(seed)
    results = {
        name: Demo(name, build, digits, folder / name.lower(), seed).run()
        for name, build in {"ViT": small_vit, "ResNet": small_resnet}.items()
    }
    print(f"\n{to_markdown(results)}\n\nThe models, results.json, entropy.png and a card of each are in {folder}/.")
    return 0
