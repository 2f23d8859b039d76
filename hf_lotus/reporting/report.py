"""A report of a benchmark: one self-contained HTML page, the same as Markdown, and the results as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from markupsafe import Markup

from hf_lotus.evaluation.results import FORMAT_VERSION, REFERENCE_ROW, UnlearningResult, is_control_row
from hf_lotus.reporting.html import rendered
from hf_lotus.reporting.paper import paper_results, paper_table
from hf_lotus.reporting.report_figures import Figure, report_figures
from hf_lotus.reporting.tables import explanation, summarize, summary_cells
from hf_lotus.utils.files import write_whole
from hf_lotus.utils.text import markdown_table, plain

HTML, MARKDOWN, JSON = "report.html", "report.md", "results.json"
PAPER_NOTE = (
    "Ours, with the paper's forget split, in the convention of its published code: JSD and RF-JSD are not the "
    "divergences above, and Avg Gap is that of rounded means. The paper's baselines are as they were published: SCRUB "
    "is the model as it was, NegGrad+ never ascends, and most were evaluated in train mode."
)
REDUCED_NOTE = (
    "This run is smaller than its recipe ({}). Its figures are not those that the recipe gives, and not comparable "
    "with the paper's."
)


def write_report(
    folder: str | Path,
    results: Sequence[UnlearningResult],
    *,
    title: str,
    paper: str | None = None,
    reduced: Sequence[str] = (),
) -> str:
    """Write `report.html`, `report.md` and `results.json`; return the table and, if any, the paper's, as Markdown.

    The page needs no network, and every figure in it has its numbers as a table. Names are shown as they are written.

    Args:
        folder: where to, made if it is not there.
        results: one a run, with the same models in each (`Comparison.run`).
        title: heading of the report.
        paper: name of the setting whose published figures stand beside ours; None for none.
        reduced: in what the run is smaller than its recipe, in words, which the report then says first.

    Raises:
        ValueError: if the runs' models differ, or the paper has no such setting.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = summarize(results)
    beside = paper_table(paper, results) if paper is not None else None
    figures, facts = report_figures(results), _facts(results)
    smaller = REDUCED_NOTE.format(", ".join(reduced)) if reduced else ""
    runs = [{"format_version": FORMAT_VERSION, **result.to_dict()} for result in results]
    write_whole(folder / JSON, json.dumps({"title": title, "runs": runs}, indent=1, allow_nan=False) + "\n")
    write_whole(folder / MARKDOWN, _markdown(title, smaller, table, beside, figures, facts))
    write_whole(folder / HTML, _html(title, smaller, results, beside, figures, facts))
    return table if beside is None else f"{table}\n\n{_plain_table(*beside)}"


def _facts(results: Sequence[UnlearningResult]) -> list[tuple[str, str]]:
    """How the results came about: (what, text); what differs between the runs is given for each."""
    facts: dict[str, list[str]] = {}
    for result in results:
        about = result.provenance
        identical, _, found = (about.get("duplicates") or "").partition(": ")  # "Identical images: …"
        seen = {
            "Protocol": about.get("protocol"),
            "Model": _short(about.get("model")),
            "Data set": about.get("dataset"),
            "Forgotten": _short(about.get("selector")),
            "Samples": _short(about.get("samples")),
            "Seed": about.get("seed"),
            identical or "Identical samples": found or None,
            "Training of the original (s)": _short(about.get("original_seconds")),
            "Cost of the process until then": _short(about.get("cost")),
            "Hardware": _short(about.get("hardware")),
            "Versions": _short(about.get("versions")),
            "Command": about.get("command"),
        }
        for what, value in seen.items():
            if value is not None and str(value) not in facts.setdefault(what, []):
                facts[what].append(str(value))
    return [(what, " · ".join(values)) for what, values in facts.items() if values]


def _short(value: object) -> str | None:
    if isinstance(value, float):
        return f"{value:.1f}"
    if not isinstance(value, dict):
        return None if value is None else str(value)
    return ", ".join(f"{name} {number}" for name, number in value.items() if number is not None)


def _methods(results: Sequence[UnlearningResult]) -> list[tuple[str, str]]:
    """(row, settings) of each method, as JSON."""
    methods = results[0].provenance.get("methods", {})
    return [(name, json.dumps(settings, default=str)) for name, settings in methods.items()]


def _html(
    title: str,
    smaller: str,
    results: Sequence[UnlearningResult],
    beside: tuple[list[str], list[list[str]]] | None,
    figures: Sequence[Figure],
    facts: Sequence[tuple[str, str]],
) -> str:
    headings, rows = summary_cells(results)
    shown = [{**asdict(f), "panels": [(caption, Markup(svg)) for caption, svg in f.panels]} for f in figures]
    return rendered(
        "report.html",
        title=title,
        smaller=smaller,
        headings=headings,
        rows=rows,
        control_rows=[name for name, _ in rows if is_control_row(name) or name == REFERENCE_ROW],
        notes=[line.replace("*", "").removeprefix("- ") for line in explanation(results)],
        paper=beside,
        paper_note=PAPER_NOTE,
        paper_source=paper_results()["source"],
        figures=shown,
        facts=facts,
        methods=_methods(results),
    )


def _markdown(
    title: str,
    smaller: str,
    table: str,
    beside: tuple[list[str], list[list[str]]] | None,
    figures: Sequence[Figure],
    facts: Sequence[tuple[str, str]],
) -> str:
    parts = [f"# {plain(title)}", *([f"**{plain(smaller)}**"] if smaller else []), table]
    if beside is not None:
        parts += ["## Beside the paper", PAPER_NOTE, _plain_table(*beside), f"Source: {paper_results()['source']}"]
    for figure in figures:
        parts += [f"## {figure.title}", figure.explanation, _plain_table(figure.header, figure.rows)]
    parts += ["## How this came about", "\n".join(f"- {what}: {plain(text)}" for what, text in facts)]
    return "\n\n".join(parts) + "\n"


def _plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table([plain(cell) for cell in header], [[plain(cell) for cell in row] for row in rows])
