"""forget sets"""

import argparse, json
from pathlib import Path
import numpy as np

SIZE, SKEW, CLASS = 200, 0.8, 3  # cats


def forget_sets(labels: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Three sets of 200 rows that share none: of every class alike; of two classes for the most part; of one class."""
    rng = np.random.default_rng(seed)
    free = rng.permutation(len(labels))

    def take(rows: np.ndarray, count: int) -> np.ndarray:
        nonlocal free
        taken = rows[:count]
        free = free[~np.isin(free, taken)]
        return taken

    classes = np.unique(labels)
    one = take(free[labels[free] == CLASS], SIZE)
    two = rng.choice(np.setdiff1d(classes, [CLASS]), 2, replace=False)
    within = take(free[np.isin(labels[free], two)], round(SKEW * SIZE))
    outside = take(free[~np.isin(labels[free], [*two, CLASS])], SIZE - len(within))
    each = [take(free[labels[free] == label], SIZE // len(classes)) for label in classes]
    return {
        "random": np.sort(np.concatenate(each)),
        "two-classes": np.sort(np.concatenate([within, outside])),
        "one-class": np.sort(one),
    }
