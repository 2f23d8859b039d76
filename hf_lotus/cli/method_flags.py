"""The fields of a method as flags, with the help that their docstrings hold already."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from dataclasses import field, make_dataclass
from typing import Any, cast

from transformers import HfArgumentParser

from hf_lotus.methods import UnlearningMethod
from hf_lotus.methods.options import MethodFields


class MethodFlags:
    """The flags of one method, and the method made from their values.

    Args:
        name: the method's name.
        inner: name of the method within it, if another than its default.

    Raises:
        ValueError: if there is no such method, or it holds none.
    """

    def __init__(self, name: str, inner: str | None = None):
        self.fields = MethodFields(name, inner)
        hints, defaults = self.fields.hints(), self.fields.defaults()
        flags = [(name, *_flag(hint, defaults[name])) for name, hint in hints.items()]
        self.dataclass = make_dataclass(self.fields.kind.__name__, flags)

    def build(self, values: object) -> UnlearningMethod:
        """The method of an instance of `dataclass`."""
        return self.fields.build({name: getattr(values, name) for name in self.fields.hints()})

    def describe(self, parser: HfArgumentParser) -> None:
        """Give each flag the help of its field."""
        described = self.fields.descriptions()
        for action in parser._actions:
            if action.dest in described:
                kind, text = described[action.dest]
                action.help = f"[{kind}] {text}".rstrip().replace("%", "%%")


def _flag(hint: Any, default: object) -> tuple[Any, Any]:
    """Type and field of a flag; a tuple is given as a list."""
    if typing.get_origin(hint) is tuple:
        values = cast(Iterable, default)
        # Made at run time: no type that a checker could read.
        return types.GenericAlias(list, typing.get_args(hint)[0]), field(default_factory=lambda: list(values))
    if isinstance(hint, types.UnionType):
        hint = typing.Optional[next(kind for kind in typing.get_args(hint) if kind is not type(None))]  # noqa: UP045
    return hint, field(default=default)
