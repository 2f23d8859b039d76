"""Wall time of unlearning, carried over a resume, without what is not unlearning."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds of unlearning.

    Attributes:
        carried: seconds of the run before it was broken off, from the checkpoint that it goes on from.
    """

    def __init__(self) -> None:
        self.carried = 0.0
        self._began: float | None = None
        self._paused = 0.0

    def start(self) -> None:
        """Begin anew, from nothing."""
        self._began, self._paused, self.carried = time.perf_counter(), 0.0, 0.0

    @property
    def seconds(self) -> float:
        """Wall time since `start`, that of pauses left out and that before a resume added; 0 before `start`."""
        if self._began is None:
            return 0.0
        return self.carried + time.perf_counter() - self._began - self._paused

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what is done in here, such as measuring and pushing."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - began
