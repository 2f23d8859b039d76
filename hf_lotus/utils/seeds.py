"""Independent random streams of one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# Independent random streams of one seed.
SUBSET, ORDER, NOISE, LABELS, WEIGHTS, AGAIN = range(6)
# The largest seed that generators of all libraries take: NumPy's global one takes 32 bits.
LARGEST = 2**32 - 1


def derived_seed(seed: int, *path: int) -> int:
    """A seed for one independent purpose: equal (seed, path) give equal seeds, different ones unrelated seeds."""
    return int(np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Put back the global random numbers of Python, NumPy and PyTorch, on every device, as they were before the block.

    What is done in the block may seed or draw from them, and a run that goes on after it must not notice.
    """
    import torch  # not where only seeds are derived

    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def require_seed(seed: int | None, name: str) -> None:
    """Raise a ValueError for a seed that generators do not take; None is one that is settled later.

    Args:
        seed: what was given.
        name: of the parameter.
    """
    if seed is not None and not 0 <= seed <= LARGEST:
        raise ValueError(f"{name} must be 0 or more, and at most {LARGEST}, got {seed}.")
