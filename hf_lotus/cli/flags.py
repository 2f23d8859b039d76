"""A parser whose flags are the fields of dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from transformers import HfArgumentParser


def flag_parser(kinds: type | Sequence[type], command: str, epilog: str | None = None) -> HfArgumentParser:
    """The parser of `hf-lotus COMMAND`, which takes no abbreviations.

    Args:
        kinds: the dataclass or dataclasses to fill; every field is a flag.
        command: the command's name, for its help.
        epilog: what the help ends with.
    """
    # transformers declares the dataclasses as a `NewType` of its own, which no class is.
    return HfArgumentParser(cast(Any, kinds), prog=f"hf-lotus {command}", allow_abbrev=False, epilog=epilog)
