"""argparse's parser, with errors of one line."""

from __future__ import annotations

import argparse
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """A parser that raises a `ValueError` in place of printing its usage and ending the process.

    Raises:
        ValueError: from `parse_args`, for words that it cannot read.
    """

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where the flags are listed."""
        raise ValueError(f"{message}. {self.prog} --help lists the options.")
