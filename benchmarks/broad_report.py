"""The tables and the figure of `broad_comparison.py`: what each method reaches when it is tuned without retraining.

    python benchmarks/broad_report.py broad --output docs/broad_comparison

writes `.md`, `.json` and `.png`. Of every method, cell and seed the configuration with the least retrain-free gap
counts; Avg Gap, JSD and everything else is looked at afterwards.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from hf_lotus import UnlearningResult
from hf_lotus.results import ORIGINAL, RETRAIN, ModelResult, markdown_table

# Row of the tables → the configurations that it is chosen from.
METHODS = {
    "original": (ORIGINAL,),
    "lotus, α = 2": ("lotus-0", "lotus-1"),
    "lotus": ("lotus-0", "lotus-1", "lotus-2", "lotus-3"),
    **{
        name: tuple(f"{name}-{number}" for number in range(4))
        for name in ("finetune", "neggrad_plus", "scrub_r", "salun", "margin_matching")
    },
    "retrain": (RETRAIN,),
}
# Metric → heading and decimals; the mean over cells is of its distance from retraining's where it has no best value.
SHOWN = {
    "avg_gap": ("Avg Gap", 4), "jsd": ("JSD", 4), "rf_jsd_z": ("RF-JSD z", 1), "retrain_free_gap": ("RF gap", 4),
    "forget_accuracy": ("Forget", 3), "retain_accuracy": ("Retain", 3), "test_accuracy": ("Test", 3),
    "mia_member_rate": ("MIA", 3), "seconds": ("Seconds", 1),
}  # fmt: skip
FROM_RETRAIN = ("forget_accuracy", "retain_accuracy", "test_accuracy", "mia_member_rate")
PAIRS = {
    "Retrain-free gap and Avg Gap": ("retrain_free_gap", "avg_gap"),
    "RF-JSD z and JSD": ("rf_jsd_z", "jsd"),
    "RF-JSD and JSD": ("rf_jsd", "jsd"),
    "Retrain-free gap and JSD": ("retrain_free_gap", "jsd"),
    "RF-JSD z and Avg Gap": ("rf_jsd_z", "avg_gap"),
}
Cell = tuple[str, str, str]


def read(folder: Path) -> dict[Cell, list[UnlearningResult]]:
    """(data, model, forget set) → the results of its seeds."""
    found = defaultdict(list)
    for path in sorted(folder.glob("*/results.json")):
        result = UnlearningResult.from_json(path)
        *cell, _ = result.provenance["cell"]
        found[tuple(cell)].append(result)
    return found


def choose(result: UnlearningResult) -> dict[str, ModelResult]:
    """The configuration of each method with the least retrain-free gap."""
    return {
        name: min((result[row] for row in rows), key=lambda model: model.retrain_free_gap)
        for name, rows in METHODS.items()
    }


def figures(values: Sequence[float], decimals: int) -> str:
    """Mean ± deviation."""
    spread = f" ± {stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{mean(values):.{decimals}f}{spread}"


def cell_table(chosen: Mapping[Cell, Sequence[Mapping[str, ModelResult]]], metric: str, decimals: int) -> str:
    """One row a cell, one column a method; the best in bold, the second best in italics."""
    names = [name for name in METHODS if name != RETRAIN]
    rows = []
    for cell, seeds in chosen.items():
        values = {name: [getattr(seed[name], metric) for seed in seeds] for name in names}
        order = sorted(names, key=lambda name: mean(values[name]))
        marks = {order[0]: "**", order[1]: "*"}
        rows.append([" · ".join(cell), *(
            f"{marks.get(name, '')}{figures(values[name], decimals)}{marks.get(name, '')}" for name in names
        )])  # fmt: skip
    return markdown_table(["Cell", *names], rows)


def overall_table(chosen: Mapping[Cell, Sequence[Mapping[str, ModelResult]]]) -> str:
    """One row a method: means over all cells and seeds, and how often it was the nearest to retraining."""
    runs = [seed for seeds in chosen.values() for seed in seeds]
    competing = [name for name in METHODS if name not in (RETRAIN, "lotus, α = 2")]
    wins = dict.fromkeys(METHODS, 0)
    for seeds in chosen.values():
        wins[min(competing, key=lambda name: mean(seed[name].avg_gap for seed in seeds))] += 1
    rows = []
    for name in METHODS:
        cells = []
        for metric, (_, decimals) in SHOWN.items():
            values = [getattr(run[name], metric) for run in runs]
            if None in values:
                cells.append("–")
                continue
            if metric in FROM_RETRAIN:
                values = [abs(value - getattr(run[RETRAIN], metric)) for value, run in zip(values, runs, strict=True)]
            cells.append(f"{mean(values):.{decimals}f}")
        rows.append([name, *cells, "–" if name in (RETRAIN, "lotus, α = 2") else f"{wins[name]} of {len(chosen)}"])
    heads = [f"{head} off by" if metric in FROM_RETRAIN else head for metric, (head, _) in SHOWN.items()]
    return markdown_table(["Method", *heads, "Least Avg Gap"], rows)


def correlations(chosen: Mapping[Cell, Sequence[Mapping[str, ModelResult]]]) -> dict[str, list[float]]:
    """Spearman's correlation over the methods, the no-op included, in each cell and seed."""
    found = {}
    for name, (free, gold) in PAIRS.items():
        ranks = []
        for run in (seed for seeds in chosen.values() for seed in seeds):
            models = [run[method] for method in METHODS if method not in (RETRAIN, "lotus, α = 2")]
            pair = [[getattr(model, metric) for model in models] for metric in (free, gold)]
            ranks.append(float(spearmanr(*pair).statistic))
        found[name] = [rank for rank in ranks if np.isfinite(rank)]
    return found


def draw(chosen: Mapping[Cell, Sequence[Mapping[str, ModelResult]]], path: Path) -> None:
    """Avg Gap, and how far JSD lies above the least of the cell, of each method: a point a cell, a bar their mean."""
    names = [name for name in METHODS if name != RETRAIN][::-1]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for panel, (metric, title) in zip(
        figure.subplots(1, 2, sharey=True), {"avg_gap": "Avg Gap", "jsd": "JSD (nats)"}.items(), strict=True
    ):
        for place, name in enumerate(names):
            values = [mean(getattr(seed[name], metric) for seed in seeds) for seeds in chosen.values()]
            own = name == "margin_matching"
            color, marker = ("#D55E00", "D") if own else ("#0072B2", "o")
            panel.scatter(values, [place] * len(values), color=color, marker=marker, alpha=0.55, s=28)
            panel.plot([mean(values)] * 2, [place - 0.35, place + 0.35], color="#000000", linewidth=2)
        panel.set_yticks(range(len(names)), names)
        panel.set_xscale("log")
        panel.set_xlabel(f"{title}, log scale: nearer to retraining is further left")
        panel.grid(alpha=0.25, axis="x")
    figure.suptitle("A point is a data set, model and forget set, the mean of its seeds; the bar is the mean of all")
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Read, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output_dir of broad_comparison.py")
    parser.add_argument("--output", type=Path, default=Path("broad_comparison"), help="path without suffix")
    options = parser.parse_args()
    results = read(options.folder)
    chosen = {cell: [choose(result) for result in seeds] for cell, seeds in results.items()}
    ranks = correlations(chosen)
    seeds = sorted({len(found) for found in chosen.values()})
    parts = [
        f"{len(chosen)} cells (data set · model · forget set), {' to '.join(map(str, seeds))} seeds each, every "
        "hyper-parameter chosen by the least retrain-free gap among four configurations of each method.",
        "## Over all cells\n\nAccuracies and member rate: mean distance from the retrained model's.\n\n"
        + overall_table(chosen),
        "## Avg Gap by cell\n\n" + cell_table(chosen, "avg_gap", 4),
        "## JSD by cell\n\n" + cell_table(chosen, "jsd", 4),
        "## Forget accuracy by cell\n\n" + forget_table(chosen),
        "## How well retrain-free figures rank the methods\n\nSpearman's correlation over the methods and the "
        "original, mean ± deviation over cells and seeds.\n\n"
        + markdown_table(["Pair", "Spearman"], [[name, figures(values, 2)] for name, values in ranks.items()]),
    ]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    document = [
        {"cell": list(cell), "seed": result.provenance["cell"][3], "chosen": {n: m.name for n, m in run.items()},
         "models": [asdict(model) for model in result.models], "controls": asdict(result.controls)}
        for cell in chosen for result, run in zip(results[cell], chosen[cell], strict=True)
    ]  # fmt: skip
    options.output.with_suffix(".json").write_text(json.dumps(document) + "\n", encoding="utf-8")
    draw(chosen, options.output.with_suffix(".png"))


def forget_table(chosen: Mapping[Cell, Sequence[Mapping[str, ModelResult]]]) -> str:
    """One row a cell: what is left of the forget set, retraining's in the last column."""
    rows = [
        [" · ".join(cell), *(figures([seed[name].forget_accuracy for seed in seeds], 3) for name in METHODS)]
        for cell, seeds in chosen.items()
    ]
    return markdown_table(["Cell", *METHODS], rows)


if __name__ == "__main__":
    main()
