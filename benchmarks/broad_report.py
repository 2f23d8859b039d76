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
from itertools import chain
from pathlib import Path
from statistics import mean, median

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import bootstrap, rankdata, spearmanr

from hf_lotus import UnlearningResult
from hf_lotus.evaluation.results import ORIGINAL, REFERENCE_ROW, RETRAIN, ModelResult
from hf_lotus.reporting.tables import figure_text
from hf_lotus.utils.text import markdown_table

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
OWN = "margin_matching"
COMPETING = [name for name in METHODS if name not in (RETRAIN, "lotus, α = 2")]  # the other LoTUS row holds it already
# Metric → heading and decimals; the mean over cells is of its distance from retraining's where it has no best value.
SHOWN = {
    "avg_gap": ("Avg Gap", 4), "jsd": ("JSD", 4), "rf_jsd": ("RF-JSD", 4), "rf_jsd_z": ("RF-JSD z", 1),
    "retrain_free_gap": ("RF gap", 4),
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
# Metric → what it would read where nothing is left to forget, from the controls.
REFERENCES = {"jsd": "jsd_floor", "rf_jsd": "rf_jsd_null_mean"}
Cell = tuple[str, str, str]
Chosen = Mapping[Cell, Sequence[Mapping[str, ModelResult]]]
Results = Mapping[Cell, Sequence[UnlearningResult]]


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


def cell_table(chosen: Chosen, metric: str, decimals: int) -> str:
    """One row a cell, one column a method, means over seeds; the best in bold, the second best in italics."""
    names = [name for name in METHODS if name != RETRAIN]
    rows = []
    for cell, seeds in chosen.items():
        values = {name: mean(getattr(seed[name], metric) for seed in seeds) for name in names}
        order = sorted(names, key=values.get)
        marks = {order[0]: "**", order[1]: "*"}
        rows.append([" · ".join(cell), *(
            f"{marks.get(name, '')}{values[name]:.{decimals}f}{marks.get(name, '')}" for name in names
        )])  # fmt: skip
    return markdown_table(["Cell", *names], rows)


def plain_table(chosen: Chosen, metric: str, decimals: int) -> str:
    """One row a cell, one column a method, retraining too, means over seeds; nothing marked: less is not better."""
    rows = [
        [
            " · ".join(cell),
            *(f"{mean(getattr(seed[name], metric) for seed in seeds):.{decimals}f}" for name in METHODS),
        ]
        for cell, seeds in chosen.items()
    ]
    return markdown_table(["Cell", *METHODS], rows)


def overall_table(chosen: Chosen, results: Results) -> str:
    """One row a method: means over all cells and seeds; how it ranks; how often it is nearer than margin matching."""
    runs = list(chain(*chosen.values()))
    ranks = np.mean([rankdata([_gap(run[name]) for name in COMPETING]) for run in runs], axis=0)
    best = [
        min(COMPETING, key=lambda name, seeds=seeds: mean(seed[name].avg_gap for seed in seeds))
        for seeds in chosen.values()
    ]
    rows = []
    for row in metric_rows(chosen, results, ("avg_gap", "jsd")):
        name, placed = row[0], ["–"] * 3
        if name in COMPETING:
            nearer = sum(_gap(run[name]) < _gap(run[OWN]) for run in runs)
            placed = [f"{ranks[COMPETING.index(name)]:.1f}", f"{best.count(name)} of {len(chosen)}"]
            placed += ["–" if name == OWN else f"{nearer} of {len(runs)}"]
        rows.append([*row, *placed])
    return markdown_table(["Method", "Avg Gap", "JSD", "Mean rank", "Least Avg Gap", f"Nearer than {OWN}"], rows)


def metric_rows(chosen: Chosen, results: Results, metrics: Sequence[str]) -> list[list[str]]:
    """A row a method, its name and its mean of each metric over all cells and seeds; then what unseen data reads."""
    runs = list(chain(*chosen.values()))
    rows = [[name, *(_overall(runs, name, metric, SHOWN[metric][1]) for metric in metrics)] for name in METHODS]
    controls = [result.controls for result in chain(*results.values())]
    reference = {metric: mean(getattr(c, field) for c in controls) for metric, field in REFERENCES.items()}
    rows.append([REFERENCE_ROW, *(
        f"{reference[metric]:.{SHOWN[metric][1]}f}" if metric in reference else "–" for metric in metrics
    )])  # fmt: skip
    return rows


def metric_table(chosen: Chosen, results: Results, metrics: Sequence[str]) -> str:
    """Those rows as a table."""
    heads = [f"{SHOWN[metric][0]} off by" if metric in FROM_RETRAIN else SHOWN[metric][0] for metric in metrics]
    return markdown_table(["Method", *heads], metric_rows(chosen, results, metrics))


def _gap(model: ModelResult) -> float:
    """Avg Gap, so rounded that equal ones are equal whatever order they were summed in."""
    return round(model.avg_gap, 6)


def _overall(runs: Sequence[Mapping[str, ModelResult]], name: str, metric: str, decimals: int) -> str:
    values = [getattr(run[name], metric) for run in runs]
    if None in values:
        return "–"
    if metric in FROM_RETRAIN:
        values = [abs(value - getattr(run[RETRAIN], metric)) for value, run in zip(values, runs, strict=True)]
    middle = median if metric == "seconds" else mean  # a pause of the machine is no cost of the method
    return f"{middle(values):.{decimals}f}"


def groups(chosen: Chosen) -> dict[str, Chosen]:
    """The cells of each data set and model, then those of each kind of forget set."""
    names = [" · ".join(cell[:2]) for cell in chosen] + [cell[2] for cell in chosen]
    return {
        name: {cell: runs for cell, runs in chosen.items() if name in (" · ".join(cell[:2]), cell[2])}
        for name in dict.fromkeys(names)
    }


def group_table(chosen: Chosen) -> str:
    """Mean Avg Gap of each method, a row a group of cells."""
    names = [name for name in METHODS if name != RETRAIN]
    rows = []
    for group, cells in groups(chosen).items():
        runs = list(chain(*cells.values()))
        rows.append([group, *(f"{mean(run[name].avg_gap for run in runs):.4f}" for name in names)])
    return markdown_table(["Cells", *names], rows)


def choice_table(chosen: Chosen, results: Results) -> str:
    """What choosing without a retrained model costs, and how far each method is from margin matching."""
    runs, all_models = list(chain(*chosen.values())), list(chain(*results.values()))
    rows = []
    for name in [name for name in METHODS if len(METHODS[name]) == 4]:
        best = [min(result[row].avg_gap for row in METHODS[name]) for result in all_models]
        row = [name, f"{mean(run[name].avg_gap for run in runs):.4f}", f"{mean(best):.4f}"]
        differences = [run[name].avg_gap - run[OWN].avg_gap for run in runs]
        if name != OWN and len(differences) > 1:
            rng = np.random.default_rng(0)
            interval = bootstrap([differences], np.mean, rng=rng, method="percentile").confidence_interval
            row += [f"{mean(differences):.4f}", f"{interval.low:.4f} to {interval.high:.4f}"]
        rows.append(row + ["–"] * (5 - len(row)))
    return markdown_table(["Method", "Chosen", "Best of the four", f"Chosen less {OWN}'s", "95 % interval"], rows)


def correlations(parts: Mapping[str, Chosen]) -> list[list[str]]:
    """Spearman's correlation over the methods, the no-op included: a row a pair, a column a part of the cells."""
    return [
        [name, *(figure_text(_ranked_alike(part, *pair), 2) for part in parts.values())]
        for name, pair in PAIRS.items()
    ]


def _ranked_alike(chosen: Chosen, free: str, gold: str) -> list[float]:
    """Of each cell and seed."""
    ranks = []
    for run in chain(*chosen.values()):
        pair = [[getattr(run[name], metric) for name in COMPETING] for metric in (free, gold)]
        ranks.append(float(spearmanr(*pair).statistic))
    return [rank for rank in ranks if np.isfinite(rank)]


def draw(chosen: Chosen, path: Path) -> None:
    """Avg Gap and JSD of each method: a point a cell, a bar their mean."""
    names = [name for name in METHODS if name != RETRAIN][::-1]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for panel, (metric, title) in zip(
        figure.subplots(1, 2, sharey=True), {"avg_gap": "Avg Gap", "jsd": "JSD (nats)"}.items(), strict=True
    ):
        for place, name in enumerate(names):
            values = [mean(getattr(seed[name], metric) for seed in seeds) for seeds in chosen.values()]
            own = name == OWN
            color, marker = ("#D55E00", "D") if own else ("#0072B2", "o")
            panel.scatter(values, [place] * len(values), color=color, marker=marker, alpha=0.55, s=28)
            panel.plot([mean(values)] * 2, [place - 0.35, place + 0.35], color="#000000", linewidth=2)
        panel.set_yticks(range(len(names)), names)
        panel.set_xscale("log")
        panel.set_xlabel(f"{title}, log scale: nearer to retraining is further left")
        panel.grid(alpha=0.25, axis="x")
    figure.suptitle("A point is a data set, model and forget set, the mean of its seeds; the bar is the mean of all")
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)


def write_json(path: Path, entries: Sequence[Mapping[str, object]]) -> None:
    """Entries as a JSON list, one a line, to six decimals."""
    rounded = json.loads(json.dumps(entries), parse_float=lambda text: round(float(text), 6))
    lines = ",\n".join(map(json.dumps, rounded))
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def document(result: UnlearningResult, chosen: Mapping[str, ModelResult]) -> dict[str, object]:
    """What the JSON holds of a cell and seed: the chosen models whole, of the others what they were judged by."""
    *cell, seed = result.provenance["cell"]
    gaps = {model.name: [model.retrain_free_gap, model.avg_gap] for model in result.models}
    return {
        "cell": cell,
        "seed": seed,
        "models": {name: {"configuration": model.name, **model.metrics()} for name, model in chosen.items()},
        "controls": asdict(result.controls),
        "retrain_free_gap_and_avg_gap": gaps,
    }


def sections(chosen: Chosen, results: Results) -> list[str]:
    """The parts of the Markdown file."""
    seeds = " or ".join(map(str, sorted({len(found) for found in chosen.values()})))
    parts = groups(chosen)
    by_model = [name for name in parts if " · " in name]
    by_forget_set = [name for name in parts if name not in by_model]
    return [
        "# The broad comparison",
        f"{len(chosen)} cells (data set · model · forget set), {seeds} seeds each, every hyper-parameter chosen by "
        "the least retrain-free gap among four configurations of each method. The figures of every seed are in "
        "[broad_comparison.json](broad_comparison.json).",
        "## Over all cells",
        f"Rank: by Avg Gap among the {len(COMPETING)} that compete; beside it, in how many cells a method is the "
        f"nearest to retraining, and in how many runs nearer than {OWN}. The reference is JSD's floor: two trainings "
        "differ by that much on data that neither has seen.",
        overall_table(chosen, results),
        "How far accuracies and member rate are from the retrained model's, on average; seconds: median.",
        metric_table(chosen, results, [*FROM_RETRAIN, "seconds"]),
        "What is measured without a retrained model. RF gap: the retrain-free gap. The reference is RF-JSD's null.",
        metric_table(chosen, results, ["rf_jsd", "rf_jsd_z", "retrain_free_gap"]),
        "## Avg Gap by data set and model, and by forget set",
        group_table(chosen),
        "## What the choice costs",
        "Avg Gap of what the retrain-free gap chose, and of the best of the four, which takes a retrained model to "
        f"know. Then each method against {OWN}: the mean difference and its interval, by bootstrap over the runs.",
        choice_table(chosen, results),
        "## Avg Gap by cell",
        "Here and below, means over the seeds.",
        cell_table(chosen, "avg_gap", 4),
        "## JSD by cell",
        cell_table(chosen, "jsd", 4),
        "## RF-JSD z by cell",
        "Deviations from the null.",
        plain_table(chosen, "rf_jsd_z", 1),
        "## Forget accuracy by cell",
        plain_table(chosen, "forget_accuracy", 3),
        "## MIA member rate by cell",
        plain_table(chosen, "mia_member_rate", 3),
        "## How well retrain-free figures rank the methods",
        "Spearman's correlation over the methods and the original, mean ± deviation over cells and seeds.",
        markdown_table(["Pair", "all", *by_model], correlations({"all": chosen, **{n: parts[n] for n in by_model}})),
        markdown_table(["Pair", *by_forget_set], correlations({name: parts[name] for name in by_forget_set})),
    ]


def main() -> None:
    """Read, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output_dir of broad_comparison.py")
    parser.add_argument("--output", type=Path, default=Path("broad_comparison"), help="path without suffix")
    options = parser.parse_args()
    results = read(options.folder)
    if not results:
        parser.error(f"no results.json in the folders of {options.folder}: run broad_comparison.py first")
    chosen = {cell: [choose(result) for result in seeds] for cell, seeds in results.items()}
    pairs = zip(chain(*results.values()), chain(*chosen.values()), strict=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(sections(chosen, results))
    options.output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    write_json(options.output.with_suffix(".json"), [document(result, run) for result, run in pairs])
    draw(chosen, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
