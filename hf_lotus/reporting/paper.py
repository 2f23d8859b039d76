"""The paper's published figures beside ours, in the convention of its code."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from hf_lotus.evaluation.results import CONTROL_ROWS, ORIGINAL, RETRAIN, UnlearningResult
from hf_lotus.reporting.tables import statistic
from hf_lotus.utils.text import number

# Heading → key of the paper's file, and decimals.
_COLUMNS = {
    "Avg Gap": ("avg_gap", 4),
    "MIA": ("mia", 2),
    "Forget acc.": ("forget_accuracy", 2),
    "Retain acc.": ("retain_accuracy", 2),
    "Test acc.": ("test_accuracy", 2),
    "JSD × 1e4": ("jsd_x1e4", 2),
    "RF-JSD × 1e4": ("rf_jsd_x1e4", 2),
    "Minutes": ("minutes", 2),
}
# What Avg Gap is the mean distance in.
_GAPS = ("mia", "forget_accuracy", "retain_accuracy", "test_accuracy")


@cache
def paper_results() -> dict[str, Any]:
    """All published figures: "source", "read_me", and "settings" by recipe name."""
    return json.loads((Path(__file__).parent / "paper_results.json").read_text(encoding="utf-8"))


def require_setting(setting: str) -> None:
    """Raise `ValueError` unless the paper has figures for a setting, named after its recipe."""
    if setting not in (settings := paper_results()["settings"]):
        raise ValueError(f"The paper has no figures for {setting!r}; it has for {', '.join(settings)}.")


def paper_table(setting: str, results: Sequence[UnlearningResult]) -> tuple[list[str], list[list[str]]]:
    """The paper's table of a setting and ours, row under row.

    JSD and RF-JSD are `reference_divergence`, times 10,000; Avg Gap is the distance between means rounded to two
    decimals, as the paper computes it; times are minutes.

    Args:
        setting: name of the recipe.
        results: one a run.

    Returns:
        headings, and rows of text: for each model that either has, ours and the paper's.

    Raises:
        ValueError: if the paper has no such setting.
    """
    require_setting(setting)
    theirs = paper_results()["settings"][setting]["models"]
    ours = {model.name: _ours(results, model.name) for model in results[0].models}
    gold = ours.get(RETRAIN)
    names = [*CONTROL_ROWS, *(name for name in ours if name not in CONTROL_ROWS)]
    names += [name for name in theirs if name not in names]
    rows = []
    for name in names:
        for who, found in (("ours", ours), ("paper", theirs)):
            if name in found:
                values = dict(found[name])
                if who == "ours" and gold is not None and name != ORIGINAL:
                    values["avg_gap"] = _gap(values, gold)
                rows.append([f"{name} ({who})", *(_text(values.get(key), d) for key, d in _COLUMNS.values())])
    return ["Model", *_COLUMNS], rows


def _ours(results: Sequence[UnlearningResult], name: str) -> dict[str, list[float | None]]:
    """Key of the paper's file → [mean, deviation] over the runs."""
    gathered: dict[str, list[float | None]] = {}
    for result in results:
        model = result[name]
        reference = result.provenance.get("details", {}).get(name, {}).get("reference", {})
        values = {
            "mia": model.mia_member_rate,
            **{key: getattr(model, key) for key in _GAPS[1:]},
            "jsd_x1e4": _times(reference.get("jsd"), 1e4),
            "rf_jsd_x1e4": _times(reference.get("rf_jsd"), 1e4),
            "minutes": _times(model.seconds, 1 / 60),
        }
        for key, value in values.items():
            gathered.setdefault(key, []).append(value)
    found = {key: statistic(values) for key, values in gathered.items()}
    return {key: [one.mean, None if math.isnan(one.deviation) else one.deviation] for key, one in found.items() if one}


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _gap(values: Mapping[str, Any], gold: Mapping[str, Any]) -> float | None:
    if any(key not in values or key not in gold for key in _GAPS):
        return None
    return mean(abs(round(values[key][0], 2) - round(gold[key][0], 2)) for key in _GAPS)


def _text(value: list[float | None] | float | None, digits: int) -> str:
    if isinstance(value, list):
        deviation = "" if value[1] is None else f" ± {value[1]:.{digits}f}"
        return f"{value[0]:.{digits}f}{deviation}"
    return number(value, digits)
