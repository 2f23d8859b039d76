"""What became of every deletion request, model after model: knowledge erosion and forgetting reversal.

Each further unlearning may bring back what an earlier one took away (reversal: an earlier request's samples are known
better again), and may cost what was to be kept (erosion: accuracy on the retain and the test set). Both are measured
anew on every model, on each request's own samples, beside what data that was never seen reads.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hf_lotus.evaluation.attacks import entropy_attack
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.metrics import ORIGINAL
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.functional.membership import called_members
from hf_lotus.requests.queue import RequestQueue, RequestRun
from hf_lotus.requests.retained import Retained, accuracy_on, retained_by_all
from hf_lotus.utils.files import write_whole
from hf_lotus.utils.text import counted, markdown_table, number, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HISTORY, HISTORY_FIGURE = "history.md", "history.png"
_SPLITS = ("retain", "test", "unseen")
# More runs than these are sampled: every run measures every request, and a table of all grows as their product.
_MOST_RUNS = 24
# More lines than there are colours to tell apart are drawn as one crowd, with its mean.
_MOST_LINES = 7
# Okabe and Ito's palette, without its yellow, which is faint on white.
_COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"


def measure_requests(
    evaluator: Evaluator, predictions: Mapping[str, Predictions], positions: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """What the original and a model read on the samples of each request, as JSON values.

    Args:
        evaluator: whose forget set has the samples of all requests.
        predictions: of the model, split → `Predictions`.
        positions: request id → places of its samples in the forget set, shape (samples,); empty where the data set
            has none of them any more.

    Returns:
        `requests`: id → `samples`, and for "original", "model" and "reference" the `accuracy` and `member_rate`, as
        far as they can be measured; `models`: "original" and "model" → split → accuracy.
    """
    yardstick = evaluator.yardstick
    both = {ORIGINAL: yardstick.original, "model": predictions}
    # One pass over all that was ever asked for; each request is a stretch of it.
    right = {which: found["forget"].predicted == found["forget"].labels for which, found in both.items()}
    called = {which: _called(found) for which, found in both.items()}
    unseen = None if yardstick.class_wise else yardstick.original.get("unseen")
    known_classes = set() if unseen is None else set(unseen.labels.tolist())

    @functools.cache
    def reference(labels: tuple[int, ...]) -> float | None:
        """What the original reads on unseen data of the same classes."""
        if unseen is None or not known_classes.issuperset(labels):
            return None
        return unseen.accuracy_weighted(np.array(labels))

    requests: dict[str, dict[str, Any]] = {}
    for name, places in positions.items():
        measured: dict[str, Any] = {"samples": len(places)}
        requests[name] = measured
        if not len(places):
            continue
        for which in both:
            calls = called[which]
            measured[which] = {
                "accuracy": float(right[which][places].mean()),
                "member_rate": None if calls is None else float(calls[places].mean()),
            }
        measured["reference"] = {
            "accuracy": reference(tuple(np.sort(yardstick.original["forget"].labels[places]).tolist())),
            "member_rate": yardstick.controls.unseen_member_rate,
        }
    models = {
        which: {split: found[split].accuracy for split in _SPLITS if split in found} for which, found in both.items()
    }
    return {"requests": requests, "models": models}


def _called(found: Mapping[str, Predictions]) -> np.ndarray | None:
    """Which forget samples the entropy attack calls members; None where it cannot be made."""
    attack = entropy_attack(found)
    return None if attack is None else called_members(attack, found["forget"].entropy)


def write_history(queue: RequestQueue) -> str | None:
    """Write `history.md` and `history.png` into a queue's folder; return the table, None where there is nothing."""
    found = _Found.of([run for run in queue.runs() if run.is_done])
    if not found.measured:
        return None
    table = _table(found)
    write_whole(queue.folder / HISTORY, table + "\n")
    _draw_history(found, queue.folder / HISTORY_FIGURE)
    return table


class _Found(NamedTuple):
    """What the files of a queue's runs tell, read once, and no more of them than are shown.

    Attributes:
        served: request id → the number of the run that served it.
        measured: run's number → what was measured; of `_MOST_RUNS` at most.
        kept: of the measured runs; None where an earlier version did not keep what was retained.
        common: the samples that every one of them retained; None likewise.
        runs: how many runs have measured anything.
    """

    served: Mapping[str, int]
    measured: Mapping[int, Mapping[str, Any]]
    kept: Sequence[Retained] | None
    common: np.ndarray | None
    runs: int

    @classmethod
    def of(cls, runs: Sequence[RequestRun]) -> _Found:
        measuring = [run for run in runs if run.is_done and run.has_measured]
        shown = _evenly(measuring, _MOST_RUNS)
        measured = {run.number: found for run in shown if (found := run.measured) is not None}
        served = {name: run.number for run in runs for name in run.plan["requests"]}
        retained = [run.retained for run in shown]
        kept = [each for each in retained if each is not None]
        if not kept or len(kept) < len(retained):
            return cls(served, measured, None, None, len(measuring))
        return cls(served, measured, kept, retained_by_all(kept), len(measuring))


def _evenly(runs: Sequence[RequestRun], most: int) -> list[RequestRun]:
    """All of the runs, or the first, the last and as many between them as make `most`, at even distances."""
    if len(runs) <= most:
        return list(runs)
    return [runs[place] for place in np.linspace(0, len(runs) - 1, most).round().astype(int)]


def history_table(runs: Sequence[RequestRun]) -> str:
    """Markdown: how each request's samples, and the rest of the data, look to each model.

    Args:
        runs: those that are done, in order.
    """
    found = _Found.of(runs)
    return _table(found) if found.measured else "No run has made a model yet."


def _table(found: _Found) -> str:
    measured = found.measured
    steps = [ORIGINAL, *(f"run {number}" for number in measured)]
    parts = []
    for what, heading in {"accuracy": "Forget accuracy", "member_rate": "MIA member rate"}.items():
        rows = []
        for name, run in found.served.items():
            figures = _line(measured, name, what)
            reference = (_latest(measured, name) or {}).get("reference", {}).get(what)
            samples = str((_latest(measured, name) or {"samples": 0})["samples"])
            rows.append([plain(name), samples, str(run), *(number(v, 3) for v in [*figures, reference])])
        table = markdown_table(["Request", "Samples", "Run", *steps, "*unseen data*"], rows)
        parts.append(f"{heading} of each request's samples, by each model:\n\n{table}")
    rows = [[name, *(number(v, 3) for v in figures)] for name, figures in _quality(found).items()]
    table = markdown_table(["Accuracy on", *steps], rows)
    told = ""
    if found.common is not None:
        told = f", retain: the {counted(len(found.common), 'sample')} that every run retained"
    parts.append(f"What was to be kept, by each model{told}:\n\n{table}")
    parts.append(
        "A request is forgotten as far as its figures are near those of *unseen data*: what the original reads on "
        "data of the same classes that it was never trained on. Figures that climb back in a later run are forgetting "
        "reversal; retain and test accuracy that falls from run to run is knowledge erosion. A dash: not measured, as "
        "the request had not been made, its samples are no longer in the data set, or an earlier version did not keep "
        "what it takes."
    )
    if found.runs > len(measured):
        parts.append(f"Of {found.runs} runs {len(measured)} are shown: the first, the last, and some between them.")
    return "\n\n".join(parts)


def history_figure(runs: Sequence[RequestRun], path: str | Path) -> None:
    """Draw what `history_table` tells: reversal on the left, erosion on the right.

    Args:
        runs: those that are done, in order.
        path: where to write the figure; the suffix decides the format.
    """
    _draw_history(_Found.of(runs), path)


def _draw_history(found: _Found, path: str | Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here, as it takes a second to import
    from matplotlib.figure import Figure

    measured = found.measured
    steps = [ORIGINAL, *(f"run {number}" for number in measured)]
    names = list(dict.fromkeys(name for each in measured.values() for name in each["requests"]))
    lines = {name: np.array(_line(measured, name, "accuracy"), dtype=float) for name in names}
    figure = Figure(figsize=(max(8.0, 3.4 + 1.1 * len(steps)), 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    if len(lines) > _MOST_LINES:
        for line in lines.values():
            _draw(left, line, color="#BBBBBB", linewidth=1)
        lines = {"mean of the requests": np.nanmean(list(lines.values()), axis=0)}
    for (name, line), color, marker in zip(lines.items(), _COLORS, _MARKERS, strict=False):
        _draw(left, line, color=color, marker=marker, label=name)
    references = [(_latest(measured, name) or {}).get("reference", {}).get("accuracy") for name in names]
    if references := [value for value in references if value is not None]:
        left.axhline(np.mean(references), color="#000000", linestyle=":", label="unseen data of their classes")
    for (name, figures), color, marker in zip(_quality(found).items(), _COLORS[1:], _MARKERS, strict=False):
        _draw(right, np.array(figures, dtype=float), color=color, marker=marker, label=name)
    left.set_title("forgetting: near unseen data, and staying there")
    right.set_title("keeping: as high as the original's")
    left.set_ylabel("accuracy")
    for panel in (left, right):
        panel.set_xticks(range(len(steps)), steps, rotation=30 if len(steps) > 6 else 0)
        panel.grid(alpha=0.25)
        panel.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), frameon=False, ncols=2)
        for text in panel.get_legend().get_texts():
            text.set_parse_math(False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150)


def _draw(panel: Axes, line: np.ndarray, **style: Any) -> None:
    """A line through what was measured, dashed from the original to the run that first measured it."""
    panel.plot(range(len(line)), line, **style)
    known = np.flatnonzero(np.isfinite(line))
    if len(known) > 1 and known[1] > 1:
        panel.plot(known[:2], line[known[:2]], color=style["color"], linestyle="--", linewidth=1)


def _latest(measured: Mapping[int, Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """What was measured last of a request, when its samples were still there."""
    found = [m["requests"][name] for m in measured.values() if m["requests"].get(name, {}).get("samples")]
    return found[-1] if found else None


def _line(measured: Mapping[int, Mapping[str, Any]], name: str, what: str) -> list[float | None]:
    """A figure of one request: the original's, then each model's."""
    original = (_latest(measured, name) or {}).get(ORIGINAL, {}).get(what)
    return [original, *(m["requests"].get(name, {}).get("model", {}).get(what) for m in measured.values())]


def _quality(found: _Found) -> dict[str, list[float | None]]:
    """Accuracy on each split: the original's, then each model's own; the retain set is the same for all of them."""
    models = [m["models"] for m in found.measured.values()]
    splits = [split for split in _SPLITS if split in models[-1][ORIGINAL]]
    figures = {split: [models[-1][ORIGINAL][split], *(m["model"].get(split) for m in models)] for split in splits}
    nothing: list[float | None] = [None] * (len(models) + 1)
    if found.kept is None or found.common is None:
        # Each run's own retain set is another, on which figures cannot be compared.
        return {**figures, "retain": nothing} if "retain" in figures else figures
    if not len(found.common):
        return {**figures, "retain": nothing}
    own = [accuracy_on(found.common, each, "model") for each in found.kept]
    return {**figures, "retain": [accuracy_on(found.common, found.kept[-1], ORIGINAL), *own]}
