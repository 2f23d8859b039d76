"""Flags and `--config file.yaml` into dataclasses, with the fields of the chosen method among them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from transformers import HfArgumentParser

from hf_lotus.cli.flags import flag_parser
from hf_lotus.cli.method_flags import MethodFlags
from hf_lotus.cli.one_line_parser import OneLineParser
from hf_lotus.methods import METHODS
from hf_lotus.methods.options import INNER, inner_names
from hf_lotus.utils.documents import read_yaml
from hf_lotus.utils.text import nearest, one_line


def parse(
    argv: list[str],
    dataclass_types: list[type],
    command: str,
    method: str | None = None,
    section: str | None = None,
    epilog: str | None = None,
    positional: tuple[str, str] | None = None,
    optional: Sequence[str] = (),
) -> tuple[Any, ...]:
    """Parse a command line into one instance of each dataclass.

    Values come from flags first, then from the YAML file named by `--config`, then from the defaults.

    Args:
        argv: the arguments after the command's name.
        dataclass_types: the dataclasses to fill; every field is a flag.
        command: the command's name, for its help.
        method: name of the method to take unless `--method` or the file names one; its fields are flags too. None
            for a command that uses no method, or several.
        section: a key of the file that holds a mapping, which is no flag's value.
        epilog: what the help ends with.
        positional: name and help of an argument that is no flag, and may be left out.
        optional: fields that need not be given, though their dataclass has no default for them; None then.

    Returns:
        the dataclasses in order, then the method object, if the command uses one, then the section, {} if there is
        none, then the value of the positional argument, if the command takes one.

    Raises:
        ValueError: for a key of the file, or a method, that does not exist.
    """
    known, settings = _early(argv, command)
    found = settings.pop(section) if section and isinstance(settings.get(section), dict) else {}
    name = flags = None
    if method is not None:
        name = str(known.method or settings.get("method") or method)
        flags = MethodFlags(name, known.inner or settings.get(INNER))
    kinds = [*dataclass_types, *([flags.dataclass] if flags else [])]
    try:
        parser = flag_parser(kinds, command, epilog)
    except argparse.ArgumentError as error:  # only a method of others has such a field
        raise ValueError(f"A field of the method {name!r} has the name of another option: {error}.") from error
    parser.add_argument("--config", help="YAML file of any of these options, without the dashes.")
    if positional is not None:
        parser.add_argument(positional[0], nargs="?", help=positional[1])
    for action in parser._actions:
        action.required = action.required and action.dest not in optional
    if flags:
        parser.add_argument("--method", default=name, choices=list(METHODS), help="The unlearning method.")
        parser.add_argument(f"--{INNER}", choices=inner_names(), help="The method within salun or warm_restart.")
        flags.describe(parser)
    _apply(parser, settings, known.config)
    parsed: tuple[Any, ...] = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    namespace, parsed = parsed[-1], parsed[: len(dataclass_types) + bool(flags)]
    if flags:
        parsed = (*parsed[:-1], flags.build(parsed[-1]))
    more = ([found] if section else []) + ([getattr(namespace, positional[0])] if positional is not None else [])
    return (*parsed, *more)


def asked_method(argv: list[str]) -> str | None:
    """The method that a command line names by `--method` or in its `--config` file; None where neither does."""
    known, settings = _early(argv, "unlearn")
    return known.method or settings.get("method")


def _early(argv: list[str], command: str) -> tuple[argparse.Namespace, dict[str, Any]]:
    """What decides which flags there are, and what the file of options holds; {} where there is none."""
    early = OneLineParser(prog=f"hf-lotus {command}", add_help=False, allow_abbrev=False)
    for flag in ("config", "method", INNER):
        early.add_argument(f"--{flag}")
    known, _ = early.parse_known_args(argv)
    return known, _read_config(known.config) if known.config else {}


def _read_config(path: str) -> dict[str, Any]:
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold options as `name: value` lines, got {type(settings).__name__}.")
    return settings


def _apply(parser: HfArgumentParser, settings: dict[str, Any], path: str | None) -> None:
    """Make the file's values the defaults; argparse converts text, so numbers are given to it as text."""
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    mappings = {f.name for kind in parser.dataclass_types for f in fields(kind) if "dict" in str(f.type)}
    for name, value in settings.items():
        if name not in actions:
            raise ValueError(f"{path} has the option {name!r}, which does not exist. {nearest(name, list(actions))}")
        action = actions[name]
        action.required = False
        if not (isinstance(value, dict) and name in mappings):
            try:
                value = _value(action, value)
            except (ValueError, argparse.ArgumentTypeError) as error:
                raise ValueError(f"{path}: {name} is {_shown(value)}, which it cannot be: {error}.") from error
        parser.set_defaults(**{name: value})


def _value(action: argparse.Action, value: object) -> object:
    """A value of a file as a flag's: checked and converted as argparse does with what a user types."""
    several = action.nargs in ("+", "*") or isinstance(action.nargs, int)
    if isinstance(value, dict) or (isinstance(value, list) and not several):
        raise ValueError("it takes several values, none of them with a name" if several else "it takes one value")
    if isinstance(value, list):
        return [_one(action, each) for each in value]
    if value is None:
        return None
    return [_one(action, value)] if several else _one(action, value)


def _one(action: argparse.Action, value: object) -> object:
    if isinstance(value, (dict, list)):
        raise ValueError("each of its values is a single one")
    # A flag parses the text that a user types; a file's numbers take the same way, so that 1e-4, which YAML reads as
    # text, and 0.0001 are both right.
    found = value if isinstance(value, bool) else (action.type if callable(action.type) else str)(str(value))
    if action.choices is not None and found not in action.choices:
        raise ValueError(f"there are {', '.join(map(repr, action.choices))}")
    return found


def _shown(value: object) -> str:
    return one_line(repr(value), 60)
