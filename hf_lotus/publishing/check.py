"""One thing that was looked at, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what should hold.
        holds: whether it does; None where it could not be told.
        detail: what was found, or what it would take to tell.
    """

    name: str
    holds: bool | None
    detail: str = ""

    def __str__(self) -> str:
        mark = {True: "ok    ", False: "FAILED", None: "–     "}[self.holds]
        line = f"{mark}  {self.name}" + (f": {self.detail}" if self.detail else "")
        # Names in a record are anybody's: a terminal would obey some characters.
        return "".join(c if c.isprintable() else "\ufffd" for c in line)
