"""The discrepancy against its definition, and the paired two-sample test's level and power."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from hf_lotus.functional import mmd
from hf_lotus.functional.mmd import median_bandwidth, mmd2, paired_mmd_test


def by_definition(a: np.ndarray, b: np.ndarray, bandwidth: float) -> float:
    def k(x, y):
        return np.exp(-np.sum((x - y) ** 2) / (2 * bandwidth**2))

    n = len(a)
    terms = [
        k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(a[j], b[i]) for i in range(n) for j in range(n) if i != j
    ]
    return float(np.sum(terms) / (n * (n - 1)))


@pytest.mark.parametrize("shape", [(12,), (12, 3)])
def test_it_is_its_definition(shape):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=shape), rng.normal(size=shape) + 1
    assert mmd2(a, b, 0.8) == pytest.approx(by_definition(a.reshape(12, -1), b.reshape(12, -1), 0.8), abs=1e-12)


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + 0.3
    whole = mmd2(a, b, 1.0), paired_mmd_test(a, b, bandwidth=1.0, resamples=99)
    monkeypatch.setattr(mmd, "_BLOCK", 50 * 7)
    assert mmd2(a, b, 1.0) == pytest.approx(whole[0], abs=1e-12)
    assert paired_mmd_test(a, b, bandwidth=1.0, resamples=99) == whole[1]


def test_of_two_gaussians_it_is_the_known_number():
    """E k(x, y) of N(μ, 1) and N(ν, 1) is σ/√(σ² + 2) · exp(−(μ − ν)² / 2(σ² + 2))."""
    rng = np.random.default_rng(2)
    found = [mmd2(rng.normal(size=200), rng.normal(size=200) + 1, 1.0) for _ in range(100)]
    expected = 2 * (1 - np.exp(-1 / 6)) / np.sqrt(3)
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / 10)
    assert np.std(found) < 0.06


def test_it_is_unbiased_for_pairs_however_they_depend():
    values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        common = rng.normal(size=20)
        values.append(mmd2(common + 0.1 * rng.normal(size=20), common + 0.1 * rng.normal(size=20), 1.0))
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_order_and_sides_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    a, b, order = rng.normal(size=(15, 2)), rng.normal(size=(15, 2)), rng.permutation(15)
    value = mmd2(a, b, 1.3)
    assert mmd2(b, a, 1.3) == pytest.approx(value, abs=1e-12)
    assert mmd2(a[order], b[order], 1.3) == pytest.approx(value, abs=1e-12)
    assert mmd2(a, a, 1.3) == pytest.approx(0, abs=1e-12)


class TestBandwidth:
    def test_by_hand(self):
        assert median_bandwidth(np.array([0.0, 1.0]), np.array([5.0])) == 4
        assert median_bandwidth(np.array([[0.0, 0.0], [3.0, 4.0]])) == 5

    def test_equal_values_do_not_count(self):
        assert median_bandwidth(np.array([0.0] * 20 + [2.0])) == 2
        assert median_bandwidth(np.zeros(5)) == 1

    def test_of_many_a_thousand_stand_for_all(self):
        values = np.random.default_rng(0).normal(size=5000)
        # The difference of two standard normal numbers has the median 0.954 in size.
        assert median_bandwidth(values) == pytest.approx(0.954, rel=0.05)
        assert median_bandwidth(values, seed=1) == median_bandwidth(values, seed=1)


class TestPairedTest:
    def test_its_level_where_pairs_depend(self):
        found = []
        for seed in range(200):
            rng = np.random.default_rng(seed)
            common = 2 * rng.normal(size=40)
            sides = (common + rng.normal(size=40) for _ in range(2))
            found.append(paired_mmd_test(*sides, bandwidth=1.0, resamples=99, seed=seed) <= 0.05)
        assert binom.ppf(0.001, 200, 0.05) <= sum(found) <= binom.ppf(0.999, 200, 0.05)

    def test_it_sees_a_shift_that_is_small_beside_the_spread_of_samples(self):
        rng = np.random.default_rng(0)
        common = 3 * rng.normal(size=200)
        a, b = common + 0.2 * rng.normal(size=200), common + 0.7 + 0.2 * rng.normal(size=200)
        assert paired_mmd_test(a, b, bandwidth=3.0, resamples=199) == 1 / 200

    def test_equal_outputs_are_no_evidence(self):
        assert paired_mmd_test(np.arange(9.0), np.arange(9.0), bandwidth=1.0, resamples=20) == 1


@pytest.mark.parametrize(
    ("a", "b", "bandwidth", "message"),
    [
        (np.ones(3), np.ones(4), 1.0, r"the same samples.*a \(3, 1\), b \(4, 1\)"),
        (np.array([1.0, np.nan]), np.ones(2), 1.0, "a must be finite; row 1"),
        (np.ones((2, 2, 2)), np.ones(2), 1.0, "must have shape"),
        (np.ones(2), np.ones(2), 0.0, "bandwidth must be above 0, got 0.0"),
        (np.ones(1), np.ones(1), 1.0, "two samples"),
    ],
)
def test_bad_input(a, b, bandwidth, message):
    with pytest.raises(ValueError, match=message):
        mmd2(a, b, bandwidth)
    with pytest.raises(ValueError, match=message):
        paired_mmd_test(a, b, bandwidth=bandwidth)
