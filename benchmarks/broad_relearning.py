"""How fast forgotten samples come back: the methods of `broad_comparison.py`, trained on by the retain set alone.

    python benchmarks/broad_relearning.py broad --cifar10 path/or/id --output docs/broad_relearning

Each method's chosen configuration is run again (10 % of each class forgotten), and the model then goes on training on
retained samples only, as anybody may who gets it. A model that has forgotten stays where the retrained model stays;
one that hides what it knows has its forget accuracy back after a few rounds. Calibration on test data is measured too.
Writes `.json`, `.md` and `.png`; broken off, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from broad_comparison import DATA, MODELS, SEEDS, Cell, configurations
from broad_report import METHODS, OWN, choose, write_json
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from hf_lotus import UnlearningResult, UnlearningTrainer
from hf_lotus.evaluation.results import ORIGINAL, RETRAIN
from hf_lotus.utils.text import markdown_table

ROUNDS, RATE, BATCH, BINS = 10, 0.01, 64, 15
SHOWN = (0, 1, 3, 10)  # rounds, in the table
Tensors = dict[str, tuple[Tensor, Tensor]]
Found = Mapping[str, Mapping[str, object]]  # method → its figures


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
    """Every method's chosen model of a cell, made again.

    Raises:
        RuntimeError: if one is not the model that the results are of.
    """
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
    methods = {}
    for name, (row, model) in found.items():
        curve = relearn(model, tensors, cell.seed)
        if abs(curve[0] - result[row].forget_accuracy) > 1e-6:
            raise RuntimeError(
                f"{cell.name}: {row} was made again with a forget accuracy of {curve[0]}, and has "
                f"{result[row].forget_accuracy} in the results. Were they made on another machine? Run the cell again."
            )
        measured = {"forget_accuracy": curve, **calibration(model, *tensors["test"])}
        methods[name] = {"configuration": row, **measured}
    return {"cell": [cell.data, cell.model, cell.forget, cell.seed], "methods": methods}


def by_model(done: Sequence[Mapping[str, object]]) -> dict[str, list[Found]]:
    """Data set and model → what was measured, seed by seed."""
    groups = defaultdict(list)
    for entry in done:
        groups[" · ".join(entry["cell"][:2])].append(entry["methods"])
    return groups


def mean_curve(seeds: Sequence[Found], name: str) -> list[float]:
    """Forget accuracy by round."""
    return [mean(values) for values in zip(*(seed[name]["forget_accuracy"] for seed in seeds), strict=True)]


def rounds_to_halfway(seeds: Sequence[Found], name: str) -> str:
    """Until half of what retraining takes away is back; of the mean curve, against the retrained model's before."""
    curve = mean_curve(seeds, name)
    half = (mean_curve(seeds, ORIGINAL)[0] + mean_curve(seeds, RETRAIN)[0]) / 2
    return next((str(number) for number, value in enumerate(curve) if value >= half), f"over {ROUNDS}")


def table(seeds: Sequence[Found]) -> str:
    """One row a method: means over seeds."""
    rows = []
    for name in METHODS:
        curve = mean_curve(seeds, name)
        calibrated = (f"{mean(seed[name][metric] for seed in seeds):.3f}" for metric in ("nll", "ece"))
        rows.append([name, *(f"{curve[n]:.3f}" for n in SHOWN), rounds_to_halfway(seeds, name), *calibrated])
    heads = [f"After {n}" if n else "Forget acc." for n in SHOWN]
    return markdown_table(["Method", *heads, "Rounds to halfway", "Test NLL", "Test ECE"], rows)


def draw(groups: Mapping[str, Sequence[Found]], path: Path) -> None:
    """Forget accuracy by round of relearning, a panel a data set and model."""
    colors = dict(zip((RETRAIN, OWN, "lotus", "scrub_r", "salun", "finetune", "neggrad_plus", ORIGINAL), (
        "#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#999999"), strict=True,
    ))  # fmt: skip
    markers = dict(zip(colors, "sDo^vPX.", strict=True))
    figure = Figure(figsize=(10, 7), layout="constrained")
    for panel, (title, seeds) in zip(figure.subplots(2, 2).flat, groups.items(), strict=False):
        for name, color in colors.items():
            panel.plot(mean_curve(seeds, name), color=color, marker=markers[name], markersize=4, label=name)
        panel.set_title(title)
        panel.set_xlabel("Rounds of training on the retain set")
        panel.set_ylabel("Forget accuracy")
        panel.grid(alpha=0.25)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)


def write(done: Sequence[Mapping[str, object]], output: Path) -> None:
    """Figures as JSON, tables as Markdown."""
    write_json(output.with_suffix(".json"), done)
    groups = by_model(done)
    tables = "\n\n".join(f"## {name}, means of {len(seeds)}\n\n{table(seeds)}" for name, seeds in groups.items())
    about = (
        "# Relearning and calibration\n\n"
        f"Forget accuracy while only the retain set is trained on (SGD, rate {RATE}, momentum 0.9, batches of {BATCH})"
        ", and rounds until half of what retraining takes away is back. NLL and ECE: log loss and expected "
        "calibration error on test data. The figures of every seed are in "
        "[broad_relearning.json](broad_relearning.json)."
    )
    output.with_suffix(".md").write_text(f"{about}\n\n{tables}\n", encoding="utf-8")
    draw(groups, output.with_suffix(".png"))


def main() -> None:
    """Measure the cells of 10 % that have results, and write them as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output_dir of broad_comparison.py")
    parser.add_argument("--cifar10", default="uoft-cs/cifar10", help="the data set, by id or folder")
    parser.add_argument("--output", type=Path, default=Path("broad_relearning"), help="path without suffix")
    options = parser.parse_args()
    options.output_dir = str(options.folder)
    kept = options.output.with_suffix(".json")
    done = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
    kept.parent.mkdir(parents=True, exist_ok=True)
    for data, model, seed in product(DATA, MODELS, SEEDS):
        cell = Cell(data, model, "10 %", seed, options)
        known = any(entry["cell"] == [data, model, "10 %", seed] for entry in done)
        if known or not (options.folder / cell.name / "results.json").exists():
            continue
        done.append(measure(cell, options.folder))
        write(done, options.output)
        curves = {name: found["forget_accuracy"] for name, found in done[-1]["methods"].items()}
        told = ", ".join(f"{name} {curve[0]:.3f} → {curve[-1]:.3f}" for name, curve in curves.items())
        sys.stdout.write(f"{cell.name}: {told}\n")
        sys.stdout.flush()
    if not done:
        parser.error(f"no results of 10 % in {options.folder}: run broad_comparison.py first")
    write(done, options.output)


if __name__ == "__main__":
    main()
