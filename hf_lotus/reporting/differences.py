"""In which direction a model differs from retraining, and by how much more than two trainings differ anyway."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from hf_lotus.evaluation.metrics import DIFFERENCES
from hf_lotus.evaluation.results import ORIGINAL, UnlearningResult, is_retrained_row
from hf_lotus.reporting import spread
from hf_lotus.reporting.tables import figure_text, summarize
from hf_lotus.utils.text import markdown_table, plain

TITLE = "Differences from retraining, with their signs"
EXPLANATION = (
    "Model less retrained models' mean. Avg Gap takes the mean of these without their signs, and so charges a model "
    "for being better than retraining on test data too: a test accuracy above 0 here is such a one."
)
SPREAD_ROW = "deviation of the retrained models"
_HEADINGS = {
    "forget_accuracy": "Forget acc.",
    "retain_accuracy": "Retain acc.",
    "test_accuracy": "Test acc.",
    "mia_member_rate": "Member rate",
}


def difference_table(results: Sequence[UnlearningResult]) -> tuple[list[str], list[list[str]]] | None:
    """Signed differences beside Avg Gap, over the runs; None where there is no retrained model, or older results.

    With several retrained models also Avg Gap in their deviations, and as a multiple of the floor: of the Avg Gap that
    one more retrained model would be expected to have.

    Args:
        results: one a run, with the same models in each.

    Returns:
        headings, and rows of text: the models, then the retrained models' deviations where there are several.
    """
    names = [model.name for model in results[0].models]
    # Without a second retrained model, the row of the only one is nothing but noughts.
    several = all(result.controls.avg_gap_floor is not None for result in results)
    rows = []
    for name in names:
        found = {f: [r[name].values.get(DIFFERENCES[f]) for r in results] for f in _HEADINGS}
        if all(value is None for values in found.values() for value in values):
            continue
        if not several and is_retrained_row(name):
            continue
        gaps = [result[name].values.get("avg_gap") for result in results]
        cells = [_signed(values) for values in found.values()] + [figure_text(gaps, 4)]
        if several:
            floors = [result.controls.avg_gap_floor for result in results]
            deviations = [result[name].values.get("gap_deviations") for result in results]
            cells += [figure_text(deviations, 1), _multiple(gaps, floors)]
        rows.append([name, *cells])
    if not any(row[0] != ORIGINAL for row in rows):
        return None
    header = ["Model", *_HEADINGS.values(), "Avg Gap"]
    if several:
        header += ["Avg Gap in deviations", "Avg Gap / floor"]
        spread = {f: [getattr(r.controls, f"{f}_std") for r in results] for f in _HEADINGS}
        floor = figure_text([result.controls.avg_gap_floor for result in results], 4)
        rows.append([SPREAD_ROW, *(_mean_text(values) for values in spread.values()), f"floor: {floor}", "–", "–"])
    return header, rows


def _signed(values: Sequence[float | None]) -> str:
    text = figure_text(values, 3)
    return text if text == "–" or text.startswith("-") else f"+{text}"


def _mean_text(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{mean(known):.3f}" if known and len(known) == len(values) else "–"


def _multiple(gaps: Sequence[float | None], floors: Sequence[float | None]) -> str:
    """Mean gap over mean floor: a ratio of means, as a floor near nought in one run would rule a mean of ratios."""
    known, least = [g for g in gaps if g is not None], [f for f in floors if f is not None]
    if len(known) < len(gaps) or len(least) < len(floors) or not mean(least):
        return "–"
    return f"{mean(known) / mean(least):.1f}"


def whole_table(results: Sequence[UnlearningResult]) -> str:
    """The table of `summarize`, then the signed differences and what each seed adds to the spread, as Markdown."""
    parts = [summarize(results)]
    for title, explanation, table in (
        (TITLE, EXPLANATION, difference_table(results)),
        (spread.TITLE, spread.EXPLANATION, spread.spread_table(results)),
    ):
        if table is not None:
            header, rows = table
            body = markdown_table([plain(cell) for cell in header], [[plain(cell) for cell in row] for row in rows])
            parts += [f"**{title}**", explanation, body]
    return "\n\n".join(parts)
