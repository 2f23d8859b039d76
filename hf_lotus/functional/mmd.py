"""The maximum mean discrepancy of two models' outputs on the same samples (NumPy, SciPy).

``MMD²(P, Q) = E k(p, p′) + E k(q, q′) − 2 E k(p, q)`` with the Gaussian kernel ``k(x, y) = exp(−‖x − y‖² / 2σ²)``
(Gretton et al., JMLR 13, 2012). Two models answer the same samples, so their outputs are dependent, pair by pair. All
sums here leave out the pairs themselves (i = j): what remains has independent factors, and the estimate is unbiased.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.spatial.distance import cdist, pdist

# Numbers in a block of a kernel matrix: 16 MiB of float64.
_BLOCK = 2**21
# From how many samples the median distance is taken at most; it hardly depends on more.
_MOST = 1000


def as_outputs(name: str, values: np.ndarray) -> np.ndarray:
    """Outputs of a model as float64 of shape (samples, dimensions).

    Args:
        name: what to call them in an error.
        values: shape (samples,) or (samples, dimensions).

    Raises:
        ValueError: for another shape, or values that are not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"{name} must have shape (samples,) or (samples, dimensions), got {np.shape(values)}.")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise ValueError(f"{name} must be finite; row {bad[0]} is not.")
    return array


def require_same_shape(**outputs: np.ndarray) -> None:
    """Raise `ValueError` unless all have one shape: the same samples in the same order."""
    shapes = {name: array.shape for name, array in outputs.items()}
    if len(set(shapes.values())) > 1:
        shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"All models must answer the same samples with outputs of one shape; got {shown}.")


def median_bandwidth(*samples: np.ndarray, seed: int = 0) -> float:
    """The median distance of two different values of all samples together: the usual σ.

    Args:
        *samples: each of shape (samples,) or (samples, dimensions).
        seed: of the thousand values that it is taken from, where there are more.

    Returns:
        above 0; 1 where all values are equal.
    """
    pooled = np.concatenate([as_outputs("A sample", sample) for sample in samples])
    if len(pooled) > _MOST:
        pooled = pooled[np.random.default_rng(seed).choice(len(pooled), _MOST, replace=False)]
    distances = pdist(pooled)
    distances = distances[distances > 0]
    return float(np.median(distances)) if len(distances) else 1.0


def check_bandwidth(bandwidth: float) -> None:
    """Raise `ValueError` unless it is above 0 and finite."""
    if not (np.isfinite(bandwidth) and bandwidth > 0):
        raise ValueError(f"The kernel's bandwidth must be above 0, got {bandwidth}.")


def kernel(a: np.ndarray, b: np.ndarray, bandwidth: float) -> np.ndarray:
    """The Gaussian kernel of every row of a with every row of b, shape (rows of a, rows of b)."""
    return np.exp(cdist(a, b, "sqeuclidean") / (-2 * bandwidth**2))


def row_blocks(samples: int) -> Iterator[slice]:
    """Slices of rows whose kernels with all samples take a few MiB."""
    step = max(1, _BLOCK // max(samples, 1))
    return (slice(start, min(start + step, samples)) for start in range(0, samples, step))


def off_diagonal_sums(a: np.ndarray, b: np.ndarray, bandwidth: float) -> tuple[np.ndarray, np.ndarray]:
    """``Σ_{j≠i} k(a_i, b_j)`` and ``Σ_{j≠i} k(a_j, b_i)`` of every i, for outputs of shape (samples, dimensions)."""
    rows, columns = np.empty(len(a)), np.zeros(len(a))
    own = np.exp(((a - b) ** 2).sum(axis=1) / (-2 * bandwidth**2))
    for block in row_blocks(len(a)):
        values = kernel(a[block], b, bandwidth)
        rows[block] = values.sum(axis=1)
        columns += values.sum(axis=0)
    return rows - own, columns - own


def mmd2(a: np.ndarray, b: np.ndarray, bandwidth: float) -> float:
    """Unbiased estimate of the squared discrepancy of two models' outputs on the same samples.

    Args:
        a: outputs of the one, shape (samples,) or (samples, dimensions), two samples or more.
        b: outputs of the other on the same samples.
        bandwidth: σ.

    Returns:
        can be a little below 0, where there is no difference.

    Raises:
        ValueError: for different shapes, one sample, values that are not finite, or a bandwidth not above 0.
    """
    a, b = as_outputs("a", a), as_outputs("b", b)
    require_same_shape(a=a, b=b)
    check_bandwidth(bandwidth)
    if len(a) < 2:
        raise ValueError(f"A discrepancy needs two samples or more, got {len(a)}.")
    total = sum(off_diagonal_sums(x, x, bandwidth)[0].sum() for x in (a, b))
    return float((total - 2 * off_diagonal_sums(a, b, bandwidth)[0].sum()) / (len(a) * (len(a) - 1)))


def paired_mmd_test(a: np.ndarray, b: np.ndarray, *, bandwidth: float, resamples: int = 500, seed: int = 0) -> float:
    """p-value of "the two models' outputs on these samples have one distribution": small where they differ.

    Exchanging what the two say of sample i turns the sign of all terms of the estimate with i in them. Under the null
    all such exchanges are alike, so the estimate is ranked among those of random signs: a permutation test that leaves
    the pairs together, exact where each pair is exchangeable, whatever the dependence within it.

    Args:
        a: outputs of the one, shape (samples,) or (samples, dimensions), two samples or more.
        b: outputs of the other on the same samples.
        bandwidth: σ.
        resamples: number of random signs.
        seed: of the signs.

    Returns:
        from 1 / (resamples + 1) to 1.

    Raises:
        ValueError: as `mmd2`, or without resamples.
    """
    a, b = as_outputs("a", a), as_outputs("b", b)
    require_same_shape(a=a, b=b)
    check_bandwidth(bandwidth)
    if resamples < 1 or len(a) < 2:
        raise ValueError(f"The test needs two samples and one resample or more, got {len(a)} and {resamples}.")
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(len(a), resamples + 1))
    signs[:, 0] = 1.0
    totals = np.zeros(resamples + 1)
    for block in row_blocks(len(a)):
        # k(a_i, a_j) + k(b_i, b_j) − k(a_i, b_j) − k(b_i, a_j): negated by an exchange in i or in j alone.
        terms = kernel(a[block], a, bandwidth) + kernel(b[block], b, bandwidth)
        terms -= kernel(a[block], b, bandwidth) + kernel(b[block], a, bandwidth)
        terms[np.arange(len(terms)), np.arange(block.start, block.stop)] = 0.0
        totals += (signs[block] * (terms @ signs)).sum(axis=0)
    # Equal up to the order of summation is equal.
    slack = 1e-9 * np.abs(totals).max()
    return float((1 + np.count_nonzero(totals[1:] >= totals[0] - slack)) / (1 + resamples))
