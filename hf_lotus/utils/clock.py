"""The time, as the documents have it."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> str:
    """The time: UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
