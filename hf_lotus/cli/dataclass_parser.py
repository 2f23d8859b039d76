"""transformers' parser of dataclasses, with errors of one line."""

from __future__ import annotations

from typing import Any

from transformers import HfArgumentParser

from hf_lotus.cli.one_line_parser import OneLineParser
from hf_lotus.utils.text import nearest


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
