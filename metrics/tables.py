"""Read the tables that a visitor of a Space uploads."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np
import pandas as pd

LABEL = "label"


def read_table(path: str | None, what: str, *, labelled: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows and labels of a CSV or Parquet file: one column a class, in order, and a column `label`.

    Args:
        path: the uploaded file.
        what: what to call it in an error.
        labelled: whether the column `label` must be there.

    Returns:
        float64 array of shape (rows, classes), and the labels of shape (rows,), or None where there are none.

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
        return table.to_numpy(dtype=np.float64), labels
    except ValueError as error:
        raise gr.Error(f"Every column of the {what} file but {LABEL!r} must hold numbers: {error}") from error
