"""What each of several crossed sources of chance adds to the spread of a figure (NumPy)."""

from __future__ import annotations

import math

import numpy as np


def crossed_deviations(values: np.ndarray) -> tuple[tuple[float, ...], float]:
    """Standard deviations due to each factor of a balanced crossed design, and due to what they do together.

    The figure of the levels (i, j, …) is ``y = μ + A_i + B_j + … + ε_ij…`` with independent terms of mean 0; every
    level of a factor meets every level of the others once, and ε holds all that they do only together. The components
    are those of the analysis of variance (Searle, Casella and McCulloch, Variance Components, 1992, chapter 4). With N
    figures and n_f levels of the factor f, the mean of each of which is over N / n_f figures,

        MS_f = (N / n_f) · var(means by the level of f)
        MS_ε = (total sum of squares − Σ_f (n_f − 1) MS_f) / (N − 1 − Σ_f (n_f − 1))
        σ²_f = (MS_f − MS_ε) / (N / n_f),    σ²_ε = MS_ε.

    A negative estimate is 0. With a single factor of several levels MS_ε is 0, and its deviation the plain one.

    Args:
        values: one figure a combination, shape (n_1, n_2, …), each at least 1.

    Returns:
        a deviation a factor, NaN for one of a single level; and that of the rest, NaN where no factor meets another.

    Raises:
        ValueError: if there is no figure, or one that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 0 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"The spread takes finite figures in one axis a factor, got shape {values.shape}.")
    axes = range(values.ndim)
    means = [values.mean(axis=tuple(other for other in axes if other != axis)) for axis in axes]
    each = [values.size / len(mean) for mean in means]
    squares = [
        count * float(mean.var(ddof=1)) if len(mean) > 1 else 0.0 for count, mean in zip(each, means, strict=True)
    ]
    within = sum((len(mean) - 1) * square for mean, square in zip(means, squares, strict=True))
    freedom = values.size - 1 - sum(len(mean) - 1 for mean in means)
    rest = max(float(((values - values.mean()) ** 2).sum()) - within, 0.0) / freedom if freedom else 0.0
    found = [
        math.sqrt(max(square - rest, 0.0) / count) if len(mean) > 1 else math.nan
        for square, count, mean in zip(squares, each, means, strict=True)
    ]
    return tuple(found), math.sqrt(rest) if freedom else math.nan
