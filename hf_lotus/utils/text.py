"""Text for people: names that were nearly right, figures, and Markdown tables."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Sequence

# Characters that Markdown reads as marks: these anywhere, the last two unless letters or digits stand on both sides.
_MARKDOWN = re.compile(r"[\\`*\[\]|~$#]|(?<!\w)[_-]|[_-](?!\w)")


def plain(text: object) -> str:
    """Text of a user's, made to stay text in Markdown and HTML, on one line."""
    one_line = " ".join(str(text).split())
    return _MARKDOWN.sub(r"\\\g<0>", html.escape(one_line, quote=False))


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


def nearest(name: str, names: list[str]) -> str:
    """The allowed names for an error message: the nearest few first, where there are any."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    shown = ", ".join(repr(n) for n in (close or names[:20]))
    if close:
        return f"Did you mean {shown}?"
    return f"There are: {shown}{' …' if len(names) > 20 else ''}."
