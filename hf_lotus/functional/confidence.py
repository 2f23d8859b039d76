"""The logit-scaled confidence: how sure a model is of the true class, on a scale without saturation (NumPy, SciPy).

It is the statistic of LiRA (arXiv:2112.03570), of U-LiRA (arXiv:2403.01218) and, as "margin", of KLOM
(arXiv:2410.23232): over many trainings it is nearly Gaussian, which a probability near 1 is not.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from .arrays import blocks, check_labels, check_rows

# The logarithm of a probability that was rounded to 0.
_SMALLEST = np.finfo(np.float64).tiny


def logit_confidence(predictions: np.ndarray, labels: np.ndarray, *, from_logits: bool = False) -> np.ndarray:
    """``log(p_y / (1 − p_y))``, which is ``z_y − log Σ_{k ≠ y} exp z_k`` of the logits.

    From probabilities, 1 − p_y is the sum of the others: their rounding is smaller than that of a p_y near 1. Logits
    lose nothing at all; prefer them.

    Args:
        predictions: probabilities, shape (samples, classes).
        labels: true classes, shape (samples,).
        from_logits: whether the predictions are logits instead.

    Returns:
        float64, shape (samples,); finite (a probability of 0 counts as the smallest number there is).

    Raises:
        ValueError: if a row is not a distribution (or not finite), or a label is outside its columns.
    """
    rows = check_rows("predictions", predictions, from_logits=from_logits)
    labels = check_labels(labels, *rows.shape)
    values = np.empty(len(rows))
    for block in blocks(*rows.shape):
        others = np.array(rows[block], dtype=np.float64)
        mine = np.arange(len(others)), labels[block]
        own = others[mine]
        if from_logits:
            others[mine] = -np.inf
            values[block] = own - logsumexp(others, axis=1)
        else:
            others[mine] = 0.0
            values[block] = np.log(np.maximum(own, _SMALLEST)) - np.log(np.maximum(others.sum(axis=1), _SMALLEST))
    return values
