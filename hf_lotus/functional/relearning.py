"""The relearning excess: does what was forgotten come back sooner than what was never known (NumPy)?"""

from __future__ import annotations

import numpy as np

from hf_lotus.functional.weighting import weighted_by_class


def relearning_excess(
    forget: tuple[np.ndarray, np.ndarray],
    unseen: tuple[np.ndarray, np.ndarray],
    forget_labels: np.ndarray,
    unseen_labels: np.ndarray,
) -> float:
    """``(rise of accuracy on D_f) − (rise of accuracy on D_u, each class weighted as in D_f)`` over a little training.

    The training is on retained data alone. A model that never saw D_f gains on it what it gains on any unseen data:
    the excess of a retrained model is about 0. One that only hides what it knows gets it back.

    Args:
        forget: for each forget sample whether it is classified correctly (before, after) the training; booleans of
            shape (samples,).
        unseen: the same of the unseen samples.
        forget_labels: the forget samples' classes, shape (samples,).
        unseen_labels: the unseen samples' classes, shape (others,).

    Returns:
        −2 … 2; the classes of D_f without unseen samples are left out of the unseen side.
    """
    rise = float(np.mean(forget[1])) - float(np.mean(forget[0]))
    before, after = (weighted_by_class(right, unseen_labels, forget_labels) for right in unseen)
    return rise - (after - before)
