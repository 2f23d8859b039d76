"""What a person at a terminal sees: one bar at a time, nothing that tells nothing or is obeyed, no table too wide."""

from __future__ import annotations

import io
import logging
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from hf_lotus.utils.text import fold_tables, printable

# What progress bars write to go back to the start of a line, and up to an earlier one.
_MOVES = re.compile(r"(?:\r|\n|\x1b\[A)*")


class _Untold(logging.Filter):
    """Drops the lines of a library that say nothing to the reader of a command."""

    # Checkpoints are told apart by the number in their name just as well.
    # A model that lacks weights, or has them in other shapes, is refused in words of ours.
    TEXTS = ("mtime may not be reliable", "| MISSING", "| MISMATCH")

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in self.TEXTS)


def quieten() -> None:
    """Leave out bars of moments: a model's weights being read or written. Those of the data set and of work stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    for handler in transformers_logging.get_logger("transformers").handlers:
        if not any(isinstance(each, _Untold) for each in handler.filters):
            handler.addFilter(_Untold())


class Escaping:
    """A text stream that shows the control characters in what is written, and lets none of them through.

    Names of classes, files, columns and repositories are anybody's; this is the one place where they reach a terminal.
    A table that is printed at once is folded to the width of the terminal; a file or a pipe gets it whole.

    Args:
        stream: where it all goes; everything but writing is its own.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write; what a progress bar writes first to move about its own lines stays."""
        moves = cast(re.Match, _MOVES.match(text)).group()
        shown = printable(text[len(moves) :])
        if self._stream.isatty():
            shown = fold_tables(shown, shutil.get_terminal_size().columns)
        self._stream.write(moves + shown)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of them."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


io.TextIOBase.register(Escaping)


@contextmanager
def escaped() -> Iterator[None]:
    """Have both streams of the process escape what is printed within the block."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Escaping(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
