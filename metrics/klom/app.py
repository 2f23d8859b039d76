"""The Space's page: upload the margins under two pools of models, read KLOM and its floor."""

from __future__ import annotations

from pathlib import Path

import evaluate
import gradio as gr
from tables import bars, computed, markdown, read_table

INTRODUCTION = """\
# KLOM: are unlearned models like retrained ones, sample by sample?

Of every sample, the divergence between the histogram of its **margins** under models that were trained on it and
unlearned it, and that under models that never saw it. Read the matched figures beside the **floor**, what retrained
models read against other retrained models.

Each file is CSV (with a header) or Parquet: one row a sample, the same samples in both files, and one column a model
with its margin, `log(p / (1 - p))` of the true class's probability:

    model 1,model 2,model 3,model 4
    2.31,1.94,2.77,2.05
    -0.42,0.10,-0.33,-0.81
"""
FILES = {"unlearned": "Models that unlearned the samples", "retrained": "Models that never saw them"}


def measure(unlearned: str | None, retrained: str | None) -> tuple[str, gr.BarPlot]:
    """The table of results, and the 95th percentile beside its floor."""
    metric = evaluate.load(str(Path(__file__).with_name("klom.py")))
    for source, path in (("unlearned", unlearned), ("retrained", retrained)):
        margins, _, models = read_table(path, FILES[source], labelled=False)
        for name, column in zip(models, margins.T, strict=True):
            try:
                metric.add_batch(predictions=column, source=source, model=name)
            except ValueError as error:
                raise gr.Error(f"In the file {FILES[source]!r}, column {name!r}: {error}") from error
    result = computed(metric)
    if result["reason"]:
        raise gr.Error(result["reason"])
    shown = {"unlearned, matched": result["matched_percentile_95"], "floor": result["floor_percentile_95"]}
    numbers = [(name.replace("_", " "), value) for name, value in result.items() if name != "reason"]
    return markdown(numbers), bars(shown)


with gr.Blocks(title="KLOM") as demo:
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        files = [gr.File(label=label, file_types=[".csv", ".parquet"]) for label in FILES.values()]
    button = gr.Button("Measure", variant="primary")
    with gr.Row():
        table = gr.Markdown()
        plot = gr.BarPlot(x="class", y="value", x_title=" ", y_title="nats", title="95th percentile", sort=None)
    button.click(measure, files, [table, plot])

if __name__ == "__main__":
    demo.launch(max_file_size="200mb")
