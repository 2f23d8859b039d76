"""The relative test: is the unlearned model's output nearer to the original's than to a model's that never knew?

A two-sample test rejects even honest retraining, for no two trainings agree. The relative test asks with three samples
which of two the third is nearer to (Ribero, Schrab and Gretton, arXiv:2601.19755), here by the discrepancies of
Bounliphone et al. (arXiv:1511.04581), whose joint variance it needs. *A small p-value means "not forgotten".*

**The null hypothesis** is ``MMD²(U, R) ≤ MMD²(U, O) + tolerance``: the unlearned U is no farther from the reference R
than from the original O. What is tested is ``T = MMD²(U, R) − MMD²(U, O)``, estimated by

    T = Σ_{i≠j} h(z_i, z_j) / n(n − 1),   z_i = (u_i, r_i, o_i),
    h(z, z′) = k(r, r′) − k(o, o′) − k(u, r′) − k(u′, r) + k(u, o′) + k(u′, o).

All three models answer the same samples, so the three parts of z_i depend on each other, as strongly as they like.
The z_i are independent of each other, and terms with i = j are left out: T is an unbiased U-statistic of independent
observations, and its variance that of a U-statistic, with all covariances of the three in it. Disjoint thirds of the
samples, the other way to be rid of the dependence, would leave a third of the samples to each, and throw away that
paired differences vary less. The variance is the jackknife's, which is too large on average and never too small
(Efron and Stein 1981), so the test errs to acquittal, most of all where all three models agree and T is degenerate.

**The bandwidth** is the median distance in a fifth of the samples, which take no part in the test: a σ fixed by the
very samples tested moves with T, and the boundary of the null moves with σ.

**What the test cannot see:** its samples vary, its three models do not. Where the original has memorised next to
nothing, it is as far from the reference as another training is, and with many samples the test will find the side on
which the unlearned model happens to lie. `tolerance`, the squared discrepancy of two retrained models, lessens that,
but does not end it; `rank_p_value` among retrained models does. `references_p_value` says whether original and
reference can be told apart at all: where they cannot, there is nothing to be nearer to.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student

from .mmd import (
    as_outputs,
    check_bandwidth,
    median_bandwidth,
    off_diagonal_sums,
    paired_mmd_test,
    require_same_shape,
)

# With fewer the distribution of the statistic is not near enough to the one that its p-value is read from.
FEWEST = 50
# One sample in so many fixes the bandwidth.
HELD_OUT = 5


@dataclass(frozen=True)
class RelativeTest:
    """What the relative test found.

    Attributes:
        p_value: small means "not forgotten": nearer to the original. None where there are too few samples.
        statistic: MMD²(unlearned, reference) − MMD²(unlearned, original) − tolerance; above 0 leans to the original.
        standard_error: of the statistic.
        mmd2_original: squared discrepancy from the original, unbiased.
        mmd2_reference: the same from the reference.
        references_p_value: of "original and reference are one distribution": where it is large there is nothing to be
            nearer to.
        bandwidth: σ of the kernel.
        tolerance: what was allowed.
        n: samples that were tested.
        left_out: samples of the forget set without an unseen one of their class to stand beside.
        reason: why there is no p-value.
    """

    p_value: float | None
    statistic: float | None
    standard_error: float | None
    mmd2_original: float | None
    mmd2_reference: float | None
    references_p_value: float | None
    bandwidth: float | None
    tolerance: float
    n: int
    left_out: int = 0
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The attributes by name."""
        return asdict(self)

    def allowing(self, tolerance: float) -> RelativeTest:
        """What the same test finds where the reference may be so much farther, in place of what was allowed."""
        if self.statistic is None or self.standard_error is None:
            return replace(self, tolerance=tolerance)
        statistic, error = self.statistic + self.tolerance - tolerance, self.standard_error
        p_value = float(student.sf(statistic / error, self.n - 1)) if error > 0 else float(statistic <= 0)
        return replace(self, p_value=p_value, statistic=statistic, tolerance=tolerance)


def relative_test(
    unlearned: np.ndarray,
    original: np.ndarray,
    reference: np.ndarray,
    *,
    bandwidth: float | None = None,
    tolerance: float = 0.0,
    resamples: int = 500,
    seed: int = 0,
) -> RelativeTest:
    """Is the unlearned model's output on the forget set nearer to the original's than to the retrained model's?

        relative_test(logit_confidence(u, y), logit_confidence(o, y), logit_confidence(r, y)).p_value

    Args:
        unlearned: outputs on the forget set, shape (samples,) or (samples, dimensions); the logit-scaled confidence
            shows memory best.
        original: outputs of the original model on the same samples, in the same order.
        reference: outputs of the retrained model on the same samples.
        bandwidth: σ of the kernel; the median distance in a fifth of the samples, which is then not tested, if None.
        tolerance: squared discrepancy by which the unlearned model may be farther from the reference and is not
            accused; that of two retrained models (`mmd2`), where there are two.
        resamples: of the test whether original and reference differ at all.
        seed: of what is held out, and of those.

    Returns:
        the result; without a p-value where fewer than 50 samples remain.

    Raises:
        ValueError: for different shapes, values that are not finite, or a tolerance below 0.
    """
    u, o, r = as_outputs("unlearned", unlearned), as_outputs("original", original), as_outputs("reference", reference)
    require_same_shape(unlearned=u, original=o, reference=r)
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be 0 or above, got {tolerance}.")
    if bandwidth is not None:
        check_bandwidth(bandwidth)
    return _tested(u, o, r, bandwidth, resamples, seed).allowing(tolerance)


def relative_test_unseen(
    unlearned: np.ndarray,
    original: np.ndarray,
    forget_labels: np.ndarray,
    original_unseen: np.ndarray,
    unseen_labels: np.ndarray,
    *,
    bandwidth: float | None = None,
    tolerance: float = 0.0,
    resamples: int = 500,
    seed: int = 0,
) -> RelativeTest:
    """The relative test without a retrained model: the original's outputs on unseen data stand in for its outputs.

    A model that never saw the forget set treats it as the original treats other data that it never saw. Every forget
    sample is put beside a random unseen one of its class, each used once, so the classes weigh the same on both sides
    and the triples are independent as before. Forget samples beyond a class's unseen ones are left out.

    Args:
        unlearned: outputs of the unlearned model on the forget set, shape (samples,) or (samples, dimensions).
        original: outputs of the original model on the forget set.
        forget_labels: classes of the forget set, shape (samples,).
        original_unseen: outputs of the original model on unseen data, shape (others,) or (others, dimensions).
        unseen_labels: classes of the unseen data, shape (others,).
        bandwidth: as in `relative_test`.
        tolerance: as there.
        resamples: as there.
        seed: as there, and of the pairs.

    Returns:
        as there, with `left_out`.

    Raises:
        ValueError: as there, or if labels are not one a sample.
    """
    u, o = as_outputs("unlearned", unlearned), as_outputs("original", original)
    v = as_outputs("original_unseen", original_unseen)
    for name, labels, outputs in (("forget", forget_labels, u), ("unseen", unseen_labels, v)):
        if np.shape(labels) != (len(outputs),):
            raise ValueError(
                f"There must be one label for each of the {len(outputs)} {name} samples, got {np.shape(labels)}."
            )
    require_same_shape(unlearned=u, original=o)
    mine, partners = class_pairs(np.asarray(forget_labels), np.asarray(unseen_labels), seed)
    options: dict[str, Any] = {"bandwidth": bandwidth, "tolerance": tolerance, "resamples": resamples, "seed": seed}
    found = relative_test(u[mine], o[mine], v[partners], **options)
    return replace(found, left_out=len(u) - len(mine))


def class_pairs(labels: np.ndarray, other_labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a row here and a row there, of one class, none used twice, as many as there are, at random.

    Args:
        labels: classes here, shape (samples,).
        other_labels: classes there, shape (others,).
        seed: of the choice.

    Returns:
        rows here and rows there, each of shape (pairs,).
    """
    rng = np.random.default_rng(seed)
    mine, others = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for label in np.intersect1d(labels, other_labels):
        here, there = (rng.permutation(np.flatnonzero(side == label)) for side in (labels, other_labels))
        count = min(len(here), len(there))
        mine.append(here[:count])
        others.append(there[:count])
    return np.concatenate(mine), np.concatenate(others)


def _tested(
    u: np.ndarray, o: np.ndarray, r: np.ndarray, bandwidth: float | None, resamples: int, seed: int
) -> RelativeTest:
    """The test before anything is allowed, and so before it has a p-value."""
    if bandwidth is None:
        order = np.random.default_rng(seed).permutation(len(u))
        held, rest = np.split(order, [len(u) // HELD_OUT])
        if len(rest) >= FEWEST:
            bandwidth = median_bandwidth(u[held], o[held], r[held], seed=seed)
        u, o, r = u[rest], o[rest], r[rest]
    n = len(u)
    if bandwidth is None or n < FEWEST:
        reason = f"The relative test needs {FEWEST} samples, beside the fifth that fixes its bandwidth; it has {n}."
        return RelativeTest(None, None, None, None, None, None, bandwidth, 0.0, n, reason=reason)
    uu, oo, rr = (off_diagonal_sums(x, x, bandwidth)[0] for x in (u, o, r))
    ur, uo = (sum(off_diagonal_sums(u, x, bandwidth)) for x in (r, o))
    pairs = n * (n - 1)
    terms = rr - oo - ur + uo
    # The jackknife of a U-statistic of order two, written out.
    error = 2 * math.sqrt(((terms - terms.mean()) ** 2).sum() / pairs) / (n - 2)
    return RelativeTest(
        p_value=None,
        statistic=float(terms.sum() / pairs),
        standard_error=error,
        mmd2_original=float((uu + oo - uo).sum() / pairs),
        mmd2_reference=float((uu + rr - ur).sum() / pairs),
        references_p_value=paired_mmd_test(o, r, bandwidth=bandwidth, resamples=resamples, seed=seed),
        bandwidth=bandwidth,
        tolerance=0.0,
        n=n,
    )


def rank_p_value(observed: float, null: np.ndarray) -> float:
    """How a figure stands among the same figure of models that are known to be honest: ``(1 + #{≥}) / (1 + M)``.

    Exact where the judged model would be one more of them, whatever the figure: it knows of the noise between
    trainings, which a test on one model's samples does not. M models give no p-value below 1 / (M + 1).

    Args:
        observed: the judged model's figure; high is suspicious.
        null: the same of M retrained models, shape (models,).

    Raises:
        ValueError: if there are none, or a figure is not a number.
    """
    null = np.asarray(null, dtype=np.float64)
    if null.ndim != 1 or not len(null) or np.isnan(null).any() or math.isnan(observed):
        raise ValueError(f"The rank takes the figures of one honest model or more, got shape {null.shape}.")
    return float((1 + np.count_nonzero(null >= observed)) / (1 + len(null)))
