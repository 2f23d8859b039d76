"""Flags and `--config file.yaml` into dataclasses, with the fields of the chosen method among them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from hf_lotus.cli.flags import flag_parser
from hf_lotus.cli.method_flags import MethodFlags
from hf_lotus.methods import METHODS
from hf_lotus.methods.options import INNER, inner_names
from hf_lotus.utils.text import nearest


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
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("config", "method", INNER):
        early.add_argument(f"--{flag}")
    known, _ = early.parse_known_args(argv)
    settings = _read_config(known.config) if known.config else {}
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
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("config", "method"):
        early.add_argument(f"--{flag}")
    known, _ = early.parse_known_args(argv)
    return known.method or (_read_config(known.config).get("method") if known.config else None)


def _read_config(path: str) -> dict:
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold options as `name: value` lines, got {type(settings).__name__}.")
    return settings


def _apply(parser: HfArgumentParser, settings: dict, path: str | None) -> None:
    """Make the file's values the defaults; argparse converts text, so numbers are given to it as text."""
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    for name, value in settings.items():
        if name not in actions:
            raise ValueError(f"{path} has the option {name!r}, which does not exist. {nearest(name, list(actions))}")
        # A flag parses the text that a user types; a file's numbers take the same way, so that 1e-4, which YAML reads
        # as text, and 0.0001 are both right.
        action = actions[name]
        convert = action.type if callable(action.type) else str
        if isinstance(value, list):
            value = [convert(str(v)) for v in value]
        elif value is not None and not isinstance(value, (bool, dict)):
            value = convert(str(value))
        action.required = False
        parser.set_defaults(**{name: value})
