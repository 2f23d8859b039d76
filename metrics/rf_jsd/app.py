"""The Space's page: upload the predictions on the forget set and on unseen data, read RF-JSD."""

from __future__ import annotations

import math
from pathlib import Path

import evaluate
import gradio as gr
from tables import FORMAT, bars, computed, markdown, read_table

INTRODUCTION = f"""\
# RF-JSD: has the model unlearned?

The divergence between how the **unlearned** model treats the forget set and how the **original** model treats data
that was never trained on, class by class. No retrained model is needed. Read the value beside its **null**, what it
would be if the forget set had been unseen, and beside the original model's own value: closer to the null is better.

{FORMAT}"""


def measure(forget: str | None, unseen: str | None, kind: str, unit: str, convention: str) -> tuple[str, gr.BarPlot]:
    """The table of results, and the divergence of each class."""
    paper = convention == "paper"
    metric = evaluate.load(
        str(Path(__file__).with_name("rf_jsd.py")),
        from_logits=kind == "logits",
        base=2 if unit == "bits" else math.e,
        convention=convention,
        null_resamples=50 if paper else 0,
    )
    for source, path in (("forget", forget), ("unseen", unseen)):
        rows, labels, names = read_table(path, source, labelled=True)
        try:
            metric.add_batch(predictions=rows, references=labels, source=source)
        except ValueError as error:
            raise gr.Error(f"In the {source} file: {error}") from error
    result = computed(metric)
    shown = [(f"RF-JSD, {unit}" if paper else "RF-JSD × 1e4", result["rf_jsd"] * (1 if paper else 1e4))]
    if paper:
        shown += [
            ("its null: mean", result["null_mean"]),
            ("its null: standard deviation", result["null_std"]),
            ("deviations above the null", result["z"]),
        ]
    per_class = {names[c]: value for c, value in result["per_class"].items()}
    return markdown([*shown, ("classes compared", result["num_classes"])]), bars(per_class)


with gr.Blocks(title="RF-JSD") as demo:
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        forget = gr.File(label="Unlearned model on the forget set", file_types=[".csv", ".parquet"])
        unseen = gr.File(label="Original model on unseen data", file_types=[".csv", ".parquet"])
    with gr.Row():
        kind = gr.Radio(["probabilities", "logits"], value="probabilities", label="The files hold")
        unit = gr.Radio(["nats", "bits"], value="nats", label="Unit")
        convention = gr.Radio(["paper", "reference"], value="paper", label="Convention")
    button = gr.Button("Measure", variant="primary")
    with gr.Row():
        table = gr.Markdown()
        plot = gr.BarPlot(x="class", y="value", y_title="divergence", title="Divergence of each class", sort=None)
    button.click(measure, [forget, unseen, kind, unit, convention], [table, plot])

if __name__ == "__main__":
    demo.launch(max_file_size="200mb")
