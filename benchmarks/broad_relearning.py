"""How fast forgotten samples come back: the methods of `broad_comparison.py`, trained on by the retain set alone.

    python benchmarks/broad_relearning.py broad --cifar10 path/or/id --output docs/broad_relearning.json

Each method's chosen configuration is run again (10 % of each class forgotten), and the model then goes on training on
retained samples only, as anybody may who gets it. A model that has forgotten stays where the retrained model stays;
one that hides what it knows has its forget accuracy back after a few rounds. Calibration on test data is measured too.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from broad_comparison import DATA, MODELS, SEEDS, Cell, configurations
from broad_report import choose
from torch import Tensor, nn

from hf_lotus import UnlearningResult, UnlearningTrainer
from hf_lotus.results import ORIGINAL, RETRAIN

ROUNDS, RATE, BATCH, BINS = 10, 0.01, 64, 15
Tensors = dict[str, tuple[Tensor, Tensor]]


@torch.inference_mode()
def logits(model: nn.Module, pixels: Tensor) -> Tensor:
    """In eval mode, shape (samples, classes)."""
    model.eval()
    return torch.cat([model(pixel_values=batch).logits for batch in pixels.split(256)])


def accuracy(model: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    """Share of samples classified correctly."""
    return (logits(model, pixels).argmax(1) == labels).float().mean().item()


def calibration(model: nn.Module, pixels: Tensor, labels: Tensor) -> dict[str, float]:
    """Negative log-likelihood, and the expected calibration error over bins of equal width (Guo et al., 2017)."""
    found = logits(model, pixels)
    sure, predicted = found.softmax(1).max(1)
    bins = (sure * BINS).long().clamp(max=BINS - 1)
    error = 0.0
    for number in bins.unique():
        inside = bins == number
        right = (predicted == labels)[inside].float().mean()
        error += (inside.float().mean() * (right - sure[inside].mean()).abs()).item()
    return {"nll": F.cross_entropy(found, labels).item(), "ece": error}


def relearn(model: nn.Module, tensors: Tensors, seed: int) -> list[float]:
    """Forget accuracy before, and after each round of finetuning on the retain set alone."""
    model, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9)
    pixels, labels = tensors["retain"]
    curve = [accuracy(model, *tensors["forget"])]
    for _ in range(ROUNDS):
        model.train()
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH):
            F.cross_entropy(model(pixel_values=pixels[rows]).logits, labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
        curve.append(accuracy(model, *tensors["forget"]))
    return curve


def measure(cell: Cell, folder: Path) -> dict[str, object]:
    """Every method's chosen model of a cell, made again."""
    result = UnlearningResult.from_json(folder / cell.name / "results.json")
    chosen = {name: model.name for name, model in choose(result).items()}
    settings = cell.settings()
    contenders, found, tensors = configurations(), {}, None
    for name, row in chosen.items():
        if row == ORIGINAL:
            model = copy.deepcopy(settings["model"])
        elif row == RETRAIN:
            model = settings["retrain_model"]
        else:
            with tempfile.TemporaryDirectory() as place:
                arguments = cell.arguments(place).changed(**contenders[row].arguments, save_strategy="no")
                trainer = UnlearningTrainer(
                    **{**settings, "model": copy.deepcopy(settings["model"]), "args": arguments},
                    method=contenders[row].method,
                )
                trainer.train()
            model = trainer.model
            if tensors is None:
                batches = {n: s.finish(s.__getitems__(range(len(s)))) for n, s in trainer.splits.items()}
                tensors = {n: (batch["pixel_values"], batch["labels"]) for n, batch in batches.items()}
        found[name] = row, model
    return {
        "cell": [cell.data, cell.model, cell.forget, cell.seed],
        "methods": {
            name: {
                "configuration": row,
                "forget_accuracy": relearn(model, tensors, cell.seed),
                **calibration(model, *tensors["test"]),
            }
            for name, (row, model) in found.items()
        },
    }


def main() -> None:
    """Measure the cells of 10 % that have results, and write them as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output_dir of broad_comparison.py")
    parser.add_argument("--cifar10", default="uoft-cs/cifar10", help="the data set, by id or folder")
    parser.add_argument("--output", type=Path, default=Path("broad_relearning.json"))
    options = parser.parse_args()
    options.output_dir = str(options.folder)
    done = json.loads(options.output.read_text()) if options.output.exists() else []
    for data, model, seed in product(DATA, MODELS, SEEDS):
        cell = Cell(data, model, "10 %", seed, options)
        known = any(entry["cell"] == [data, model, "10 %", seed] for entry in done)
        if known or not (options.folder / cell.name / "results.json").exists():
            continue
        done.append(measure(cell, options.folder))
        options.output.write_text(json.dumps(done) + "\n", encoding="utf-8")
        curves = {name: found["forget_accuracy"] for name, found in done[-1]["methods"].items()}
        told = ", ".join(f"{name} {curve[0]:.3f} → {curve[-1]:.3f}" for name, curve in curves.items())
        sys.stdout.write(f"{cell.name}: {told}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
