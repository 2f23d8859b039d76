"""Independent random streams of one seed."""

from __future__ import annotations

import numpy as np

# Independent random streams of one seed.
SUBSET, ORDER, NOISE, LABELS, WEIGHTS = range(5)


def derived_seed(seed: int, *path: int) -> int:
    """A seed for one independent purpose: equal (seed, path) give equal seeds, different ones unrelated seeds."""
    return int(np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint64)[0] >> np.uint64(1))
