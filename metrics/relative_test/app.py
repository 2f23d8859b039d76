"""The Space's page: upload three models' predictions, read whether the unlearned one is nearer to the original."""

from __future__ import annotations

from pathlib import Path

import evaluate
import gradio as gr
from tables import FORMAT, bars, computed, markdown, read_table

INTRODUCTION = f"""\
# The relative test: is the unlearned model still nearer to the original?

Is the **unlearned** model's output on the forget set nearer to the **original** model's than to that of a model that
never saw the forget set? A small p-value means "not forgotten"; a large one is no proof of forgetting. Upload the
**retrained** model's predictions on the forget set, or the original's on **unseen** data, or both.

{FORMAT}
The files of the forget set must have the same samples in the same order.
"""
FILES = {
    "unlearned": "Unlearned model on the forget set",
    "original": "Original model on the forget set",
    "reference": "Retrained model on the forget set (or the next)",
    "unseen": "Original model on unseen data",
}
NAMES = {
    "p_value": "p-value: small means not forgotten",
    "statistic": "leans to the original by",
    "mmd2_original": "squared discrepancy from the original",
    "mmd2_reference": "squared discrepancy from the reference",
    "references_p_value": "p-value of: original and reference are alike",
    "n": "samples tested",
}


def measure(
    unlearned: str | None, original: str | None, reference: str | None, unseen: str | None, kind: str
) -> tuple[str, gr.BarPlot]:
    """The table of results, and the p-value of each form of the test."""
    metric = evaluate.load(str(Path(__file__).with_name("relative_test.py")), from_logits=kind == "logits")
    paths = {"unlearned": unlearned, "original": original, "reference": reference, "unseen": unseen}
    for source, path in paths.items():
        if path is None and source in ("reference", "unseen"):
            continue
        rows, labels, _ = read_table(path, FILES[source], labelled=True)
        try:
            metric.add_batch(predictions=rows, references=labels, source=source)
        except ValueError as error:
            raise gr.Error(f"In the file {FILES[source]!r}: {error}") from error
    result = computed(metric)
    shown, values = [], {}
    for prefix, against in (("", "the retrained model"), ("unseen_", "unseen data")):
        if f"{prefix}p_value" not in result:
            continue
        if result[f"{prefix}reason"]:
            gr.Warning(result[f"{prefix}reason"])
        shown += [(f"against {against}: {text}", result[prefix + name]) for name, text in NAMES.items()]
        values[against] = result[f"{prefix}p_value"] or 0.0
    return markdown(shown), bars(values, top=1)


with gr.Blocks(title="Relative test") as demo:
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        files = [gr.File(label=label, file_types=[".csv", ".parquet"]) for label in FILES.values()]
    kind = gr.Radio(["probabilities", "logits"], value="probabilities", label="The files hold")
    button = gr.Button("Test", variant="primary")
    with gr.Row():
        table = gr.Markdown()
        plot = gr.BarPlot(x="class", y="value", x_title="against", y_title="p-value", title="p-value", sort=None)
    button.click(measure, [*files, kind], [table, plot])

if __name__ == "__main__":
    demo.launch(max_file_size="200mb")
