"""Mappings within mappings, laid flat."""

from __future__ import annotations

from collections.abc import Mapping


def flat(values: Mapping[str, object], separator: str, prefix: str = "") -> dict[str, object]:
    """`{"a": {"b": 1}, "c": 2}` → `{"a.b": 1, "c": 2}`, with "." between the names.

    Args:
        values: name → value, or a further mapping.
        separator: between an outer and an inner name.
        prefix: outer name of all of them; "" for none.
    """
    found: dict[str, object] = {}
    for key, value in values.items():
        name = f"{prefix}{separator}{key}" if prefix else str(key)
        found |= flat(value, separator, name) if isinstance(value, Mapping) else {name: value}
    return found
