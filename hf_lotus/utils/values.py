"""A value as a file or a command line gives it → the type that a dataclass's field has."""

from __future__ import annotations

import types
import typing

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def convert(value: object, hint: object) -> object:
    """The value as a type hint asks for it: "1e-3" for `float` is 0.001, [5, 8] for `tuple[int, ...]` is (5, 8).

    Args:
        value: text, number, truth value, list, mapping or None.
        hint: of the field; of a union, the first kind that takes the value.

    Raises:
        ValueError: if no kind takes it.
    """
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _one_of(value, typing.get_args(hint))
    origin = typing.get_origin(hint) or hint
    if origin in (list, tuple):
        kind = next(iter(typing.get_args(hint)), object)
        return origin(convert(item, kind) for item in (value if isinstance(value, (list, tuple)) else [value]))
    if origin is bool and not isinstance(value, bool):
        if str(value).lower() not in _BOOLEANS:
            raise ValueError(f"{value!r} is neither true nor false")
        return _BOOLEANS[str(value).lower()]
    if origin in (int, float):
        try:
            return origin(str(value))  # as it is written: 2.5 is no whole number
        except ValueError as error:
            raise ValueError(f"{value!r} is no {'whole ' if origin is int else ''}number") from error
    if origin is str:
        return str(value)
    return value


def _one_of(value: object, kinds: tuple[object, ...]) -> object:
    if value is None and type(None) in kinds:
        return None
    last_error: ValueError | None = None
    for kind in sorted((kind for kind in kinds if kind is not type(None)), key=lambda kind: _place(value, kind)):
        try:
            return convert(value, kind)
        except ValueError as error:
            last_error = error
    raise last_error or ValueError(f"{value!r} cannot be taken")


def _place(value: object, kind: object) -> int:
    """In which place a kind of a union is tried: what the value is already, numbers, text for text, the rest."""
    origin = typing.get_origin(kind) or kind
    if origin is type(value) and origin is not str:
        return 0
    if origin in (bool, int, float):
        return 1
    return 2 if origin is str and isinstance(value, str) else 3 if origin is not str else 4
