"""What each of several nested sources of chance adds to the spread of a figure (NumPy)."""

from __future__ import annotations

import math

import numpy as np


def nested_deviations(values: np.ndarray) -> tuple[float, ...]:
    """Standard deviations due to each level of a balanced nested design, the outermost first.

    The figure is ``y = μ + A_i + B_ij + C_ijk + …`` with independent terms of mean 0; that of a level is drawn anew
    within every value of the level above it. The components are those of the analysis of variance (Searle, Casella
    and McCulloch, Variance Components, 1992, 3.7): from the innermost outwards, the sample variance of the means of a
    level's values within one value of the level above, averaged over those, holds the level's own variance and that
    of the mean over the next inner one,

        s²_l = mean over the groups of var(means at level l),   σ²_l = s²_l − s²_(l+1) / n_(l+1),

    with n_(l+1) the number of values within the next inner level. A negative estimate is 0: no more than the levels
    within explain already.

    Args:
        values: one figure a combination, shape (n_1, n_2, …), each at least 1.

    Returns:
        a deviation a level; NaN for a level of a single value, whose own spread is then in no figure but, where an
        inner level is single, in that of the level above it, from which it cannot be told apart.

    Raises:
        ValueError: if there is no figure, or one that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 0 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"The spread takes finite figures in one axis a level, got shape {values.shape}.")
    found, below, means = [], 0.0, values
    for count in reversed(values.shape):
        # `below`: the variance that the mean over the inner levels brings into each value of `means`.
        if count == 1:
            found.append(math.nan)
        else:
            raw = float(means.var(axis=-1, ddof=1).mean())
            found.append(math.sqrt(max(raw - below, 0.0)))
            below = raw
        below, means = below / count, means.mean(axis=-1)
    return tuple(found[::-1])
