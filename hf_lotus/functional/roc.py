"""The ROC curve of two sides' scores under many weightings: sorted once, so a resample costs one sweep (NumPy)."""

from __future__ import annotations

import numpy as np

# For products such as 0.01 · 700, which floating point puts a hair below or above 7.
_ROUNDING = 1e-9


class Roc:
    """Scores of positives and negatives, sorted; a weight a score stands for how often a resample drew it.

    Args:
        positives: scores, shape (positives,); not empty.
        negatives: scores, shape (negatives,); not empty.
    """

    def __init__(self, positives: np.ndarray, negatives: np.ndarray):
        values, place = np.unique(np.concatenate([positives, negatives]), return_inverse=True)
        self._levels = len(values)
        self._places = place[: len(positives)], place[len(positives) :]

    def weights(self, positive: np.ndarray | None = None, negative: np.ndarray | None = None) -> np.ndarray:
        """Each side's weight at each distinct score, low scores first: what the other two methods take.

        Args:
            positive: of the positives, shape (positives,); one each by default.
            negative: the same of the negatives.

        Returns:
            float64, shape (2, distinct scores).
        """
        return self._counted(self._places, (positive, negative))

    def resampled(self, rng: np.random.Generator) -> np.ndarray:
        """`weights` of a bootstrap resample of each side by itself."""
        drawn = tuple(places[rng.integers(len(places), size=len(places))] for places in self._places)
        return self._counted(drawn, (None, None))

    def _counted(self, places: tuple, weights: tuple) -> np.ndarray:
        pairs = zip(places, weights, strict=True)
        return np.array([np.bincount(p, weights=w, minlength=self._levels) for p, w in pairs], dtype=np.float64)

    @staticmethod
    def auc(weights: np.ndarray) -> float:
        """Chance that a positive scores higher than a negative, a tie counting half."""
        positive, negative = weights
        below = np.cumsum(negative) - negative / 2
        return float(positive @ below / (positive.sum() * negative.sum()))

    @staticmethod
    def tpr(weights: np.ndarray, fpr: float) -> float:
        """Share of positives above the lowest threshold that lets at most the share `fpr` of negatives above it."""
        positive, negative = weights[:, ::-1]
        above = np.searchsorted(np.cumsum(negative), fpr * negative.sum() + _ROUNDING, side="right")
        return float(positive[:above].sum() / positive.sum())
