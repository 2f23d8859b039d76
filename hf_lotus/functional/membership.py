"""Membership-inference attacks on per-sample statistics (NumPy, scikit-learn).

The attack of the unlearning literature, in the member-rate polarity of LoTUS (arXiv:2503.18314): a logistic
regression learns to tell members (retain) from non-members (never trained on) by one statistic of the model's
prediction; the *member rate* of the forget set is the share of it that the attack calls member. Closer to the
retrained model's member rate is better; neither high nor low is good in itself. SalUn's "MIA efficacy" is one minus
the member rate: never mix the two under one name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


def prediction_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Shannon entropy of each prediction, in nats.

    Args:
        probabilities: shape (samples, classes).

    Returns:
        float64 array of shape (samples,), from 0 (certain) to ln(classes).
    """
    p = np.asarray(probabilities, dtype=np.float64)
    logarithm = np.log(p, out=np.zeros_like(p), where=p > 0)
    # Zero-probability classes contribute nothing; `+ 0.0` turns the -0.0 of a certain prediction into 0.0.
    return -(p * logarithm).sum(axis=1) + 0.0


def true_class_confidence(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability that each prediction gives to the true class.

    Args:
        probabilities: shape (samples, classes).
        labels: the true classes, integers in [0, classes), shape (samples,).

    Returns:
        float64 array of shape (samples,), 0 … 1.
    """
    return np.asarray(probabilities, dtype=np.float64)[np.arange(len(labels)), labels]


def fit_attack(members: np.ndarray, non_members: np.ndarray) -> LogisticRegression:
    """Train the attack: balanced logistic regression (L-BFGS) on one statistic per sample.

    Args:
        members: statistics of samples that the model was trained on, shape (members,).
        non_members: statistics of samples that it never saw, shape (non-members,).

    Raises:
        ValueError: if a side is empty or a statistic is not finite.
    """
    from sklearn.linear_model import LogisticRegression  # here, as it takes a second to import

    sides = {"members": np.asarray(members, np.float64), "non-members": np.asarray(non_members, np.float64)}
    for name, statistics in sides.items():
        if statistics.ndim != 1 or len(statistics) == 0:
            raise ValueError(f"The attack needs one statistic per sample for {name}, got shape {statistics.shape}.")
        if not np.isfinite(statistics).all():
            raise ValueError(f"The statistics of the {name} must be finite.")
    features = np.concatenate(list(sides.values()))[:, None]
    is_member = np.repeat([1, 0], [len(statistics) for statistics in sides.values()])
    return LogisticRegression(class_weight="balanced", solver="lbfgs", max_iter=1000).fit(features, is_member)


def member_rate(attack: LogisticRegression, statistics: np.ndarray) -> float:
    """Share of samples that the attack calls member, 0 … 1.

    Args:
        attack: what `fit_attack` returned.
        statistics: the same statistic on the samples to judge, shape (samples,).
    """
    return float(called_members(attack, statistics).mean())


def called_members(attack: LogisticRegression, statistics: np.ndarray) -> np.ndarray:
    """Which samples the attack calls member, bool, shape (samples,).

    Args:
        attack: what `fit_attack` returned.
        statistics: the same statistic on the samples to judge, shape (samples,).
    """
    return attack.predict(np.asarray(statistics, np.float64)[:, None]).astype(bool)


def attack_scores(attack: LogisticRegression, statistics: np.ndarray) -> np.ndarray:
    """How much each sample looks like a member: the statistic itself, turned so that members have more of it.

    The logistic curve is monotone, so this ranks samples as its probability does, without its rounding of extremes.

    Args:
        attack: what `fit_attack` returned.
        statistics: the same statistic on the samples to rank, shape (samples,).
    """
    return np.sign(attack.coef_[0, 0]) * np.asarray(statistics, np.float64)


def auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Chance that a random positive scores higher than a random negative, a tie counting half; 0.5 is no knowledge.

    Args:
        positives: scores, shape (positives,); not empty.
        negatives: scores, shape (negatives,); not empty.
    """
    from sklearn.metrics import roc_auc_score

    is_positive = np.repeat([1, 0], [len(positives), len(negatives)])
    return float(roc_auc_score(is_positive, np.concatenate([positives, negatives])))


def tpr_at_fpr(positives: np.ndarray, negatives: np.ndarray, fpr: float) -> float:
    """Share of positives above the lowest threshold that lets at most the share `fpr` of negatives above it.

    What an attack finds when it must hardly ever be wrong (Carlini et al. 2022, arXiv:2112.03570). With fewer than
    ``1 / fpr`` negatives the threshold is the highest of them: no false positive at all.

    Args:
        positives: scores, shape (positives,); not empty.
        negatives: scores, shape (negatives,); not empty.
        fpr: the false-positive rate allowed, 0 ≤ fpr < 1.
    """
    # The tolerance is for products such as 0.01 · 700, which floating point puts a hair below or above 7.
    allowed = int(fpr * len(negatives) + 1e-9)
    threshold = np.sort(negatives)[::-1][allowed]
    return float((np.asarray(positives) > threshold).mean())


def held_out_member_rate(members: np.ndarray, non_members: np.ndarray, judged: np.ndarray) -> float:
    """Member rate of samples that are themselves non-members, judged by attacks that never trained on them.

    This is the reference for the forget set's member rate: what data that the model never saw looks like to the
    attack. With other non-members at hand the attack trains on those alone; without, it is cross-fitted over two
    halves of `judged`.

    Args:
        members: statistics of members, shape (members,).
        non_members: statistics of non-members other than `judged`, shape (non-members,); may be empty.
        judged: statistics of the non-members to judge, shape (judged,).

    Raises:
        ValueError: if `non_members` is empty and `judged` has fewer than two samples.
    """
    return float(held_out_calls(members, non_members, judged).mean())


def held_out_calls(
    members: np.ndarray, non_members: np.ndarray, judged: np.ndarray, seed: int | None = None
) -> np.ndarray:
    """Which of the judged samples those attacks call member: what `held_out_member_rate` is the mean of.

    Args:
        members: as there.
        non_members: as there.
        judged: as there.
        seed: of the two halves, where the attack is cross-fitted; every second sample if None.

    Returns:
        booleans, shape (judged,).

    Raises:
        ValueError: as there.
    """
    if len(non_members):
        return called_members(fit_attack(members, non_members), judged)
    if len(judged) < 2:
        raise ValueError("Cross-fitting the attack needs at least two non-members.")
    called = np.empty(len(judged), dtype=bool)
    order = np.arange(len(judged)) if seed is None else np.random.default_rng(seed).permutation(len(judged))
    for train, test in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        called[test] = called_members(fit_attack(members, judged[train]), judged[test])
    return called
