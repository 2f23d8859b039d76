"""Text for people: names that were nearly right, figures, and Markdown tables, folded where a screen is narrow."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Sequence
from itertools import groupby

# Characters that Markdown reads as marks: these anywhere, the last two unless letters or digits stand on both sides.
_MARKDOWN = re.compile(r"[\\`*\[\]|~$#]|(?<!\w)[_-]|[_-](?!\w)")


def printable(text: object, keep: str = "\n\t") -> str:
    """Text of anybody's, made safe to print: characters that a terminal would obey are shown as Python writes them.

    So are those that turn the reading direction, and the bytes of a file name that is no text.

    Args:
        text: the text.
        keep: control characters that stay.
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in str(text))


def one_line(text: object, most: int = 600) -> str:
    """Text of anybody's as one line that is safe to print, cut where it is long."""
    line = printable(" ".join(str(text).split()), keep="")
    return line if len(line) <= most else f"{line[:most].rstrip()} …"


def plain(text: object) -> str:
    """Text of a user's, made to stay text in Markdown, HTML and a terminal, on one line."""
    line = printable(" ".join(str(text).split()), keep="")
    return _MARKDOWN.sub(r"\\\g<0>", html.escape(line, quote=False))


def counted(number: int, noun: str) -> str:
    """A number with its noun: `counted(1, "sample")` is "1 sample", `counted(1200, "sample")` is "1200 samples"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def number(value: float | None, decimals: int) -> str:
    """A figure in a table; a dash where there is none."""
    return "–" if value is None else f"{value:.{decimals}f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also line up as plain text."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        return "| " + " | ".join(padded) + " |"

    ruler = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([line(header), ruler, *map(line, rows)])


def fold_tables(text: str, width: int) -> str:
    """A text whose tables of `markdown_table` are no wider than a screen, as far as their columns allow.

    A wider one becomes several, one below the other, each with the first column.

    Args:
        text: the text.
        width: of the screen, in characters.
    """
    lines: list[str] = []
    for is_table, found in groupby(text.split("\n"), lambda line: line.startswith("|")):
        block = list(found)
        is_wide = is_table and len(block) > 1 and len(block[1]) > width and set(block[1]) <= set("|-:")
        lines += _folded(block, width) if is_wide else block
    return "\n".join(lines)


def _folded(table: Sequence[str], width: int) -> list[str]:
    first, *rest = [place for place, mark in enumerate(table[1]) if mark == "|"][1:]
    lines, left = [], first
    while rest:
        fitting = [right for right in rest if first + 1 + right - left <= width] or rest[:1]
        lines += ["", *(line[: first + 1] + line[left + 1 : fitting[-1] + 1] for line in table)]
        left, rest = fitting[-1], rest[len(fitting) :]
    return lines[1:] or [*table]


def nearest(name: str, names: list[str]) -> str:
    """The allowed names for an error message: the nearest few first, where there are any."""
    close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    shown = ", ".join(repr(n) for n in (close or names[:20]))
    if close:
        return f"Did you mean {shown}?"
    return f"There are: {shown}{' …' if len(names) > 20 else ''}."
