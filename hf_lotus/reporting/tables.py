"""One table of many methods, over one or several runs: mean and deviation, best and second best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from hf_lotus.evaluation.metrics import CONTROL, RETRAIN, ZERO, Metric, columns
from hf_lotus.evaluation.results import REFERENCE_ROW, UnlearningResult, is_control_row, is_retrained_row
from hf_lotus.utils.text import markdown_table, plain

# How Markdown shows the marks of a cell.
_MARKS = {"best": "**", "second": "*", "": ""}


@dataclass(frozen=True)
class Cell:
    """A figure of the table.

    Attributes:
        text: the figure, a mean ± deviation over several runs, or a dash.
        mark: "best", "second", or "".
    """

    text: str
    mark: str = ""


def summarize(results: Sequence[UnlearningResult]) -> str:
    """A Markdown table with one row a model, then what to know of it.

    With several runs each figure is a mean ± sample standard deviation. In every column the method nearest to what it
    should read is bold, and the next one italic: nearest to the retrained model where there is one, else to the
    reference on unseen data, or to the original's; the least for seconds and the retrain-free gap.

    Args:
        results: one a run, with the same models in each.

    Raises:
        ValueError: if there are none, or their models differ.
    """
    headings, rows = summary_cells(results)
    table = [[name, *(f"{_MARKS[c.mark]}{c.text}{_MARKS[c.mark]}" for c in cells)] for name, cells in rows]
    for row, (name, _) in zip(table, rows, strict=True):
        row[0] = f"*{name}*" if name == REFERENCE_ROW else plain(name)
    return "\n".join([markdown_table(["Model", *map(plain, headings)], table), "", *explanation(results)])


def summary_cells(results: Sequence[UnlearningResult]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """The cells of `summarize`'s table.

    Returns:
        the headings of the columns that any model has a figure for, and (name, a cell a heading) of each row: the
        models, then the references.

    Raises:
        ValueError: as `summarize`.
    """
    names = [[model.name for model in result.models] for result in results]
    if not names or any(other != names[0] for other in names):
        raise ValueError(f"One table needs runs with the same models, got {names}.")
    shown = columns({metric for result in results for model in result.models for metric in model.values})
    cells: dict[str, list[Cell]] = {name: [] for name in [*names[0], REFERENCE_ROW]}
    for metric in shown:
        marks = _marks(results, metric)
        for name in names[0]:
            figure = figure_text([result[name].values.get(metric.name) for result in results], metric.digits)
            cells[name].append(Cell(figure, marks.get(name, "")))
        controls = [_control(result, metric) for result in results]
        cells[REFERENCE_ROW].append(Cell(figure_text(controls, metric.digits)))
    return [metric.heading for metric in shown], list(cells.items())


def _control(result: UnlearningResult, metric: Metric) -> float | None:
    return getattr(result.controls, metric.control) if metric.control else None


@dataclass(frozen=True)
class Statistic:
    """Mean and sample deviation of a figure over the runs; no deviation of a single run."""

    mean: float
    deviation: float

    def text(self, digits: int) -> str:
        """For a table."""
        deviation = f" ± {self.deviation:.{digits}f}" if not math.isnan(self.deviation) else ""
        return f"{self.mean:.{digits}f}{deviation}"

    @property
    def error(self) -> float:
        """For an error bar."""
        return 0.0 if math.isnan(self.deviation) else self.deviation


def statistic(values: Sequence[float | None]) -> Statistic | None:
    """Of one value a run; None where one is missing."""
    found = [value for value in values if value is not None]
    if not found or len(found) < len(values):
        return None
    return Statistic(mean(found), stdev(found) if len(found) > 1 else math.nan)


def figure_text(values: Sequence[float | None], digits: int) -> str:
    """One value a run, for a table: mean ± deviation; a dash where one is missing."""
    found = statistic(values)
    return "–" if found is None else found.text(digits)


def _target(result: UnlearningResult, metric: Metric) -> float | None:
    """What a metric of an unlearned model should read: the first that there is of what it is held against."""
    models = {model.name: model for model in result.models}
    for what in metric.held_against:
        if what == CONTROL and (control := _control(result, metric)) is not None:
            return control
        if what == RETRAIN and what in models:
            values = [model.values.get(metric.name) for name, model in models.items() if is_retrained_row(name)]
            known = [value for value in values if value is not None]
            return mean(known) if len(known) == len(values) else None
        if what in models:
            return models[what].values.get(metric.name)
        if what == ZERO:
            return 0.0
    return None


def _marks(results: Sequence[UnlearningResult], metric: Metric) -> dict[str, str]:
    """Method → "best" or "second", by the mean distance from the target over the runs."""
    distances = {}
    for model in results[0].models:
        pairs = [(result[model.name].values.get(metric.name), _target(result, metric)) for result in results]
        apart = [abs(value - target) for value, target in pairs if value is not None and target is not None]
        if not is_control_row(model.name) and len(apart) == len(pairs):
            distances[model.name] = mean(apart)
    ranks = sorted(set(distances.values()))
    if len(distances) < 2 or len(ranks) < 2:
        return {}
    return {name: {ranks[0]: "best", ranks[1]: "second"}.get(distance, "") for name, distance in distances.items()}


def _seed(result: UnlearningResult) -> str:
    own, training = result.provenance.get("seed"), result.provenance.get("training_seed")
    return str(own) if training is None else f"{own} with training {training}"


def explanation(results: Sequence[UnlearningResult]) -> list[str]:
    """What to know of the table, in Markdown, a line each."""
    lines = [
        "**Bold**: nearest to what it should read (the retrained model's figure, where there is one); *italic*: next."
    ]
    if len(results) > 1:
        splits = {str(result.provenance.get("split_digest")) for result in results}
        shared = "all with the same forget set" if len(splits) == 1 else "some with the same forget set"
        whose = "each with its own forget set" if len(splits) == len(results) else shared
        seeds = ", ".join(_seed(result) for result in results)
        lines.append(f"Mean ± standard deviation over {len(results)} runs (seeds {seeds}), {whose}.")
    lines += [f"- {note}" for note in dict.fromkeys(note for result in results for note in result.notes)]
    return lines
