"""The tables of `floor_comparison.py`: how near each method comes, in floors, whether it lasts, and what it costs.

    python benchmarks/floor_report.py broad --output docs/floor_comparison

writes `.md`, `.json` and `.png`; `--methods all` takes only the cells in which every method was run. Of every method,
cell and seed the configuration counts that `hf-lotus compare`'s rule chooses. Gaps are to the mean of the retrained
models. The floor is what one more retrained model's gap would be. The JSON file has every row of every configuration:
given in place of the folder, it makes the same page.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from textwrap import fill
from typing import Any

import numpy as np
from floor_comparison import RETRAINED
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from hf_lotus.evaluation.choice import retrain_free_score
from hf_lotus.evaluation.results import ModelResult
from hf_lotus.utils.text import markdown_table

GAPS = ("forget_accuracy", "retain_accuracy", "test_accuracy", "mia_member_rate")
NEEDED = ("forget_accuracy", "retain_accuracy", "retrain_free_gap", "relearning_excess")
HEADS = (
    "Avg Gap", "In floors", "Worst, in floors", "Relearning", "Worst relearning", "Test − retrain", "JSD / floor",
    "Visits / LoTUS's",
)  # fmt: skip
ORIGINAL, OWN, LASTING, LOTUS = "original", "margin_matching", "warm_restart", "lotus"
# A cell is finished with these: the last ones that are run.
WANTED = (ORIGINAL, LASTING, LOTUS, OWN, "salun", "finetune, annealed")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """One cell and seed: the chosen row of every method, the original's, and the retrained models'.

    Attributes:
        cell: data set, model, forget set.
        seed: of the splits and of all training.
        rows: method → its chosen row.
        retrained: rows of the models trained without the forget set.
    """

    cell: tuple[str, ...]
    seed: int
    rows: Mapping[str, Row]
    retrained: Sequence[Row]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Run:
        """From a file of `floor_comparison.py`."""
        rows, by_method = document["rows"], {}
        for method, names in groupby(sorted(name for name in rows if "/" in name), lambda name: name.split("/")[0]):
            by_method[method] = min((rows[name] for name in names), key=score)
        *cell, seed = document["cell"]
        retrained = [rows[name] for name in RETRAINED]
        return cls(tuple(cell), seed, {ORIGINAL: rows[ORIGINAL], **by_method}, retrained)

    def differences(self, method: str) -> dict[str, float]:
        """Metric → the method's value less the retrained models' mean."""
        return {name: self.rows[method][name] - mean(row[name] for row in self.retrained) for name in GAPS}

    def gap(self, method: str) -> float:
        """Avg Gap to the mean of the retrained models."""
        return mean(map(abs, self.differences(method).values()))

    @property
    def floor(self) -> float:
        """What one more retrained model's Avg Gap would be.

        Each one's gap to the mean of the n − 1 others, whose variance is n/(n − 1) trainings', scaled to a gap to the
        mean of n, of which it is (n + 1)/n.
        """
        n, own = len(self.retrained), []
        for place, row in enumerate(self.retrained):
            others = [other for number, other in enumerate(self.retrained) if number != place]
            own.append(mean(abs(row[name] - mean(other[name] for other in others)) for name in GAPS))
        return mean(own) * float(np.sqrt((n + 1) / n / (n / (n - 1))))

    @property
    def jsd_floor(self) -> float:
        """What two retrained models differ by on the forget set."""
        return mean(row["jsd"] for row in self.retrained[1:])


def score(row: Row) -> float:
    """What is chosen by, without a retrained model; less is better."""
    found = retrain_free_score(ModelResult("row", values={name: row[name] for name in NEEDED}))
    assert found is not None
    return found


def read(source: Path, with_all: bool = False) -> list[dict[str, Any]]:
    """The finished cells of a folder, or of a file that was made of one; figures to five digits."""
    if source.is_dir():
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(source.glob("*-seed*.json"))]
    else:
        found = json.loads(source.read_text(encoding="utf-8"))
    kept = []
    for document in found:
        rows = {name: _rounded(row) for name, row in document["rows"].items()}
        configurations = Counter(name.split("/")[0] for name in rows)
        names = configurations.keys()
        # The same of each method, or it was broken off between two of the last.
        numbers = {configurations[name] for name in names - {*RETRAINED, ORIGINAL}}
        if names >= {*RETRAINED, *WANTED} and len(numbers) == 1:
            kept.append((names, {"cell": document["cell"], "rows": rows}))
    most = max((len(names) for names, _ in kept), default=0)
    # Some models refuse a method.
    return [document for names, document in kept if not with_all or len(names) >= most - 1]


def written(documents: Sequence[Mapping[str, Any]]) -> str:
    """A line for every row, so that a change shows."""
    cells = []
    for document in documents:
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in document["rows"].items())
        cells.append(f'{{"cell": {json.dumps(document["cell"], ensure_ascii=False)}, "rows": {{\n{rows}\n}}}}')
    return "[\n" + ",\n".join(cells) + "\n]\n"


def settings_of(runs: Sequence[Run]) -> list[list[Run]]:
    """The seeds of every cell."""
    return [list(seeds) for _, seeds in groupby(sorted(runs, key=lambda run: run.cell), lambda run: run.cell)]


def in_floors(seeds: Sequence[Run], name: str) -> float:
    """A method's Avg Gap in a setting as a multiple of its floor; both are means over the seeds.

    A floor of three trainings is a rough one: a run's own would decide what its ratio is.
    """
    return mean(run.gap(name) for run in seeds) / mean(run.floor for run in seeds)


def methods_of(runs: Sequence[Run]) -> list[str]:
    """The original and the methods that any run has: some models refuse some."""
    return list(dict.fromkeys(name for run in runs for name in run.rows))


def over_settings(runs: Sequence[Run], name: str, value: Callable[[Run], float]) -> float:
    """The mean, over the settings in which a method took part, of a figure's mean over seeds."""
    mine = [run for run in runs if name in run.rows]
    return mean(mean(map(value, seeds)) for seeds in settings_of(mine))


def overall(runs: Sequence[Run]) -> str:
    """A row a method: means over settings."""
    return markdown_table(["Method", *HEADS], [*(_overall(runs, name) for name in methods_of(runs)), _floor_row(runs)])


def _overall(runs: Sequence[Run], name: str) -> list[str]:
    mine = [run for run in runs if name in run.rows]
    floors = [in_floors(seeds, name) for seeds in settings_of(mine)]
    worst = max(abs(run.rows[name]["relearning_excess"]) for run in mine)
    gap, excess, test, divergence, visits = (
        over_settings(runs, name, value)
        for value in (
            lambda run: run.gap(name),
            lambda run: run.rows[name]["relearning_excess"],
            lambda run: run.differences(name)["test_accuracy"],
            lambda run: run.rows[name]["jsd"] / run.jsd_floor,
            lambda run: run.rows[name]["visits"] / run.rows[LOTUS]["visits"],
        )
    )
    return [
        name, f"{gap:.4f}", f"{mean(floors):.1f}", f"{max(floors):.1f}", f"{excess:+.3f}", f"{worst:.3f}",
        f"{test:+.3f}", f"{divergence:.2f}", f"{visits:.1f}",
    ]  # fmt: skip


def _floor_row(runs: Sequence[Run]) -> list[str]:
    floor = over_settings(runs, ORIGINAL, lambda run: run.floor)
    return ["*floor: retrain again*", f"{floor:.4f}", "1.0", "", "", "", "", "1.00", ""]


def by_cell(runs: Sequence[Run], value: Callable[[Run, str], float], form: str, floor: bool = False) -> str:
    """A table for each data set and model: a row a method, a column a forget set; mean and spread over seeds."""
    tables = []
    for where, found in groupby(settings_of(runs), lambda seeds: seeds[0].cell[:2]):
        settings = list(found)
        names = methods_of([run for seeds in settings for run in seeds])
        rows = [
            [name, *(_mean(form, [value(run, name) for run in seeds if name in run.rows]) for seeds in settings)]
            for name in names
        ]
        if floor:
            rows.append(["*floor*", *(_mean(form, [run.floor for run in seeds]) for seeds in settings)])
        tables.append(markdown_table([" · ".join(where), *(seeds[0].cell[2] for seeds in settings)], rows))
    return "\n\n".join(tables)


def _mean(form: str, values: Sequence[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {form.replace('+', '').format(stdev(values))}" if len(values) > 1 else ""
    return form.format(mean(values)) + spread


def signed(runs: Sequence[Run]) -> str:
    """Where each method is off, with its sign: means over settings."""

    def off(name: str, metric: str) -> float:
        return over_settings(runs, name, lambda run: run.differences(name)[metric])

    rows = [[name, *(f"{off(name, metric):+.3f}" for metric in GAPS)] for name in methods_of(runs)]
    return markdown_table(["Method", "Forget", "Retain", "Test", "MIA member rate"], rows)


# What was aimed at: the method, in words, and by how much a run misses it.
AIMS: Sequence[tuple[str, str, Callable[[Run, Row], float]]] = (
    (OWN, "Avg Gap at most 2.5 floors", lambda run, row: run.gap(OWN) - 2.5 * run.floor),
    (OWN, "at most 1.5 times LoTUS's visits", lambda run, row: row["visits"] / run.rows[LOTUS]["visits"] - 1.5),
    (LASTING, "relearning excess at most 0.03 either way", lambda run, row: abs(row["relearning_excess"]) - 0.03),
    (
        LASTING, "forget accuracy within 0.02 of its own on unseen data",
        lambda run, row: abs(row["forget_accuracy"] - row["own_unseen_accuracy"]) - 0.02,
    ),
    (
        LASTING, "member rate within 0.02 of its own on unseen data",
        lambda run, row: abs(row["mia_member_rate"] - row["own_unseen_member_rate"]) - 0.02,
    ),
    (
        LASTING, "retain no more than 0.01 below retraining",
        lambda run, row: -run.differences(LASTING)["retain_accuracy"] - 0.01,
    ),
    (
        LASTING, "test no more than 0.01 below retraining",
        lambda run, row: -run.differences(LASTING)["test_accuracy"] - 0.01,
    ),
    (LASTING, "JSD at most its floor + 5 %", lambda run, row: row["jsd"] - 1.05 * run.jsd_floor),
)  # fmt: skip


def aims(runs: Sequence[Run]) -> str:
    """What matching and the warm restart set out to reach: in how many settings, by means over seeds, and runs."""
    rows = []
    for method, words, missed_by in AIMS:
        found = [[missed_by(run, run.rows[method]) for run in seeds] for seeds in settings_of(runs)]
        settings, single = [mean(seeds) <= 0 for seeds in found], [miss <= 0 for seeds in found for miss in seeds]
        rows.append([method, words, *(f"{sum(met)} of {len(met)}" for met in (settings, single))])
    return markdown_table(["Method", "Aim", "Settings", "Runs"], rows)


def ranking(runs: Sequence[Run], value: Callable[[Row], float]) -> list[float]:
    """Spearman's correlation of a figure with Avg Gap, over methods and original, where these differ.

    Runs in which the methods' gaps lie within one floor of each other have nothing to rank.
    """
    found = []
    for run in runs:
        gaps = [run.gap(name) for name in run.rows]
        if max(gaps) - min(gaps) > run.floor:
            found.append(float(spearmanr([value(run.rows[name]) for name in run.rows], gaps).statistic))
    return found


def rankings(runs: Sequence[Run]) -> str:
    """How the retrain-free figures rank the methods, one row each."""
    figures: dict[str, Callable[[Row], float]] = {
        "retrain-free gap": lambda row: row["retrain_free_gap"],
        "mean of its four differences and the excess": score,
        "gap + excess": lambda row: row["retrain_free_gap"] + abs(row["relearning_excess"]),
    }
    rows = []
    for name, value in figures.items():
        found = ranking(runs, value)
        cells = (f"{mean(found):.2f} ± {np.std(found):.2f}", f"{min(found):.2f}", f"{max(found):.2f}")
        rows.append([name, *cells, f"{sum(rank >= 0.9 for rank in found)} of {len(found)}"])
    return markdown_table(["Figure", "Mean", "Least", "Most", "0.9 or more"], rows)


def draw(runs: Sequence[Run], path: Path) -> None:
    """Avg Gap in floors and relearning excess of each method: a point a cell, over its seeds; a bar their mean."""
    names = [name for name in methods_of(runs) if name != ORIGINAL][::-1]
    values: dict[str, Callable[[Sequence[Run], str], float]] = {
        "Avg Gap, in floors (log scale): 1 is retraining once more": in_floors,
        "Relearning excess: 0 is nothing coming back": lambda seeds, name: mean(
            run.rows[name]["relearning_excess"] for run in seeds
        ),
    }
    figure = Figure(figsize=(10, 0.45 * len(names) + 1.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (title, value) in zip(panels, values.items(), strict=True):
        for place, name in enumerate(names):
            points = [value(seeds, name) for seeds in settings_of([run for run in runs if name in run.rows])]
            color, marker = ("#D55E00", "D") if name in (OWN, LASTING) else ("#0072B2", "o")
            panel.scatter(points, [place] * len(points), color=color, marker=marker, alpha=0.55, s=28)
            panel.plot([mean(points)] * 2, [place - 0.35, place + 0.35], color="#000000", linewidth=2)
        panel.set_yticks(range(len(names)), names)
        panel.set_xlabel(title)
        panel.grid(alpha=0.25, axis="x")
    panels[0].set_xscale("log")
    for panel, at in zip(panels, (1.0, 0.0), strict=True):
        panel.axvline(at, color="#000000", linewidth=0.8, linestyle=":")
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)


def sections(runs: Sequence[Run]) -> list[str]:
    """The parts of the Markdown file."""
    cells, seeds = len({run.cell for run in runs}), sorted({run.seed for run in runs})
    return [
        f"{cells} cells (data set · model · forget set), {len(runs)} runs, seeds {', '.join(map(str, seeds))}. Of two "
        "configurations of each method the one counts that is chosen without a retrained model (mean of the "
        "retrain-free gap's four differences and |relearning excess|). Gaps are to the mean of "
        f"{len(RETRAINED)} retrained models, and in floors: in what one more retrained model's would be.",
        "## Over all cells",
        overall(runs),
        "*In floors*: a cell's mean over seeds by its mean floor; *worst*: the largest of all cells. *Worst "
        "relearning*: the largest of all runs, by its size. A relearning excess says that what was forgotten comes "
        "back; it cannot say so of a model that still knows everything. Visits: samples learned from, as a multiple "
        "of LoTUS's, which stops by itself.",
        "## Where each is off",
        "Means over all cells, method less retraining. Avg Gap charges a model for being better than retraining, too.",
        signed(runs),
        "## What was aimed at",
        "By a cell's mean over seeds, and by every run alone.",
        aims(runs),
        "## Avg Gap by cell",
        "Mean and standard deviation over seeds.",
        by_cell(runs, Run.gap, "{:.4f}", floor=True),
        "## Relearning excess by cell",
        by_cell(runs, lambda run, name: run.rows[name]["relearning_excess"], "{:+.3f}"),
        "## How well the choice ranks",
        "Spearman's correlation with Avg Gap, over methods and original, in the runs in which these differ by more "
        "than the floor. The excess tells of what Avg Gap does not see, so that it cannot but rank worse by it; added "
        "whole, it favours models that still know everything, which nothing can come back to.",
        rankings(runs),
    ]


def main() -> None:
    """Read, choose, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="output_dir of floor_comparison.py, or the JSON file of a page")
    parser.add_argument("--output", type=Path, default=Path("floor_comparison"), help="path without suffix")
    parser.add_argument("--title", default="The comparison with its floor", help="heading of the page")
    parser.add_argument("--methods", choices=["ours", "all"], default="ours", help="as in floor_comparison.py")
    options = parser.parse_args()
    documents, stem = read(options.source, options.methods == "all"), options.output.name
    if not documents:
        parser.error(f"no finished cell in {options.source}: run floor_comparison.py first")
    runs = [Run.of(document) for document in documents]
    parts = [f"# {options.title}", *sections(runs)]
    picture = f"![Avg Gap and relearning excess of each method; a point is a setting, the bar their mean]({stem}.png)"
    parts.insert(parts.index("## Where each is off"), picture)
    text = "\n\n".join(part if part.startswith(("|", "#", "!")) else fill(part, 120) for part in parts)
    options.output.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    draw(runs, options.output.with_suffix(".png"))
    options.output.with_suffix(".json").write_text(written(documents), encoding="utf-8")


def _rounded(row: Row) -> dict[str, Any]:
    return {name: round(value, 5) for name, value in row.items()}


if __name__ == "__main__":
    main()
