"""The help of the commands, shipped as data: to print it takes a moment, to build the parsers takes PyTorch.

`help.json` has options, not text, so that the help fits the terminal and the Python that it is printed by.
`python -m hf_lotus.cli.write_help` writes it anew from the parsers, and a test holds them together.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hf_lotus.utils.plugins import any_plugin

SHIPPED = Path(__file__).with_name("help.json")
_ASKED = ("-h", "--help")


def shipped_parser(words: Sequence[str]) -> argparse.ArgumentParser | None:
    """A parser that can do nothing but print the help of a command.

    Args:
        words: the whole command line: ["compare", "--help"].

    Returns:
        None where the help must be that of the parser itself: where more is given than `--help`, or where what is
        installed differs from what the shipped help was made with: the release of transformers, for a command that
        has the options of its training arguments, or a plugin.
    """
    if not words or words[-1] not in _ASKED:
        return None
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    found = shipped["commands"].get(" ".join(words[:-1]))
    if found is None or any_plugin():
        return None
    if found["trains"] and installed() != shipped["transformers"]:
        return None
    return _rebuilt(found, shipped["options"])


def _rebuilt(found: dict[str, Any], options: dict[str, Any]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=found["prog"],
        epilog=found["epilog"],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter if found["shows_defaults"] else argparse.HelpFormatter,
    )
    for name in found["options"]:
        told = dict(options[name])
        parser.add_argument(*told.pop("names"), action=argparse.Action, **told)
    return parser


def installed() -> str | None:
    """The release of transformers."""
    try:
        return version("transformers")
    except PackageNotFoundError:
        return None
