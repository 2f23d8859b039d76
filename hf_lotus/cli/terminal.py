"""What a person at a terminal sees: one bar at a time, and no line that tells them nothing."""

from __future__ import annotations

import logging


class _Untold(logging.Filter):
    """Drops the lines of a library that say nothing to the reader of a command."""

    # Checkpoints are told apart by the number in their name just as well.
    TEXTS = ("mtime may not be reliable",)

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in self.TEXTS)


def quieten() -> None:
    """Leave out bars of moments: a model's weights being read or written. Those of the data set and of work stay."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    for handler in transformers_logging.get_logger("transformers").handlers:
        if not any(isinstance(each, _Untold) for each in handler.filters):
            handler.addFilter(_Untold())
