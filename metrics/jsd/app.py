"""The Space's page: upload the predictions of an unlearned and of a retrained model, read their divergence."""

from __future__ import annotations

import math
from pathlib import Path

import evaluate
import gradio as gr
import numpy as np
from tables import FORMAT, bars, computed, markdown, read_table

INTRODUCTION = f"""\
# JSD: how far from a retrained model?

The mean Jensen-Shannon divergence between the predictions of an **unlearned** model and of a model **retrained**
without the forget set, on the forget set. Read it beside the original model's own value, and beside the floor: the
divergence of the original from the retrained model on a test set that neither has seen.

{FORMAT}
The two files hold the same samples in the same order. The labels are optional here: they give the bars.
"""


def measure(
    unlearned: str | None, retrained: str | None, kind: str, unit: str, convention: str
) -> tuple[str, gr.BarPlot]:
    """The table of results, and the divergence of each class."""
    p, labels, names = read_table(unlearned, "unlearned", labelled=False)
    q, other_labels, _ = read_table(retrained, "retrained", labelled=False)
    if labels is not None and other_labels is not None and not np.array_equal(labels, other_labels):
        raise gr.Error("The labels of the two files differ: they must hold the same samples in the same order.")
    metric = evaluate.load(
        str(Path(__file__).with_name("jsd.py")),
        from_logits=kind == "logits",
        base=2 if unit == "bits" else math.e,
        convention=convention,
    )
    given = {} if labels is None else {"labels": labels}
    result = computed(metric, predictions=p, references=q, **given)
    paper = convention == "paper"
    shown = (f"JSD, {unit}" if paper else "JSD × 1e4", result["jsd"] * (1 if paper else 1e4))
    per_class = {names[c]: value for c, value in result.get("per_class", {}).items()}
    return markdown([shown, ("samples", result["num_rows"])]), bars(per_class)


with gr.Blocks(title="JSD") as demo:
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        unlearned = gr.File(label="Unlearned model on the forget set", file_types=[".csv", ".parquet"])
        retrained = gr.File(label="Retrained model on the forget set", file_types=[".csv", ".parquet"])
    with gr.Row():
        kind = gr.Radio(["probabilities", "logits"], value="probabilities", label="The files hold")
        unit = gr.Radio(["nats", "bits"], value="nats", label="Unit")
        convention = gr.Radio(["paper", "reference"], value="paper", label="Convention")
    button = gr.Button("Measure", variant="primary")
    with gr.Row():
        table = gr.Markdown()
        plot = gr.BarPlot(x="class", y="value", y_title="divergence", title="Mean divergence of each class", sort=None)
    button.click(measure, [unlearned, retrained, kind, unit, convention], [table, plot])

if __name__ == "__main__":
    demo.launch(max_file_size="200mb")
