"""What the apps of the Spaces share: read an uploaded table, run the metric, show the result."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd

LABEL = "label"
FORMAT = """\
Each file is CSV (with a header) or Parquet: one row a sample, one column a class, in order, and the true class of the
sample, counted from 0, in a column `label`:

    label,cat,dog,ship
    0,0.90,0.07,0.03
    2,0.05,0.15,0.80
"""


def read_table(path: str | None, what: str, *, labelled: bool) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Rows, labels and names of the classes in an uploaded file.

    Args:
        path: the uploaded file, or None.
        what: what to call it in an error.
        labelled: whether the column `label` must be there.

    Returns:
        float64 array of shape (rows, classes); labels of shape (rows,), or None; one name a class.

    Raises:
        gr.Error: if there is no such table in the file.
    """
    if path is None:
        raise gr.Error(f"Upload the {what} file first.")
    try:
        table = pd.read_parquet(path) if Path(path).suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:
        raise gr.Error(f"The {what} file is neither CSV nor Parquet: {error}") from error
    if labelled and LABEL not in table:
        raise gr.Error(f"The {what} file has no column {LABEL!r} with the true class of each row.")
    labels = table.pop(LABEL).to_numpy() if LABEL in table else None
    try:
        return table.to_numpy(dtype=np.float64), labels, [str(column) for column in table.columns]
    except ValueError as error:
        raise gr.Error(f"Every column of the {what} file but {LABEL!r} must hold numbers: {error}") from error


def computed(metric: Any, **options: Any) -> dict[str, Any]:
    """`metric.compute(...)`, with its errors and warnings shown to the visitor."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = metric.compute(**options)
        except ValueError as error:
            raise gr.Error(str(error)) from error
    for warning in caught:
        gr.Warning(str(warning.message))
    return result


def bars(values: dict[str, float], *, top: float | None = None) -> gr.BarPlot:
    """An update for a `gr.BarPlot` of "class" and "value": one bar each, from 0, in the given order."""
    frame = pd.DataFrame({"class": list(values), "value": list(values.values())})
    return gr.BarPlot(frame, y_lim=[0, top or 1.05 * max(values.values(), default=1) or 1])


def markdown(rows: list[tuple[str, float | None]]) -> str:
    """A table of quantities and their values."""
    lines = [f"| {name} | {'–' if value is None else f'{value:.4g}'} |" for name, value in rows]
    return "\n".join(["| quantity | value |", "|---|---|", *lines])
