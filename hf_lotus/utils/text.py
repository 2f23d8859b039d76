"""Text for people: names that were nearly right, figures, and Markdown tables."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Sequence

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


def nearest(name: str, names: list[str]) -> str:
    """The allowed names for an error message: the nearest few first, where there are any."""
    close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    shown = ", ".join(repr(n) for n in (close or names[:20]))
    if close:
        return f"Did you mean {shown}?"
    return f"There are: {shown}{' …' if len(names) > 20 else ''}."
