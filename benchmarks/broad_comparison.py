"""Our methods against LoTUS and tuned rivals where nobody retrains: many settings, every choice retrain-free.

    python benchmarks/broad_comparison.py --output_dir broad --cifar10 path/or/id

Two data sets (5,000 images of CIFAR-10; scikit-learn's digits) × two small models (ResNet, ViT) × four forget sets
(10 % and 50 % of each class; 10 %, of which 80 % from two classes; 10 % with 20 unseen samples a class) × three seeds,
each with its own split, original and three retrained models. Every method gets the same number of configurations.
Every row has its relearning excess and its cost in sample visits; no retrained model takes part in a choice. Broken
off, it goes on where it stopped; `--cells` divides the work between processes. `broad_report.py` makes the tables.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, load_dataset
from torch import Tensor, nn
from transformers import ViTImageProcessorPil

from hf_lotus import (
    SCRUB,
    Contender,
    Finetune,
    LoTUS,
    MarginMatching,
    NegGradPlus,
    SalUn,
    UnlearningArguments,
    UnlearningTrainer,
)
from hf_lotus.data.columns import find_label_column, read_labels
from hf_lotus.data.digits import load_digits
from hf_lotus.data.images import ReadyImages
from hf_lotus.data.prepared import ready_splits
from hf_lotus.data.splits import stratified_rows
from hf_lotus.evaluation.attacks import ENTROPY
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.models.small import small_resnet, small_vit
from hf_lotus.trainer.relearning import measured_relearning_excess
from hf_lotus.utils.files import write_whole

SIZE, SEEDS, BATCH, EPOCHS = 32, (0, 1, 2), 64, 30
DATA, MODELS = ("cifar10", "digits"), ("resnet", "vit")
FORGET = ("10 %", "50 %", "10 %, skewed", "10 %, few unseen")
UNSEEN_A_CLASS, SKEW = 20, 0.8
# The retrained model that JSD is measured from, and those that say what two trainings differ by.
RETRAINED = ("retrain", "retrain again", "retrain, third")


def configurations(model: str) -> dict[str, Contender]:
    """Two of each method, named method/number."""
    adam, sgd = {"optim": "adamw_torch_fused"}, {"optim": "sgd", "optim_args": "momentum=0.9"}
    annealed = {"lr_scheduler_type": "cosine", "warmup_steps": 0.05}
    grids: dict[str, list[tuple[object, Mapping[str, object]]]] = {
        "lotus": [(LoTUS(alpha=alpha, stop_margin=2.0), {**adam, "learning_rate": 1e-4}) for alpha in (2.0, 8.0)],
        "finetune": [(Finetune(), {**sgd, "learning_rate": rate}) for rate in (3e-2, 1e-1)],
        "finetune, annealed": [(Finetune(), {**sgd, **annealed, "learning_rate": rate}) for rate in (3e-2, 1e-1)],
        "neggrad_plus": [(NegGradPlus(alpha=alpha), {**sgd, "learning_rate": 1e-2}) for alpha in (0.95, 0.99)],
        "scrub_r": [(SCRUB(alpha=alpha, rewind=True), {**adam, "learning_rate": 5e-4}) for alpha in (0.001, 0.5)],
        "salun": [
            (SalUn(saliency=share), {**sgd, "learning_rate": rate}) for share, rate in ((0.1, 1e-3), (0.5, 1e-2))
        ],
        "matching, open loop": [
            (MarginMatching(gain=0.0, unseen_margins="original"), {**adam, **annealed, "learning_rate": rate})
            for rate in (3e-4, 1e-3)
        ],
        "margin_matching": [(MarginMatching(), {**adam, **annealed, "learning_rate": rate}) for rate in (1e-3, 2e-3)],
    }
    return {
        f"{name}/{number}": Contender(method, arguments)
        for name, grid in grids.items()
        for number, (method, arguments) in enumerate(grid)
    }


@dataclass(frozen=True)
class Parts:
    """The data of one cell."""

    train: Dataset
    unseen: Dataset
    test: Dataset


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
        """Of its file."""
        scenario = self.forget.replace(" %", "").replace(", ", "-").replace(" ", "-")
        return f"{self.data}-{self.model}-{scenario}-seed{self.seed}"

    def run(self) -> None:
        """Train, retrain, unlearn by every configuration, measure, and write the rows as they come."""
        path = Path(self.options.output_dir) / f"{self.name}.json"
        done = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        rows = done.get("rows", {})
        contenders = configurations(self.model)
        if {*RETRAINED, "original", *contenders} <= rows.keys():
            return
        original, retrained, sets = self.models_and_sets()
        sets, _ = ready_splits(sets, original.config, self.processor)
        evaluator: Evaluator | None = None
        todo = {"original": original, **dict(zip(RETRAINED, retrained, strict=True)), **contenders}
        for name, what in todo.items():
            if name in rows:
                continue
            contender = what if isinstance(what, Contender) else Contender(Finetune())
            trainer = self.trainer(original if what is contender else what, contender, sets, retrained[0], evaluator)
            evaluator, visits = trainer.evaluator, 0
            if what is contender:
                with counted_visits(trainer.run.student) as count:
                    trainer.train()
                visits = count[0]
            rows[name] = {**self.measured(name, trainer), "visits": visits}
            controls = evaluator.yardstick.controls.__dict__
            document = {"cell": [self.data, self.model, self.forget, self.seed], "controls": controls, "rows": rows}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(document, indent=1) + "\n")

    def trainer(
        self, model: nn.Module, contender: Contender, sets: Mapping, retrained: nn.Module, evaluator: Evaluator | None
    ) -> UnlearningTrainer:
        """With a copy of the model."""
        arguments = UnlearningArguments(
            str(Path(self.options.output_dir) / "runs" / self.name), num_train_epochs=10, save_strategy="no",
            per_device_train_batch_size=BATCH, seed=self.seed, use_cpu=True, disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        return UnlearningTrainer(
            copy.deepcopy(model), arguments.changed(**contender.arguments), contender.method,
            forget_dataset=sets["forget"], retain_dataset=sets["retain"], unseen_dataset=sets["unseen"],
            eval_dataset=sets["test"], retrain_model=retrained, evaluator=evaluator, processing_class=self.processor,
        )  # fmt: skip

    def measured(self, name: str, trainer: UnlearningTrainer) -> dict[str, object]:
        """Every metric of the trainer's model as it is; what it says of unseen data, weighted as the forget set."""
        predictions, yardstick = trainer.student_predictions(), trainer.evaluator.yardstick
        row = yardstick.measure(name, predictions, trainer.unlearning_seconds)
        rates = ENTROPY.run(predictions)
        return {
            **row.metrics(),
            "own_unseen_accuracy": predictions["unseen"].accuracy_weighted(predictions["forget"].labels),
            "own_unseen_member_rate": rates.unseen,
            "relearning_excess": measured_relearning_excess(trainer),
        }

    def models_and_sets(self) -> tuple[nn.Module, list[nn.Module], dict[str, Dataset]]:
        """The original, the retrained models, and the sets by name."""
        parts = load(self.data, self.options.cifar10, self.seed)
        labels, unseen = _labels(parts.train), parts.unseen
        forget = forget_rows(labels, self.forget, self.seed)
        retain = parts.train.select(np.setdiff1d(np.arange(len(labels)), forget))
        shared = self.forget.removesuffix(", few unseen")  # the same forget set, with less to compare it with
        name = f"{self.data}-{self.model}"
        retrained = f"{name}-{shared}-seed{self.seed}".replace(" ", "_")
        if shared != self.forget:
            of_class = [np.flatnonzero(_labels(unseen) == c)[:UNSEEN_A_CLASS] for c in np.unique(labels)]
            unseen = unseen.select(np.sort(np.concatenate(of_class)))
        models = [self.trained(f"{name}-seed{self.seed}", parts.train, self.seed)]
        for number in range(len(RETRAINED)):
            models.append(self.trained(retrained + f"-{number}" * (number > 0), retain, self.seed + 100 * number))
        sets = {"forget": parts.train.select(forget), "retain": retain, "unseen": unseen, "test": parts.test}
        return models[0], models[1:], sets

    def trained(self, name: str, data: Dataset, seed: int) -> nn.Module:
        """A model trained from scratch, or the one that was trained so before."""
        folder = Path(self.options.output_dir) / "models" / name
        build = small_resnet if self.model == "resnet" else small_vit
        torch.manual_seed(seed)
        model = build()
        if (folder / "model.safetensors").exists():
            return type(model).from_pretrained(folder)
        images = ReadyImages(data, self.processor, num_labels=10)
        batch = images.finish(images.__getitems__(range(len(images))))
        train(model, batch["pixel_values"], batch["labels"], seed=seed)
        model.save_pretrained(folder)
        return model


@contextmanager
def counted_visits(model: nn.Module) -> Iterator[list[int]]:
    """Samples that are learned from: those that pass through the model while it trains and gradients are wanted."""
    count = [0]

    def add(module: nn.Module, args: tuple, given: Mapping[str, Tensor], output: object) -> None:
        if module.training and torch.is_grad_enabled():
            count[0] += len(given["pixel_values"])

    handle = model.register_forward_hook(add, with_kwargs=True)
    try:
        yield count
    finally:
        handle.remove()


def train(model: nn.Module, pixels: Tensor, labels: Tensor, seed: int) -> None:
    """AdamW with a cosine schedule, until the training set is all but known."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=5e-4, fused=True)
    steps = EPOCHS * math.ceil(len(labels) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH):
            F.cross_entropy(model(pixel_values=pixels[rows]).logits, labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


def main() -> None:
    """Run the cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="broad_comparison", help="folder for models and results")
    parser.add_argument("--cifar10", default="uoft-cs/cifar10", help="the data set, by id or folder")
    parser.add_argument("--cells", default="0/1", help="part/parts: do each parts-th cell, from the part-th on")
    parser.add_argument("--only", default="", help="do the cells with this in their names")
    options = parser.parse_args()
    part, parts = map(int, options.cells.split("/"))
    cells = [Cell(*which, options) for which in product(DATA, MODELS, FORGET, SEEDS)]
    cells = sorted(cells, key=lambda cell: cell.seed)
    for cell in [cell for cell in cells if options.only in cell.name][part::parts]:
        started = time.perf_counter()
        cell.run()
        sys.stdout.write(f"{cell.name}: {time.perf_counter() - started:.0f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
