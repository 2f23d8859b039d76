"""Names that are Hub ids or local folders: told apart, and a mistyped folder not looked for on the Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hf_lotus.utils.text import nearest

# namespace/name, or a name alone as the first repositories have it.
_HUB_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")


def require_name(name: str, parameter: str, what: str, *, file: bool = False) -> None:
    """Refuse what can be neither a folder that is there nor an id on the Hub, before anybody is asked for it.

    Args:
        name: what the user gave.
        parameter: what it was given as.
        what: what it names, such as "a model".
        file: whether it may also be a file.

    Raises:
        ValueError: with the nearest folders, where there are any.
    """
    path = Path(name)
    if not name.strip():
        raise ValueError(f"{parameter} is empty: name {what}, by its folder or its id on the Hub.")
    if path.is_dir() or (file and path.exists()):
        return
    if path.exists():
        raise ValueError(f"{name} is a file: give the folder that {what} is in, or its id on the Hub.")
    looks_local = name.startswith((".", "~", os.sep)) or name.count("/") > 1 or "\\" in name or name.endswith("/")
    if looks_local:
        raise ValueError(f"There is no folder {name}. {_neighbours(path)}")
    if not _HUB_ID.fullmatch(name):
        raise ValueError(
            f"{name!r} is neither a folder here nor an id on the Hub (namespace/name). {_neighbours(path)}"
        )


def nearby(name: str) -> str:
    """What may have been meant by a name that the Hub does not know either: folders here; "" where there are none."""
    found = _neighbours(Path(name))
    return found if found.startswith("Did you mean") else ""


def _neighbours(path: Path) -> str:
    parent = path.expanduser().parent
    if not parent.is_dir():
        return f"There is no folder {parent} either." if str(parent) != "." else ""
    names = sorted(entry.name for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return nearest(path.name, names) if names else f"There are no folders in {parent}."
