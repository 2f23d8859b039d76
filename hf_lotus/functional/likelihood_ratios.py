"""RMIA: membership inference by likelihood ratios against population samples (NumPy).

Zarifzadeh, Liu and Shokri, "Low-Cost High-Power Membership Inference Attacks" (arXiv:2312.03262). A sample x that the
judged model θ was trained on is likelier under θ than it is for models at large, and more so than other samples z of
the population are:

    score(x) = share of z with  (p(x|θ) / p(x)) / (p(z|θ) / p(z)) ≥ γ.

``p(x|θ)`` is the probability of the true class. Offline, ``p(x) = ½ ((1 + a) p_out(x) + 1 − a)`` with p_out the mean
over reference models that were not trained on x: a line between what they say and what a model that knows x would. One
reference model already does well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .intervals import AttackFigures, attack_figures
from .pools import check_used

# The authors' values for CIFAR-10.
A, GAMMA = 0.3, 2.0


def rmia_scores(
    target: np.ndarray,
    reference: np.ndarray,
    population: np.ndarray,
    population_reference: np.ndarray,
    *,
    a: float = A,
    gamma: float = GAMMA,
    trained_on: np.ndarray | None = None,
    population_trained_on: np.ndarray | None = None,
) -> np.ndarray:
    """The share of population samples that each sample dominates: high looks like a member.

    Args:
        target: probability of the true class under the judged model, shape (samples,).
        reference: the same under the reference models, shape (models, samples), one model or more.
        population: the same as `target` of samples that no one was trained on, shape (others,), one or more.
        population_reference: the same as `reference` of those, shape (models, others).
        a: 0 … 1: how much the models that know a sample are like those that do not; the authors take 0.3 for CIFAR-10,
            0.6 for CIFAR-100.
        gamma: by how much a ratio must exceed another to dominate it, 1 or more.
        trained_on: True where a reference model was trained on the sample, shape (models, samples): not used there.
        population_trained_on: the same of the population, shape (models, others).

    Returns:
        float64, shape (samples,), 0 … 1.

    Raises:
        ValueError: for other shapes, numbers that are no probabilities, another a or gamma, or a sample that all
            reference models were trained on.
    """
    if not 0 <= a <= 1 or not 1 <= gamma < np.inf:
        raise ValueError(f"a must lie between 0 and 1, and gamma be 1 or more; got {a} and {gamma}.")
    ratios = _ratios("samples", target, reference, trained_on, a)
    others = np.sort(_ratios("population samples", population, population_reference, population_trained_on, a))
    if not len(others):
        raise ValueError("The population is empty: RMIA holds every sample against samples that no one trained on.")
    return np.searchsorted(gamma * others, ratios, side="right") / len(others)


def _ratios(
    what: str, target: np.ndarray, reference: np.ndarray, trained_on: np.ndarray | None, a: float
) -> np.ndarray:
    """``p(x|θ) / p(x)`` of every sample."""
    target, reference = np.asarray(target, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if target.ndim != 1 or reference.ndim != 2 or reference.shape[1:] != target.shape or not len(reference):
        raise ValueError(
            f"RMIA takes the {what}' probabilities under the judged model, of shape (samples,), and under one "
            f"reference model or more, of shape (models, samples); got {target.shape} and {reference.shape}."
        )
    for name, values in (("judged model", target), ("reference models", reference)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"The {name}' probabilities of the {what} must lie between 0 and 1.")
    nobody = np.zeros(reference.shape, dtype=bool)
    out = ~check_used(f"Who was trained on the {what}", nobody if trained_on is None else trained_on, reference.shape)
    known = np.flatnonzero(~out.any(axis=0))
    if len(known):
        raise ValueError(
            f"All {len(reference)} reference models were trained on {len(known)} of the {what} ({known[0]} is the "
            "first): none tells how likely they are to one that was not. Leave them out, or add reference models."
        )
    outside = (reference * out).sum(axis=0) / out.sum(axis=0)
    at_large = ((1 + a) * outside + 1 - a) / 2
    # With a = 1 what no reference model deems possible has no likelihood at all.
    return target / np.maximum(at_large, np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Rmia:
    """What RMIA found of the forget set.

    Attributes:
        figures: the forget set as positives against unseen samples: 0.5 is what a model shows that never saw it.
        scores: of the forget set, shape (samples,), 0 … 1.
        non_member_scores: of the unseen samples that were not taken for the population.
        models: number of reference models.
        population: number of population samples.
        a: as given.
        gamma: as given.
    """

    figures: AttackFigures
    scores: np.ndarray
    non_member_scores: np.ndarray
    models: int
    population: int
    a: float
    gamma: float

    def to_dict(self) -> dict[str, Any]:
        """The figures and the settings, without the scores."""
        settings = {"models": self.models, "population": self.population, "a": self.a, "gamma": self.gamma}
        return self.figures.to_dict() | settings


def rmia(
    forget: np.ndarray,
    forget_reference: np.ndarray,
    unseen: np.ndarray,
    unseen_reference: np.ndarray,
    *,
    a: float = A,
    gamma: float = GAMMA,
    trained_on: np.ndarray | None = None,
    unseen_trained_on: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Rmia:
    """RMIA of a forget set: does the judged model treat it like data that it was trained on?

    Half of the unseen samples, at random, are the population; the other half are the non-members that the forget set
    is told from. Classes differ in how likely their samples are: let both sets have them in the same shares.

    Args:
        forget: probability of the true class under the judged model on the forget set, shape (samples,).
        forget_reference: under the reference models, shape (models, samples).
        unseen: the same as `forget` on data that the judged model never saw, shape (others,), two or more.
        unseen_reference: the same as `forget_reference`, shape (models, others).
        a: as in `rmia_scores`.
        gamma: as there.
        trained_on: as there, of the forget set.
        unseen_trained_on: as there, of the unseen data.
        resamples: of the bootstrap.
        seed: of the halves and of the bootstrap.

    Raises:
        ValueError: as there, or with fewer than two unseen samples.
    """
    unseen, unseen_reference = np.asarray(unseen), np.asarray(unseen_reference)
    if unseen.ndim != 1 or len(unseen) < 2:
        raise ValueError(f"RMIA needs two unseen samples or more, of shape (others,); got shape {unseen.shape}.")
    if unseen_reference.ndim != 2 or unseen_reference.shape[1] != len(unseen):
        raise ValueError(
            f"The reference models' probabilities of the {len(unseen)} unseen samples must have shape (models, "
            f"{len(unseen)}), got {unseen_reference.shape}."
        )
    order = np.random.default_rng(seed).permutation(len(unseen))
    population, non_members = order[::2], order[1::2]
    masks = None if unseen_trained_on is None else np.asarray(unseen_trained_on)
    if masks is not None and masks.shape != unseen_reference.shape:
        raise ValueError(f"unseen_trained_on must have shape {unseen_reference.shape}, got {masks.shape}.")

    def scores(target: np.ndarray, reference: np.ndarray, trained: np.ndarray | None) -> np.ndarray:
        return rmia_scores(
            target,
            reference,
            unseen[population],
            unseen_reference[:, population],
            a=a,
            gamma=gamma,
            trained_on=trained,
            population_trained_on=None if masks is None else masks[:, population],
        )

    positives = scores(forget, forget_reference, trained_on)
    negatives = scores(
        unseen[non_members], unseen_reference[:, non_members], None if masks is None else masks[:, non_members]
    )
    figures = attack_figures(positives, negatives, resamples=resamples, seed=seed)
    return Rmia(figures, positives, negatives, len(unseen_reference), len(population), a, gamma)
