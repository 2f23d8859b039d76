"""The Space's page: upload true-class probabilities under the judged and reference models, read what RMIA finds."""

from __future__ import annotations

from pathlib import Path

import evaluate
import gradio as gr
from tables import bars, computed, markdown, read_table

TARGET = "target"
INTRODUCTION = f"""\
# RMIA: does the forget set still look trained on?

A sample that a model was trained on is likelier under it than under other models. The area under the ROC curve says
how well the **forget set** can be told from **unseen** data so: a model that never saw the forget set shows 0.5.

Each file is CSV (with a header) or Parquet: one row a sample, one column a model with its probability of the true
class. The judged model's column is `{TARGET}`; all others are reference models, which never saw the samples:

    {TARGET},reference 1,reference 2
    0.97,0.61,0.72
    0.88,0.90,0.85
"""
FILES = {"forget": "The forget set", "unseen": "Unseen data of the same classes"}


def measure(forget: str | None, unseen: str | None, a: float, gamma: float) -> tuple[str, gr.BarPlot]:
    """The table of results, and the area with the ends of its interval."""
    metric = evaluate.load(str(Path(__file__).with_name("rmia.py")), a=a, gamma=gamma)
    for source, path in (("forget", forget), ("unseen", unseen)):
        rows, _, models = read_table(path, FILES[source], labelled=False)
        for name, column in zip(models, rows.T, strict=True):
            try:
                metric.add_batch(predictions=column, source=source, model=name)
            except ValueError as error:
                raise gr.Error(f"In the file {FILES[source]!r}, column {name!r}: {error}") from error
    result = computed(metric)
    for name, value in result.items():
        if name.endswith("_reason"):
            gr.Warning(value)
    numbers = [(name.replace("_", " "), value) for name, value in result.items() if not name.endswith("_reason")]
    ends = {"low": "auc_low", "area": "auc", "high": "auc_high"}
    return markdown(numbers), bars({name: result[key] or 0.0 for name, key in ends.items()}, top=1)


with gr.Blocks(title="RMIA") as demo:
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        files = [gr.File(label=label, file_types=[".csv", ".parquet"]) for label in FILES.values()]
    with gr.Row():
        a = gr.Slider(0, 1, value=0.3, label="a")
        gamma = gr.Slider(1, 4, value=2, label="gamma")
    button = gr.Button("Measure", variant="primary")
    with gr.Row():
        table = gr.Markdown()
        plot = gr.BarPlot(x="class", y="value", x_title=" ", y_title="area", title="Area under the curve", sort=None)
    button.click(measure, [*files, a, gamma], [table, plot])

if __name__ == "__main__":
    demo.launch(max_file_size="200mb")
