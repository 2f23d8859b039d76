"""The Space's page: upload the model's predictions on members, non-members and the forget set, read the attack."""

from __future__ import annotations

from pathlib import Path

import evaluate
import gradio as gr
from tables import FORMAT, bars, computed, markdown, read_table

INTRODUCTION = f"""\
# Membership inference: does the forget set still look trained on?

An attack learns to tell **members** (data that the model was trained on and is still to know) from **non-members**
(data that it never saw) by the unlearned model's predictions, and then judges the **forget set**. The share that it
calls member should be close to the share of non-members that it calls member, by mistake: neither above nor below.

{FORMAT}
The labels are needed for the attack on the confidence alone.
"""
FILES = {"member": "Members (the retain set)", "non_member": "Non-members (never seen)", "forget": "The forget set"}


def measure(
    member: str | None, non_member: str | None, forget: str | None, kind: str, attack: str
) -> tuple[str, gr.BarPlot]:
    """The table of results, and the share of each set that the attack calls member."""
    metric = evaluate.load(
        str(Path(__file__).with_name("membership_inference.py")), from_logits=kind == "logits", attack=attack
    )
    for source, path in (("member", member), ("non_member", non_member), ("forget", forget)):
        rows, labels, _ = read_table(path, FILES[source], labelled=attack == "confidence")
        try:
            metric.add_batch(predictions=rows, references=labels, source=source)
        except ValueError as error:
            raise gr.Error(f"In the file {FILES[source]!r}: {error}") from error
    result = computed(metric)
    rates = {"forget set": result["member_rate"], "non-members": result["non_member_rate"]}
    return markdown([(name.replace("_", " "), value) for name, value in result.items()]), bars(rates, top=1)


with gr.Blocks(title="Membership inference") as demo:
    gr.Markdown(INTRODUCTION)
    with gr.Row():
        files = [gr.File(label=label, file_types=[".csv", ".parquet"]) for label in FILES.values()]
    with gr.Row():
        kind = gr.Radio(["probabilities", "logits"], value="probabilities", label="The files hold")
        attack = gr.Radio(["entropy", "confidence"], value="entropy", label="What the attack looks at")
    button = gr.Button("Measure", variant="primary")
    with gr.Row():
        table = gr.Markdown()
        plot = gr.BarPlot(x="class", y="value", x_title=" ", y_title="share", title="Called member", sort=None)
    button.click(measure, [*files, kind, attack], [table, plot])

if __name__ == "__main__":
    demo.launch(max_file_size="200mb")
