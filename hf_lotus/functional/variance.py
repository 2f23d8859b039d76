"""What each of several crossed sources of chance adds to the spread of a figure (NumPy)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np


def crossed_deviations(values: np.ndarray) -> tuple[tuple[float, ...], float]:
    """Standard deviations due to each factor of a balanced crossed design, and due to what they do together.

    Every level of a factor meets every level of the others once. With a set of factors S that has an effect of its own
    (one factor: its main effect; several: their interaction), independent of all others and of variance σ²_S, the
    figure is the sum of the effects of all S. The components are those of the analysis of variance of the random
    model (Searle, Casella and McCulloch, Variance Components, 1992, chapter 4):

        effect_S = Σ_{R ⊆ S} (−1)^|S∖R| · mean of the figures by the levels of R
        MS_S     = Π_{f∉S} n_f · Σ effect_S² / Π_{f∈S} (n_f − 1)
        σ²_S     = Σ_{R ⊇ S} (−1)^|R∖S| · MS_R / Π_{f∉S} n_f.

    For two factors: σ²_A = (MS_A − MS_AB) / n_B and σ²_AB = MS_AB. "Together" is the sum of the interactions'. A
    negative estimate is 0. A factor of a single level takes no part; with one of several levels its deviation is the
    plain one.

    Args:
        values: one figure a combination, shape (n_1, n_2, …), each at least 1.

    Returns:
        a deviation a factor, NaN for one of a single level; and that of what they do together, NaN where no factor
        meets another.

    Raises:
        ValueError: if there is no figure, or one that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 0 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"The spread takes finite figures in one axis a factor, got shape {values.shape}.")
    active = tuple(axis for axis, count in enumerate(values.shape) if count > 1)
    squares = {chosen: _mean_square(values, chosen) for chosen in _subsets(active) if chosen}

    def component(chosen: tuple[int, ...]) -> float:
        """σ²_S, as it comes out."""
        holding = [other for other in squares if set(chosen) <= set(other)]
        found = sum((-1) ** (len(other) - len(chosen)) * squares[other] for other in holding)
        return found / math.prod(values.shape[axis] for axis in active if axis not in chosen)

    alone = [math.sqrt(max(component((a,)), 0.0)) if a in active else math.nan for a in range(values.ndim)]
    joint = [component(chosen) for chosen in squares if len(chosen) > 1]
    return tuple(alone), math.sqrt(max(sum(joint), 0.0)) if joint else math.nan


def _mean_square(values: np.ndarray, chosen: tuple[int, ...]) -> float:
    effect = np.zeros([count if axis in chosen else 1 for axis, count in enumerate(values.shape)])
    for part in _subsets(chosen):
        others = tuple(axis for axis in range(values.ndim) if axis not in part)
        effect = effect + (-1) ** (len(chosen) - len(part)) * values.mean(axis=others, keepdims=True)
    each = values.size / math.prod(values.shape[axis] for axis in chosen)
    return each * float((effect**2).sum()) / math.prod(values.shape[axis] - 1 for axis in chosen)


def _subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for size in range(len(axes) + 1):
        yield from combinations(axes, size)
