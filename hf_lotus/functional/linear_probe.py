"""Linear probes: what a model's features still tell, whatever its head says (NumPy, scikit-learn)."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5


def label_probe(features: np.ndarray, labels: np.ndarray, seed: int = 0) -> float:
    """How well a linear classifier tells the samples' classes from their features, cross-validated.

    Features of memorised samples are easier to divide than those of unseen ones, even where the head has been taught
    to say otherwise. Held against the same figure of as many unseen samples, it is near it for a retrained model.

    Args:
        features: shape (samples, dimensions).
        labels: classes, shape (samples,); those with fewer samples than folds are left out.
        seed: of the folds.

    Returns:
        accuracy, 0 … 1.

    Raises:
        ValueError: if features are not finite, or fewer than two classes have five samples.
    """
    return float(label_hits(features, labels, seed).mean())


def label_hits(features: np.ndarray, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Which samples the cross-validated classifier of `label_probe` gets right, of those that are not left out.

    Args:
        features: as in `label_probe`.
        labels: likewise.
        seed: likewise.

    Returns:
        booleans, shape (samples of classes with five samples or more,).

    Raises:
        ValueError: as `label_probe`.
    """
    features = _finite(features)
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    enough = counts[which] >= FOLDS
    if np.count_nonzero(counts >= FOLDS) < 2:
        raise ValueError(
            f"A probe of the labels needs two classes of {FOLDS} samples or more, got classes of "
            f"{', '.join(map(str, counts.tolist()))} samples. Measure more samples."
        )
    return _cross_validated(features[enough], which[enough], seed, "predict") == which[enough]


def membership_probe(forget: np.ndarray, unseen: np.ndarray, seed: int = 0) -> float:
    """How well a linear classifier tells forgotten from unseen samples by their features, cross-validated.

    Args:
        forget: features of the forget set, shape (samples, dimensions).
        unseen: features of unseen data, of the same classes in the same shares, shape (others, dimensions).
        seed: of the folds.

    Returns:
        area under the ROC curve; 0.5 where they cannot be told apart.

    Raises:
        ValueError: if features are not finite, or a side has fewer than five samples.
    """
    scores = membership_scores(forget, unseen, seed)
    is_forget = np.repeat([1, 0], [len(side) for side in scores])
    return float(roc_auc_score(is_forget, np.concatenate(scores)))


def membership_scores(
    forget: np.ndarray,
    unseen: np.ndarray,
    seed: int = 0,
    labels: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """How sure the cross-validated classifier of `membership_probe` is that each sample is a forgotten one.

    Args:
        forget: as in `membership_probe`.
        unseen: likewise.
        seed: likewise.
        labels: classes of the two sides. Each is then divided among the folds as the others are: a class that is rarer
            among the forgotten of one fold is commoner in the rest, and a classifier that learns it guesses worse than
            chance.

    Returns:
        of the forget and the unseen samples, 0 … 1, shapes (samples,) and (others,).

    Raises:
        ValueError: as `membership_probe`.
    """
    sides = [_finite(forget), _finite(unseen)]
    if min(map(len, sides)) < FOLDS:
        raise ValueError(
            f"A probe of membership needs {FOLDS} samples of each side, got {len(forget)}, {len(unseen)}."
        )
    is_forget = np.repeat([1, 0], [len(side) for side in sides])
    strata = is_forget
    if labels is not None:
        # Of those too rare to be in every fold only the side counts; classes are numbered from 2 on.
        both = 2 * (1 + np.unique(np.concatenate(labels), return_inverse=True)[1]) + is_forget
        _, which, counts = np.unique(both, return_inverse=True, return_counts=True)
        strata = np.where(counts[which] >= FOLDS, both, is_forget)
        rest = [np.sum(strata == side) for side in (0, 1)]
        strata = strata if all(count == 0 or count >= FOLDS for count in rest) else is_forget
    scores = _cross_validated(np.concatenate(sides), is_forget, seed, "predict_proba", strata)[:, 1]
    return scores[: len(forget)], scores[len(forget) :]


def _finite(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(f"Features must be finite numbers of shape (samples, dimensions), got {features.shape}.")
    return features


def _cross_validated(
    features: np.ndarray, target: np.ndarray, seed: int, method: str, strata: np.ndarray | None = None
) -> np.ndarray:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    divided = list(folds.split(features, target if strata is None else strata))
    return cross_val_predict(model, features, target, cv=divided, method=method)
