"""Parsers whose flags are the fields of dataclasses, and which say in one line what they cannot read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_type_hints

from hf_lotus.cli.one_line_parser import OneLineParser

if TYPE_CHECKING:
    from hf_lotus.cli.dataclass_parser import FlagParser

T = TypeVar("T")


def flag_parser(kinds: type | Sequence[type], command: str, epilog: str | None = None) -> FlagParser:
    """The parser of `hf-lotus COMMAND`, which takes no abbreviations.

    Args:
        kinds: the dataclass or dataclasses to fill; every field is a flag.
        command: the command's name, for its help.
        epilog: what the help ends with.
    """
    from hf_lotus.cli.dataclass_parser import FlagParser  # here, as `parse_text_flags` is to do without transformers

    # transformers declares the dataclasses as a `NewType` of its own, which no class is.
    return FlagParser(cast(Any, kinds), prog=f"hf-lotus {command}", allow_abbrev=False, epilog=epilog)


def text_flag_parser(kind: type, command: str) -> OneLineParser:
    """The same parser of a dataclass whose fields are all text or lists of text, without transformers.

    Args:
        kind: the dataclass; its fields have defaults, and their metadata are those of `HfArgumentParser`.
        command: the command's name, for its help.

    Raises:
        TypeError: for a field of another kind.
    """
    parser = OneLineParser(
        prog=f"hf-lotus {command}",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    hints = get_type_hints(kind)
    for each in fields(kind):
        hint = hints[each.name]
        if not {hint, *get_args(hint)} <= {str, list[str], str | None, list[str] | None, type(None)}:
            raise TypeError(f"The field {each.name} of {kind.__name__} must be text or a list of text, got {hint}.")
        names = dict.fromkeys((f"--{each.name}", f"--{each.name.replace('_', '-')}"))
        parser.add_argument(*names, default=each.default, **each.metadata)
    return parser


def parse_text_flags(argv: Sequence[str], kind: type[T], command: str) -> T:
    """An instance of the dataclass of `text_flag_parser` from a command line.

    Raises:
        ValueError: for what is no flag's.
    """
    values, others = text_flag_parser(kind, command).parse_known_args(argv)
    if others:
        raise ValueError(f"There is no option for {' '.join(others)}; hf-lotus {command} --help lists the options.")
    return kind(**vars(values))
