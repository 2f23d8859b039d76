"""A parser whose flags are the fields of dataclasses, and which says in one line what it cannot read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn, cast

from transformers import HfArgumentParser

from hf_lotus.utils.text import nearest


class OneLineParser(argparse.ArgumentParser):
    """A parser that raises a `ValueError` in place of printing its usage and ending the process.

    Raises:
        ValueError: from `parse_args`, for words that it cannot read.
    """

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where the flags are listed."""
        raise ValueError(f"{message}. {self.prog} --help lists the options.")


class FlagParser(OneLineParser, HfArgumentParser):
    """`HfArgumentParser`, which fills dataclasses, with errors of one line."""

    def parse_args_into_dataclasses(self, args: Any = None, *more: Any, **options: Any) -> tuple[Any, ...]:
        """As in `HfArgumentParser`; names the nearest flag where one does not exist."""
        known = self.parse_known_args(args)[1]
        if known:
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = known[0].partition("=")[0]
            near = f" {nearest(name, flags)}" if name.startswith("-") else ""
            raise ValueError(
                f"There is {known[0]}, which does not exist.{near}" if near else f"{known[0]!r} is too much."
            )
        return super().parse_args_into_dataclasses(args, *more, **options)


def flag_parser(kinds: type | Sequence[type], command: str, epilog: str | None = None) -> FlagParser:
    """The parser of `hf-lotus COMMAND`, which takes no abbreviations.

    Args:
        kinds: the dataclass or dataclasses to fill; every field is a flag.
        command: the command's name, for its help.
        epilog: what the help ends with.
    """
    # transformers declares the dataclasses as a `NewType` of its own, which no class is.
    return FlagParser(cast(Any, kinds), prog=f"hf-lotus {command}", allow_abbrev=False, epilog=epilog)
