"""Is a figure of unlearned against retrained models larger than chance makes it? Exact, by exchanging the models.

Were the unlearned models drawn as the retrained ones are, which of them is called which would not matter. So the
figure is computed again with the names dealt out anew, and p is the share of deals that give as much. That holds at
any number of models, and for any figure (NumPy).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tqdm.auto import tqdm

from hf_lotus.functional.three_samples import rank_p_value

DEALS = 199
# Samples that the deals are computed on.
MOST_SAMPLES = 500


def exchange_p_value(
    figure: Callable[[np.ndarray, np.ndarray], float],
    unlearned: np.ndarray,
    retrained: np.ndarray,
    seed: int = 0,
    *,
    description: str = "Exchanging models",
    progress: bool = True,
) -> float:
    """How often a figure is at least as large where unlearned and retrained models change places.

    Args:
        figure: of (unlearned, retrained), each of shape (models, samples); large where they differ.
        unlearned: shape (models, samples).
        retrained: shape (others, samples).
        seed: of the deals, and of the samples where there are more than `MOST_SAMPLES`.
        description: label of the progress bar.
        progress: whether to show one.

    Returns:
        (1 + deals with at least the figure) / (1 + deals).
    """
    rng = np.random.default_rng(seed)
    models = np.concatenate([unlearned, retrained])
    if models.shape[1] > MOST_SAMPLES:
        models = models[:, rng.permutation(models.shape[1])[:MOST_SAMPLES]]
    size = len(unlearned)
    null = []
    for _ in tqdm(range(DEALS), desc=description, unit="deal", leave=False, disable=not progress):
        order = rng.permutation(len(models))
        null.append(figure(models[order[:size]], models[order[size:]]))
    return rank_p_value(figure(models[:size], models[size:]), np.array(null))
