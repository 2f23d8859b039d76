"""Renew the tables of results in the README and the pages: the columns that matter, out of the file that has them all.

    python benchmarks/docs_tables.py

A table stands between `<!-- results: FILE | column | column -->` and `<!-- end of results -->`, FILE being a path
under `docs/`: a CSV, the `results.json` of a benchmark or a comparison, or a page whose first table is meant. With
the word `unmarked` among the columns, bold and italics are left out.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hf_lotus import UnlearningResult, summarize

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
TABLE = re.compile(r"(<!-- results: (?P<what>[^\n]+?) -->\n).*?(<!-- end of results -->)", re.S)
UNMARKED = "unmarked"


def pages() -> list[Path]:
    """The README and every page under `docs/`."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def cells(markdown: str) -> list[list[str]]:
    """The first table of a text: heads, then rows."""
    table = re.search(r"^\|.*?(?=^[^|]|\Z)", markdown, re.M | re.S).group()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line]
    return [rows[0], *rows[2:]]


def read(path: Path) -> list[list[str]]:
    """Heads and rows with all columns."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".csv":
        return list(csv.reader(text.splitlines()))
    if path.suffix == ".md":
        return cells(text)
    with tempfile.TemporaryDirectory() as folder:  # a report holds its runs in one file, and each is a result
        results = []
        document = json.loads(text)
        for number, run in enumerate(document.get("runs", [document])):
            part = Path(folder) / f"{number}.json"
            part.write_text(json.dumps(run), encoding="utf-8")
            results.append(UnlearningResult.from_json(part))
    return cells(summarize(results))


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Heads and rows, as a file that `read` reads."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    """The Markdown table of some columns, the first one kept, lined up as plain text too."""
    wanted = [column for column in columns if column != UNMARKED]
    unknown = [column for column in wanted if column not in rows[0]]
    if unknown:
        raise ValueError(f"There is no column {', '.join(unknown)}; there are {', '.join(rows[0][1:])}.")
    places = [0, *(rows[0].index(column) for column in wanted)]
    shown = [[row[place] for place in places] for row in rows]
    if UNMARKED in columns:
        shown = [[row[0], *(cell.replace("*", "") for cell in row[1:])] for row in shown]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in shown
    ]
    ruler = "|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""])
    return "\n".join([lines[0], ruler, *lines[1:]])


def renewed(text: str) -> str:
    """A page with its tables made anew."""

    def replace(found: re.Match) -> str:
        file, *columns = (part.strip() for part in found["what"].split("|"))
        return found[1] + table(read(DOCS / file), columns) + "\n" + found[3]

    return TABLE.sub(replace, text)


def main() -> None:
    """Write what has changed."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = renewed(before)
        if after != before:
            page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
