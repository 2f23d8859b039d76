"""A method's fields as flags; those of a method within it (SalUn's, a warm restart's) stand beside its own."""

from __future__ import annotations

import inspect
import re
import types
import typing
from dataclasses import MISSING, field, fields, make_dataclass

from transformers import HfArgumentParser

from hf_lotus.methods import METHODS, GradientMethod, Retrain, UnlearningMethod
from hf_lotus.utils.text import nearest

# The field, and flag, that holds another method.
INNER = "inner"


def method_class(name: str) -> type[UnlearningMethod]:
    """The class of a method's name.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in METHODS:
        raise ValueError(f"There is no method {name!r}. {nearest(str(name), list(METHODS))}")
    return METHODS[name]


def inner_names() -> list[str]:
    """Names of the methods that can stand within another: they hold none, take steps, and do not start anew."""
    gradient = {n: kind for n, kind in METHODS.items() if issubclass(kind, GradientMethod) and kind is not Retrain}
    return [n for n, kind in gradient.items() if not _holds_a_method(kind)]


def _holds_a_method(kind: type[UnlearningMethod]) -> bool:
    return INNER in kind.__dataclass_fields__


class MethodFlags:
    """The flags of one method, and the method made from their values.

    Args:
        name: the method's name.
        inner: name of the method within it; by default its own default. Only for methods that hold one.

    Raises:
        ValueError: if there is no such method, or it holds none.
    """

    def __init__(self, name: str, inner: str | None = None):
        self.kind, self.inner = method_class(name), None
        if _holds_a_method(self.kind):
            default = self.kind.__dataclass_fields__[INNER].default
            if inner is not None and inner not in inner_names():
                raise ValueError(
                    f"There is no method {inner!r} to stand within {name}. {nearest(inner, inner_names())}"
                )
            # The default's own settings are kept where it is named.
            self.inner = default if inner is None or METHODS[inner] is type(default) else METHODS[inner]()
        elif inner is not None:
            raise ValueError(f"{name} has no method within it; --{INNER} is for salun and warm_restart.")
        self.own = {f.name: f for f in fields(self.kind) if f.name != INNER}
        self.within = {f.name: f for f in fields(self.inner)} if self.inner is not None else {}
        self.dataclass = self._dataclass()

    def _dataclass(self) -> type:
        hints = typing.get_type_hints(self.kind)
        flags = [(n, *_flag(hints[n], _default(f))) for n, f in self.own.items()]
        if self.inner is not None:
            hints = typing.get_type_hints(type(self.inner))
            flags += [(n, *_flag(hints[n], getattr(self.inner, n))) for n in self.within]
        return make_dataclass(self.kind.__name__, flags)

    def build(self, values: object) -> UnlearningMethod:
        """The method of an instance of `dataclass`."""
        own = {name: getattr(values, name) for name in self.own}
        if self.inner is not None:
            own[INNER] = type(self.inner)(**{name: getattr(values, name) for name in self.within})
        return self.kind(**own)

    def describe(self, parser: HfArgumentParser) -> None:
        """Take the help of the fields from the docstrings, where each is described already."""
        kinds = [(self.own, self.kind)]
        if self.inner is not None:
            kinds.append((self.within, type(self.inner)))
        for names, kind in kinds:
            described = _attributes(kind)
            for action in parser._actions:
                if action.dest in names:
                    action.help = f"[{kind.__name__}] " + described[action.dest].replace("%", "%%")


def _default(own: object) -> object:
    return own.default if own.default is not MISSING else own.default_factory()


def _flag(hint: object, default: object) -> tuple[object, object]:
    """Type and field of a flag; a tuple is given as a list."""
    if typing.get_origin(hint) is tuple:
        return list[typing.get_args(hint)[0]], field(default_factory=lambda: list(default))
    if isinstance(hint, types.UnionType):
        hint = typing.Optional[next(kind for kind in typing.get_args(hint) if kind is not type(None))]  # noqa: UP045
    return hint, field(default=default)


def _attributes(kind: type) -> dict[str, str]:
    text = inspect.getdoc(kind).partition("Attributes:")[2]
    return {n: " ".join(t.split()) for n, t in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.M)}
