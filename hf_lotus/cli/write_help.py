"""Writes the help that is shipped, `help.json`, from the parsers: `python -m hf_lotus.cli.write_help`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from contextlib import suppress
from typing import Any
from unittest.mock import patch

from transformers import TrainingArguments

from hf_lotus.cli.main import COMMANDS
from hf_lotus.cli.shipped_help import SHIPPED, installed
from hf_lotus.utils.plugins import any_plugin

# What of an argparse action its help is made of.
_TOLD = ("nargs", "choices", "metavar", "default", "required", "help")


def commands() -> list[str]:
    """All commands that have options, by their words."""
    return [*(name for name in COMMANDS if name != "request"), *(f"request {it}" for it in ("add", "list", "run"))]


def built_parser(command: str) -> argparse.ArgumentParser:
    """The parser that a command builds, caught when it is about to print its help."""
    name, *action = command.split()
    module = importlib.import_module(f"hf_lotus.cli.{COMMANDS[name][0]}")
    caught: list[argparse.ArgumentParser] = []
    keep = patch.object(argparse.ArgumentParser, "print_help", lambda parser, file=None: caught.append(parser))
    with keep, suppress(SystemExit):
        module.run([*action, "--help"])
    (parser,) = caught
    return parser


def document() -> dict[str, Any]:
    """What `help.json` has to hold, from the parsers.

    Raises:
        ValueError: if there is a plugin, which the help of others would then name.
    """
    if any_plugin():
        raise ValueError("A distribution with a plugin for hf_lotus is installed here: the help would name it.")
    options: dict[str, dict[str, Any]] = {}
    described: dict[str, dict[str, Any]] = {}
    for command in commands():
        parser, names = built_parser(command), []
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction):
                continue
            told = _told(action)
            name = told["names"][0]
            if options.get(name, told) != told:  # of the same name as another command's, and not the same
                name = f"{name} of {command}"
            options[name] = told
            names.append(name)
        kinds = getattr(parser, "dataclass_types", ())
        described[command] = {
            "prog": parser.prog,
            "trains": any(issubclass(kind, TrainingArguments) for kind in kinds),
            "shows_defaults": parser.formatter_class is argparse.ArgumentDefaultsHelpFormatter,
            "epilog": parser.epilog,
            "options": names,
        }
    return {"transformers": installed(), "commands": described, "options": options}


def _told(action: argparse.Action) -> dict[str, Any]:
    told = {name: getattr(action, name) for name in _TOLD}
    told["choices"] = None if action.choices is None else [str(choice) for choice in action.choices]
    if not isinstance(action.default, (str, int, float, list, type(None))):
        told["default"] = str(action.default)
    if not (action.required and action.option_strings):  # of what has no dashes argparse knows it itself
        del told["required"]
    return {"names": list(action.option_strings) or [action.dest], **{k: v for k, v in told.items() if v is not None}}


def main() -> int:
    """Write `help.json`."""
    text = json.dumps(document(), indent=1, ensure_ascii=False)
    SHIPPED.write_text(text + "\n", encoding="utf-8")
    print(f"{SHIPPED} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
