"""A method from its name and its fields' values; those of a method within it (SalUn's, a restart's) stand beside."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import cast

from hf_lotus.methods.base import GradientMethod, UnlearningMethod
from hf_lotus.methods.registry import METHODS, name_of
from hf_lotus.methods.retrain import Retrain
from hf_lotus.utils.text import nearest
from hf_lotus.utils.values import convert

# The field that holds another method.
INNER = "inner"
# Fields whose metadata say so hold a method by its name alone, with its own defaults, or none.
_HOLDS, NOTHING = "holds", "nothing"


def method_class(name: str) -> type[UnlearningMethod]:
    """The class of a method's name.

    Raises:
        ValueError: if there is none of that name, or its plugin cannot be used.
    """
    if name not in METHODS:
        raise ValueError(f"There is no method {name!r}. {nearest(str(name), list(METHODS))}")
    return METHODS[name]


def inner_names() -> list[str]:
    """Names of the methods that can stand within another: they hold none and no weights, and do not start anew."""
    usable = METHODS.usable()
    gradient = {n: kind for n, kind in usable.items() if issubclass(kind, GradientMethod) and kind is not Retrain}
    whole = {name: kind for name, kind in gradient.items() if not _holds_a_method(kind) and not _named_fields(kind)}
    return [name for name, kind in whole.items() if kind.mask is GradientMethod.mask]


def part_names() -> list[str]:
    """Names that a field which holds a method by its name may have: `inner_names`, masks over one, and nothing."""
    usable = {name: kind for name, kind in METHODS.usable().items() if issubclass(kind, GradientMethod)}
    masks = [n for n, kind in usable.items() if _holds_a_method(kind) and kind.mask is not GradientMethod.mask]
    return [NOTHING, *inner_names(), *masks]


def build_method(name: str, values: Mapping[str, object] | None = None, inner: str | None = None) -> UnlearningMethod:
    """A method: `build_method("salun", {"alpha": "8", "saliency": 0.1}, inner="lotus")`.

    Args:
        name: the method's name.
        values: field → value, as text or as it is, of the method and of the one within it; those left out keep their
            defaults.
        inner: name of the method within it; by default its own default. Only for methods that hold one.

    Raises:
        ValueError: if a method or a field does not exist, or a value is not one of its type.
    """
    return MethodFields(name, inner).build(values or {})


class MethodFields:
    """The fields of one method, and of the one within it.

    Args:
        name: the method's name.
        inner: name of the method within it; by default its own default. Only for methods that hold one.

    Attributes:
        kind: the method's class.
        inner: the method within it, from whose values the defaults are taken; None where it holds none.
        own: name → field of the method, without the one that holds another.
        within: name → field of the method within it.

    Raises:
        ValueError: if there is no such method, or it holds none.
    """

    def __init__(self, name: str, inner: str | None = None):
        self.kind = method_class(name)
        self.inner: UnlearningMethod | None = None
        if _holds_a_method(self.kind):
            default = cast(UnlearningMethod, _default(self.kind.__dataclass_fields__[INNER]))
            if inner is not None and inner not in inner_names():
                raise ValueError(
                    f"There is no method {inner!r} to stand within {name}. {nearest(inner, inner_names())}"
                )
            # The default's own settings are kept where it is named.
            self.inner = default if inner is None or METHODS[inner] is type(default) else METHODS[inner]()
        elif inner is not None:
            raise ValueError(f"{name} has no method within it; {INNER} is for salun and warm_restart.")
        self.own: dict[str, Field] = {f.name: f for f in fields(self.kind) if f.name != INNER}
        self._named = _named_fields(self.kind)
        self.within: dict[str, Field] = {f.name: f for f in fields(self.inner)} if self.inner is not None else {}
        if both := self.own.keys() & self.within.keys():
            raise ValueError(f"{name} and the method within it both have {', '.join(sorted(both))}.")

    def hints(self) -> dict[str, object]:
        """Name → type hint, of all fields."""
        within = typing.get_type_hints(type(self.inner)) if self.inner is not None else {}
        hints = {**within, **typing.get_type_hints(self.kind), **dict.fromkeys(self._named, str)}
        return {name: hints[name] for name in (*self.own, *self.within)}

    def defaults(self) -> dict[str, object]:
        """Name → default, of all fields."""
        own = {name: _default(each) for name, each in self.own.items()}
        own |= {name: _called(own[name]) for name in self._named}
        return {**own, **{name: getattr(self.inner, name) for name in self.within}}

    def descriptions(self) -> dict[str, tuple[str, str]]:
        """Name → class and what its docstring says of the field, "" where it says nothing."""
        found: dict[str, tuple[str, str]] = {}
        for names, kind in ((self.own, self.kind), (self.within, type(self.inner))):
            described = _attributes(kind) if names else {}
            found |= {name: (kind.__name__, described.get(name, "")) for name in names}
        return found

    def build(self, values: Mapping[str, object]) -> UnlearningMethod:
        """The method with these values of its fields; the others keep their defaults.

        Raises:
            ValueError: if a field does not exist, or a value is not one of its type.
        """
        hints, given = self.hints(), {}
        for name, value in values.items():
            if name not in hints:
                raise ValueError(f"{self.kind.__name__} has no field {name!r}. {nearest(name, list(hints))}")
            try:
                given[name] = convert(value, hints[name])
            except ValueError as error:
                raise ValueError(f"{name} of {self.kind.__name__}: {error}.") from error
        settled = {**self.defaults(), **given}
        own = {name: settled[name] for name in self.own}
        own |= {name: self._called(name, str(settled[name])) for name in self._named}
        if self.inner is not None:
            own[INNER] = type(self.inner)(**{name: settled[name] for name in self.within})
        return self.kind(**own)

    def _called(self, name: str, wanted: str) -> UnlearningMethod | None:
        """The method that a field holds by its name."""
        default = _default(self.own[name])
        if wanted == _called(default):
            return cast(UnlearningMethod | None, default)  # with its own settings
        if wanted not in part_names():
            raise ValueError(f"There is no method {wanted!r} for {name}. {nearest(wanted, part_names())}")
        return None if wanted == NOTHING else METHODS[wanted]()


def _holds_a_method(kind: type[UnlearningMethod]) -> bool:
    return INNER in kind.__dataclass_fields__


def _named_fields(kind: type[UnlearningMethod]) -> tuple[str, ...]:
    """The fields that hold a method by its name."""
    return tuple(each.name for each in kind.__dataclass_fields__.values() if _HOLDS in each.metadata)


def _called(method: object) -> str:
    return name_of(method) if isinstance(method, UnlearningMethod) else NOTHING


def _default(own: Field) -> object:
    if own.default is not MISSING:
        return own.default
    assert own.default_factory is not MISSING
    return own.default_factory()


def _attributes(kind: type) -> dict[str, str]:
    text = (inspect.getdoc(kind) or "").partition("Attributes:")[2]
    return {n: " ".join(t.split()) for n, t in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.M)}
