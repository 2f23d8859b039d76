"""The figures of a report: drawn from results, each with its numbers as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from hf_lotus.evaluation.metrics import METRICS, ORIGINAL, RETRAIN
from hf_lotus.evaluation.results import REFERENCE_ROW, UnlearningResult, is_retrained_row
from hf_lotus.reporting import spread
from hf_lotus.reporting.differences import EXPLANATION, TITLE, difference_table
from hf_lotus.reporting.svg import Point, bars, lines, scatter, steps
from hf_lotus.reporting.tables import Statistic, figure_text, statistic

# The paper's correlation of JSD with RF-JSD over methods (arXiv:2503.18314).
PAPER_CORRELATION = "0.92 ± 0.04"
_SPLITS = ("retain", "forget", "test", "unseen")
_ACCURACIES = ("forget_accuracy", "retain_accuracy", "test_accuracy", "unseen_accuracy")


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Attributes:
        title: its heading.
        explanation: what it shows, and how to read it.
        panels: (caption, SVG) of each chart; a caption may be "". Of a table alone there are none.
        header: column headings of its numbers.
        rows: the numbers, as text.
    """

    title: str
    explanation: str
    panels: Sequence[tuple[str, str]]
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def over_runs(results: Sequence[UnlearningResult], name: str, metric: str) -> Statistic | None:
    """A metric of one model over all runs."""
    return statistic([getattr(result[name], metric) for result in results])


def _kind(name: str) -> str:
    return RETRAIN if is_retrained_row(name) else name if name == ORIGINAL else "method"


def _names(results: Sequence[UnlearningResult]) -> list[str]:
    return [model.name for model in results[0].models]


def report_figures(results: Sequence[UnlearningResult]) -> list[Figure]:
    """All figures that the results have the numbers for, in the order of the report."""
    makers: list[Callable] = [
        _difference_figure,
        _spread_figure,
        _attack_figure,
        _divergence_figure,
        _correlation_figure,
        _time_figure,
    ]
    figures = [make(results) for make in [*makers, _rounds_figure, _entropy_figure]]
    return [figure for figure in figures if figure is not None]


def _difference_figure(results: Sequence[UnlearningResult]) -> Figure | None:
    table = difference_table(results)
    return None if table is None else Figure(TITLE, EXPLANATION, [], *table)


def _spread_figure(results: Sequence[UnlearningResult]) -> Figure | None:
    table = spread.spread_table(results)
    return None if table is None else Figure(spread.TITLE, spread.EXPLANATION, [], *table)


def _points(results: Sequence[UnlearningResult], x: str, y: str) -> list[Point]:
    points = []
    for name in _names(results):
        a, b = over_runs(results, name, x), over_runs(results, name, y)
        if a is not None and b is not None:
            points.append(Point(name, a.mean, b.mean, _kind(name), a.error, b.error))
    return points


def _attack_figure(results: Sequence[UnlearningResult]) -> Figure | None:
    panels, used = [], ["mia_member_rate"]
    for metric in ("forget_accuracy", "test_accuracy"):
        points = _points(results, "mia_member_rate", metric)
        if len(points) > 1:
            words = metric.replace("_", " ")
            title = f"{words} against membership inference"
            panels.append((words.capitalize(), scatter(points, title, "MIA member rate of the forget set", words)))
            used.append(metric)
    if not panels:
        return None
    return Figure(
        "Accuracy against membership inference",
        "A model that never saw the forget set lies where retrain lies: at the cross of the dashed lines. To its "
        "right too many forgotten samples are called members; to its left they are conspicuously unsure. Bars are "
        "deviations over the runs.",
        panels,
        *_table(results, used, 3),
    )


def _table(
    results: Sequence[UnlearningResult], metrics: Sequence[str], digits: int
) -> tuple[list[str], list[list[str]]]:
    rows = []
    for name in _names(results):
        values = ([getattr(result[name], metric) for result in results] for metric in metrics)
        rows.append([name, *(figure_text(found, digits) for found in values)])
    return ["model", *(METRICS[metric].words for metric in metrics)], rows


def _divergence_figure(results: Sequence[UnlearningResult]) -> Figure | None:
    titles = {"jsd": "JSD from the retrained model (nats)", "rf_jsd": "RF-JSD (nats)"}
    panels, used = [], []
    for metric in titles:
        found = [(name, over_runs(results, name, metric)) for name in _names(results)]
        values = [(name, value.mean, value.error, _kind(name)) for name, value in found if value is not None]
        if values:
            reference = statistic([_control(result, metric) for result in results])
            line = None if reference is None else reference.mean
            panels.append(("", bars(values, titles[metric], titles[metric], line)))
            used.append(metric)
    if not panels:
        return None
    header, rows = _table(results, used, 5)
    floors = ([_control(result, metric) for result in results] for metric in used)
    rows.append([REFERENCE_ROW, *(figure_text(found, 5) for found in floors)])
    return Figure(
        "Divergence on the forget set",
        "The dashed lines are what the figures read where nothing was ever learned: for JSD, two trainings compared "
        "on the test set; for RF-JSD, unseen data compared with itself.",
        panels,
        header,
        rows,
    )


def _control(result: UnlearningResult, metric: str) -> float | None:
    control = METRICS[metric].control
    return None if control is None else getattr(result.controls, control)


def correlations(results: Sequence[UnlearningResult], first: str, second: str) -> list[float]:
    """Pearson's r of two metrics over the models of each run, the original left out, as in the paper."""
    found = []
    for result in results:
        models = [model for model in result.models if model.name != ORIGINAL]
        both = [(getattr(model, first), getattr(model, second)) for model in models]
        pairs = np.array([pair for pair in both if None not in pair], dtype=float)
        if len(pairs) > 2 and (pairs.std(axis=0) > 0).all():
            found.append(float(np.corrcoef(pairs.T)[0, 1]))
    return found


def _correlation_figure(results: Sequence[UnlearningResult]) -> Figure | None:
    r = correlations(results, "jsd", "rf_jsd")
    if len(r) != len(results):
        return None
    others = {"JSD and RF-JSD": r, "Avg Gap and JSD": correlations(results, "avg_gap", "jsd")}
    others["Avg Gap and RF-JSD"] = correlations(results, "avg_gap", "rf_jsd")
    told = figure_text(r, 2)
    points = [point for point in _points(results, "jsd", "rf_jsd") if point.label != ORIGINAL]
    rows = [[name, *(f"{value:.3f}" for value in values)] for name, values in others.items()]
    rows = [row + ["–"] * (len(results) + 1 - len(row)) for row in rows]
    return Figure(
        "Does RF-JSD tell what JSD tells?",
        f"Pearson's r of JSD and RF-JSD over the methods and retrain: {told} here, {PAPER_CORRELATION} in the LoTUS "
        "paper, over its settings. RF-JSD needs no retrained model.",
        [("", scatter(points, "RF-JSD against JSD", "JSD (nats)", "RF-JSD (nats)"))],
        ["Pearson's r of", *(f"seed {result.provenance.get('seed')}" for result in results)],
        rows,
    )


def _time_figure(results: Sequence[UnlearningResult]) -> Figure | None:
    for metric, words in (("avg_gap", "Avg Gap"), ("retrain_free_gap", "Retrain-free gap")):
        points = [p for p in _points(results, "seconds", metric) if p.x > 0]
        if len(points) > 1:
            title = f"{words} against time"
            return Figure(
                title,
                "Lower is nearer to the retrained model, further left is quicker. Seconds are those of unlearning, "
                "without loading and measuring; of retrain, those of its training.",
                [("", scatter(points, title, "seconds (logarithmic)", words, log_x=True, zero_y=True))],
                *_table(results, ["seconds", metric], 4),
            )
    return None


def _course(result: UnlearningResult, name: str) -> list[dict[str, float]]:
    return result.provenance.get("details", {}).get(name, {}).get("rounds", [])


def _rounds_figure(results: Sequence[UnlearningResult]) -> Figure | None:
    """Temperature and accuracies after 0, 1, … rounds, averaged over the runs that got so far."""
    panels, rows = [], []
    for value in ("temperature", *_ACCURACIES):
        series = {}
        for name in _names(results):
            gathered: dict[int, list[float]] = {}
            for entry in (entry for result in results for entry in _course(result, name) if value in entry):
                gathered.setdefault(int(entry["rounds"]), []).append(entry[value])
            if len(gathered) > 1:
                series[name] = [(float(n), mean(found)) for n, found in sorted(gathered.items())]
                words = value.replace("_", " ")
                rows += [[name, words, str(n), figure_text(found, 4)] for n, found in sorted(gathered.items())]
        if series:
            words = value.replace("_", " ")
            panels.append((words.capitalize(), lines(series, f"{words} by round", "rounds taken", words)))
    if not panels:
        return None
    return Figure(
        "Temperature and accuracies by round",
        "As far as each method's run logged them: LoTUS measures the forget accuracy before every round and sets its "
        "temperature by it; the others appear where they were evaluated after every round.",
        panels,
        ["method", "value", "rounds taken", "mean over the runs"],
        rows,
    )


def _entropy_figure(results: Sequence[UnlearningResult]) -> Figure | None:
    panels, rows = [], []
    for name in _names(results):
        found = [result.provenance.get("details", {}).get(name, {}).get("entropy") for result in results]
        if any(histograms is None for histograms in found):
            continue
        splits = [split for split in _SPLITS[:3] if all(split in histograms for histograms in found)]
        shares = {split: np.mean([histograms[split]["shares"] for histograms in found], axis=0) for split in splits}
        series = {split: values.tolist() for split, values in shares.items()}
        top = found[0]["top"]
        panels.append((name, steps(series, top, f"Entropy of the predictions of {name}")))
        means = {split: figure_text([histograms[split]["mean"] for histograms in found], 4) for split in splits}
        rows += [[name, split, means[split], " ".join(f"{share:.4f}" for share in series[split])] for split in splits]
    if not panels:
        return None
    return Figure(
        "Entropy of the predictions",
        "Forget (vermilion, dashed) should lie on test (blue, dotted), as it does for retrain, and not on retain "
        "(green, solid): a curve that leaves it on either side gives the forgotten samples away. Mean over the runs.",
        panels,
        ["model", "split", "mean (nats)", f"shares in {len(series[splits[0]])} equal bins from 0 to {top:.3f} nats"],
        rows,
    )
