"""What a pool of models says of each sample: the matrices that U-LiRA, KLOM and ε compare (NumPy)."""

from __future__ import annotations

import numpy as np


def check_pools(unlearned: np.ndarray, retrained: np.ndarray, fewest: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The two matrices as float64.

    Args:
        unlearned: a statistic of every sample under every unlearned model, shape (models, samples).
        retrained: the same under every retrained model, shape (others, samples).
        fewest: models that each side must have.

    Raises:
        ValueError: for other shapes, samples that differ in number, too few models, or values that are not finite.
    """
    sides = {"unlearned": np.asarray(unlearned), "retrained": np.asarray(retrained)}
    for name, values in sides.items():
        if values.ndim != 2 or values.dtype.kind not in "iuf" or values.shape[1] == 0:
            raise ValueError(
                f"The {name} models' values must be numbers of shape (models, samples) with a sample or more, got "
                f"{values.dtype} of shape {values.shape}."
            )
        if len(values) < fewest:
            raise ValueError(f"It takes {fewest} {name} models or more, got {len(values)}.")
    if sides["unlearned"].shape[1] != sides["retrained"].shape[1]:
        raise ValueError(
            f"Both sides must have the same samples, got {sides['unlearned'].shape[1]} under the unlearned and "
            f"{sides['retrained'].shape[1]} under the retrained models."
        )
    for name, values in sides.items():
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            model, sample = bad[0]
            raise ValueError(f"The {name} models' values must be finite; model {model} of sample {sample} is not.")
    return sides["unlearned"].astype(np.float64), sides["retrained"].astype(np.float64)


def check_used(name: str, used: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Which entries count, as booleans of that shape; all of them by default.

    Raises:
        ValueError: for another shape, or something other than booleans.
    """
    if used is None:
        return np.ones(shape, dtype=bool)
    used = np.asarray(used)
    if used.shape != shape or used.dtype != bool:
        raise ValueError(f"{name} must be booleans of shape {shape}, got {used.dtype} of shape {used.shape}.")
    return used


def floor_halves(unlearned: int, retrained: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """Models for a floor, at random: what half of the retrained models reads against the other half.

    A figure of pools depends on their sizes. So the unlearned models are measured once more with as many of them,
    against the same half: what the floor is to be held against.

    Args:
        unlearned: number of unlearned models.
        retrained: number of retrained models, two or more.
        seed: of the draw.

    Returns:
        numbers of unlearned models, shape (half,); numbers of retrained models, first those in the unlearned models'
        place, then those against, shape (2 · half,); and half.
    """
    half = min(retrained // 2, unlearned)
    rng = np.random.default_rng(seed)
    order = rng.permutation(retrained)[: 2 * half]
    return rng.permutation(unlearned)[:half], order, half
