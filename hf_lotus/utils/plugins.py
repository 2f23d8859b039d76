"""What other distributions add to a table of ours: their entry points, found by group and loaded when first used.

A distribution says in its `pyproject.toml`, here for a method:

    [project.entry-points."hf_lotus.methods"]
    toy = "toy_unlearning:Toy"

Nothing is imported until that name is asked for, so a plugin that is broken breaks its own name and no other.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Generic, TypeVar

T = TypeVar("T")
# How the name of each group of ours begins, in the file where a distribution lists its entry points.
_GROUPS = "[hf_lotus."


class PluginError(ValueError):
    """A plugin that cannot be used, or a name that two claim; the message names the distribution."""


class Registry(Mapping[str, T], Generic[T]):
    """Things by name: ours, and those that other distributions add by entry points.

    To list the names loads nothing. To take a value loads that one plugin.

    Args:
        what: what the things are, in an error message: "method".
        group: the entry points' group: "hf_lotus.methods".
        own: ours by name, in the order they are listed.
        check: takes a plugin's name and what it loads to, and raises a ValueError or TypeError if it is not what the
            group is for.
    """

    def __init__(self, what: str, group: str, own: Mapping[str, T], check: Callable[[str, T], None]):
        self.what, self.group, self.own, self.check = what, group, dict(own), check

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from sorted(self.added().keys() - self.own.keys())

    def __len__(self) -> int:
        return len(self.own.keys() | self.added().keys())

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in self.added()

    def __getitem__(self, name: str) -> T:
        """The thing of a name.

        Raises:
            KeyError: if there is none.
            PluginError: if its plugin cannot be used, or several claim the name.
        """
        claims = self.added().get(name, ())
        if len(claims) + (name in self.own) > 1:
            owners = [*(["hf_lotus"] if name in self.own else []), *map(_owner, claims)]
            raise PluginError(
                f"The {self.what} {name!r} is offered by {' and by '.join(owners)}. Uninstall the one you do not "
                "mean, or rename it."
            )
        return self._load(claims[0]) if claims else self.own[name]

    def added(self) -> dict[str, tuple[EntryPoint, ...]]:
        """Name → the entry points of other distributions that claim it; one, unless they collide."""
        return _entry_points(self.group, tuple(sys.path))

    def usable(self) -> dict[str, T]:
        """Ours and each plugin that loads; those that do not are left out."""
        found = {}
        for name in self:
            try:
                found[name] = self[name]
            except PluginError:
                continue
        return found

    def _load(self, entry: EntryPoint) -> T:
        told = f"The {self.what} {entry.name!r} of {_owner(entry)} ({entry.value})"
        try:
            thing = entry.load()
        except Exception as error:  # a stranger's module may raise anything
            raise PluginError(f"{told} cannot be loaded: {type(error).__name__}: {error}") from error
        try:
            self.check(entry.name, thing)
        except (TypeError, ValueError) as error:
            raise PluginError(f"{told} cannot be used: {error}") from error
        return thing


def any_plugin() -> bool:
    """Whether another distribution adds to any table of ours. Nothing is loaded."""
    return any(_may_add(distribution, _GROUPS) for distribution in distributions())


def _may_add(distribution: Distribution, groups: str) -> bool:
    try:
        return groups in (distribution.read_text("entry_points.txt") or "")
    except (OSError, ValueError):  # a file that cannot be read may say anything
        return True


@lru_cache(maxsize=8)
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    """The entry points of a group, one distribution at a time: one with a file that cannot be read hides no other."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    seen: set[str] = set()
    installed = list(distributions(path=list(path)))
    if not any(_may_add(distribution, f"[{group}]") for distribution in installed):
        return found  # the names of all distributions take a tenth of a second to read
    for distribution in installed:
        name = _name(distribution)
        if name in seen:  # as in an import, the first on the path is the one that counts
            continue
        seen.add(name)
        try:
            entries = distribution.entry_points.select(group=group)
        except Exception as error:
            if group in (distribution.read_text("entry_points.txt") or ""):
                warnings.warn(f"The entry_points.txt of {name} cannot be read: {error}", stacklevel=2)
            continue
        for entry in entries:
            found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def _name(distribution: Distribution) -> str:
    return (distribution.metadata["Name"] or "a distribution without a name").lower().replace("_", "-")


def _owner(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unnamed distribution"
