"""Deletion requests of a few pictures: how near each method comes to models that never saw them, and what it costs.

    python benchmarks/small_requests.py broad --cifar10 path/or/id --output docs/small_requests

The small ResNet of `floor_comparison.py` (its folder is the first argument; 5,000 images) is asked to forget 1, 3, 10
and 30 of them, by most methods 3 and 10, and by two of them in fifty requests of three in a row, each from the model
that the one before it left. A pool of four models was trained without any of these 150 pictures. Distance: the mean of
|p(true class) − the pool's mean| over the pictures; the floor is that of one model of the pool from the others. Broken
off, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from cells import Cell, load, parser_beside
from docs_tables import write_csv
from torch import nn

from hf_lotus import UnlearningArguments, UnlearningTrainer
from hf_lotus.data.prepared import ready_splits
from hf_lotus.evaluation.predictions import predict
from hf_lotus.functional.membership import true_class_confidence
from hf_lotus.methods import METHODS, Retrain
from hf_lotus.publishing.digests import weights_digest
from hf_lotus.utils.files import write_whole

ASKED, POOL, QUEUE = 150, 4, 50
# Size of a request → how many requests of it are tried by the methods that a user would take, and by all others.
SIZES, OF_OTHERS = {1: 4, 3: 3, 10: 2, 30: 1}, {3: 1, 10: 1}
TAKEN = ("lotus", "margin_matching", "finetune", "scrub")
IN_A_ROW = ("lotus", "margin_matching")


class Requests:
    """The model, the pictures that are asked for, and the models that never saw them."""

    def __init__(self, options: argparse.Namespace):
        self.options, self.cell = options, Cell("cifar10", "resnet", "10 %", 0, options)
        self.parts = load("cifar10", options.cifar10, 0)
        self.size = len(self.parts.train)
        self.asked = np.random.default_rng(7).permutation(self.size)[:ASKED]
        models = Path(options.output_dir) / "models"
        rest = self.parts.train.select(np.setdiff1d(np.arange(self.size), self.asked))
        self.original = self.cell.trained(models / "cifar10-resnet-seed0", self.parts.train)
        pool = [replace(self.cell, seed=1000 + k).trained(models / f"small-resnet-pool{k}", rest) for k in range(POOL)]
        self.pictures = self._ready(self.asked)
        own = np.stack([self.confidence(model) for model in pool])
        self.reference = own.mean(axis=0)
        self.floor = np.stack([np.abs(own[k] - np.delete(own, k, 0).mean(axis=0)) for k in range(POOL)]).mean(axis=0)

    def _ready(self, rows: np.ndarray) -> torch.utils.data.Dataset:
        rest = self.parts.train.select(np.setdiff1d(np.arange(self.size), rows))
        sets = {"forget": self.parts.train.select(rows), "retain": rest, "unseen": None, "test": None}
        return ready_splits(sets, self.original.config, self.cell.processor)[0]["forget"]

    def confidence(self, model: nn.Module) -> np.ndarray:
        """The probability of the true class of every picture, shape (150,)."""
        found = predict(model, self.pictures, progress=False)
        return true_class_confidence(found.probabilities, found.labels)

    def unlearn(self, model: nn.Module, method: str, rows: np.ndarray, gone: np.ndarray) -> tuple[nn.Module, dict]:
        """The model after one request, and what the request cost."""
        folder = str(Path(self.options.output_dir) / "small_requests")
        arguments = UnlearningArguments(
            folder, save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, seed=0
        )
        kept = np.setdiff1d(np.arange(self.size), np.concatenate([rows, gone]))
        trainer = UnlearningTrainer(
            copy.deepcopy(model), arguments, METHODS[method](), forget_dataset=self.parts.train.select(rows),
            retain_dataset=self.parts.train.select(kept), unseen_dataset=self.parts.unseen,
            eval_dataset=self.parts.test, processing_class=self.cell.processor,
        )  # fmt: skip
        started = time.process_time()
        trainer.train()
        seconds, student = time.process_time() - started, trainer.run.student
        found = trainer.student_predictions()
        same = weights_digest(student) == weights_digest(model)
        cost = {"seconds": seconds, "unchanged": same}
        return student, cost | {"retain": found["retain"].accuracy, "test": found["test"].accuracy}

    def alone(self, method: str, size: int) -> dict[str, float]:
        """Requests of one size, each from the original; means over them."""
        rows = []
        for number in range((SIZES if method in TAKEN else OF_OTHERS)[size]):
            places = np.arange(number * size, (number + 1) * size)
            model, row = self.unlearn(self.original, method, self.asked[places], np.empty(0, dtype=int))
            rows.append({**row, "distance": self.distance(model, places)})
        return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}

    def in_a_row(self, method: str) -> dict[str, float]:
        """Fifty requests of three, each from the model that the one before it left."""
        model, rows = self.original, []
        for places in np.arange(ASKED).reshape(QUEUE, -1):
            model, row = self.unlearn(model, method, self.asked[places], self.asked[: places[0]])
            rows.append(row)
        costs = {key: float(np.mean([row[key] for row in rows])) for key in ("seconds", "unchanged")}
        last = {key: rows[-1][key] for key in ("retain", "test")}
        return {**costs, **last, "distance": self.distance(model, np.arange(ASKED))}

    def distance(self, model: nn.Module, places: Sequence[int]) -> float:
        """How far its confidence in the pictures is from that of models that never saw them."""
        return float(np.abs(self.confidence(model) - self.reference)[places].mean())

    def original_rows(self) -> dict[str, dict[str, float]]:
        """The original and the floor, by size."""
        sizes = {str(size): np.arange(size * count) for size, count in SIZES.items()} | {"queue": np.arange(ASKED)}
        test = predict(self.original, ready_splits(
            {"forget": self.parts.test, "retain": self.parts.train, "unseen": None, "test": None},
            self.original.config, self.cell.processor)[0]["forget"], progress=False)  # fmt: skip
        return {
            "original": {k: {"distance": self.distance(self.original, v), "test": test.accuracy}
                         for k, v in sizes.items()},
            "floor": {k: {"distance": float(self.floor[v].mean())} for k, v in sizes.items()},
        }  # fmt: skip


def main() -> None:
    """Measure what is not measured yet, and write all of it."""
    options = parser_beside(__doc__, "small_requests").parse_args()
    kept = options.output.with_suffix(".json")
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    requests = Requests(options)
    found |= requests.original_rows()
    others = [name for name, method in METHODS.items() if method is not Retrain and name not in TAKEN]
    todo = [(name, size) for names, sizes in ((TAKEN, SIZES), (others, OF_OTHERS)) for name in names for size in sizes]
    todo += [(name, "queue") for name in IN_A_ROW]
    for name, size in todo:
        if str(size) in found.setdefault(name, {}):
            continue
        row = requests.in_a_row(name) if size == "queue" else requests.alone(name, size)
        row = found[name][str(size)] = {key: round(value, 4) for key, value in row.items()}
        write_whole(kept, json.dumps(found, indent=1) + "\n")
        sys.stdout.write(f"{name}, {size}: {row}\n")
        sys.stdout.flush()
    write_csv(options.output.with_suffix(".csv"), table(found))


def table(found: dict[str, dict[str, dict[str, float]]]) -> list[list[str]]:
    """Heads, and a row a method: a column a size of request, and what a request costs."""
    sizes = [*map(str, SIZES), "queue"]
    rows = []
    for name, by_size in found.items():
        distances = [f"{by_size[s]['distance']:.3f}" if s in by_size else "–" for s in sizes]
        measured = [by_size[size] for size in map(str, SIZES) if "seconds" in by_size.get(size, {})]
        costs = ["–"] * 4
        if measured:
            test, still, seconds = (
                np.mean([row[key] for row in measured]) for key in ("test", "unchanged", "seconds")
            )
            least = min(row["retain"] for row in measured)
            costs = [f"{test:.3f}", f"{least:.3f}", f"{100 * still:.0f} %", f"{seconds:.1f}"]
        elif "test" in by_size["1"]:
            costs[0] = f"{by_size['1']['test']:.3f}"
        rows.append([name, *distances, *costs])
    heads = [f"{size} picture{'s' * (size > 1)}" for size in SIZES]
    return [["Model", *heads, "50 × 3 in a row", "Test acc.", "Least retain acc.", "Changed nothing", "CPU s"], *rows]


if __name__ == "__main__":
    main()
