"""Intervals: Clopper and Pearson's against SciPy, the bootstrap's coverage, and what n cannot support."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from hf_lotus.functional.intervals import (
    Estimate,
    attack_figures,
    auc_estimate,
    clopper_pearson,
    rate,
    tpr_estimate,
    unsupported_fpr,
)
from hf_lotus.functional.membership import auc, tpr_at_fpr


class TestClopperPearson:
    @settings(deadline=None)
    @given(st.integers(1, 300), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
    def test_scipy_agrees(self, trials, data, confidence):
        successes = data.draw(st.integers(0, trials))
        expected = binomtest(successes, trials).proportion_ci(confidence, method="exact")
        low, high = clopper_pearson(np.array(successes), np.array(trials), confidence)
        assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-9)

    def test_many_at_once(self):
        low, high = clopper_pearson(np.arange(6)[:, None], np.array([5, 50]))
        assert low.shape == high.shape == (6, 2)
        assert low[0].tolist() == [0, 0] and high[5, 0] == 1
        assert (np.diff(low, axis=0) > 0).all() and (np.diff(high, axis=0)[:, 1] > 0).all()

    @given(st.integers(1, 60), st.data())
    def test_failures_mirror_successes_and_the_rate_lies_within(self, trials, data):
        successes = data.draw(st.integers(0, trials))
        low, high = clopper_pearson(np.array(successes), np.array(trials))
        mirrored = clopper_pearson(np.array(trials - successes), np.array(trials))
        assert (1 - float(high), 1 - float(low)) == pytest.approx(tuple(map(float, mirrored)), abs=1e-12)
        assert low <= successes / trials <= high

    @pytest.mark.parametrize(("k", "n", "c"), [(3, 2, 0.9), (-1, 2, 0.9), (0, 0, 0.9), (0.5, 2, 0.9), (1, 2, 1.0)])
    def test_bad_input(self, k, n, c):
        with pytest.raises(ValueError, match="trials|confidence"):
            clopper_pearson(np.array(k), np.array(n), c)


def test_a_rate():
    assert rate(3, 4).value == 0.75 and rate(3, 4).n == 4
    assert rate(0, 0) == Estimate(None, None, None, 0, "There are no observations.")


def gaussians(seed: int, positives: int, negatives: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=positives) + shift, rng.normal(size=negatives)


class TestAuc:
    def test_the_value_is_the_area_and_a_seed_gives_one_interval(self):
        sides = gaussians(0, 60, 80, 1.0)
        found = auc_estimate(*sides, resamples=100, seed=3)
        assert found.value == pytest.approx(auc(*sides), abs=1e-12) and found.n == 140
        assert found.low < found.value < found.high
        assert found == auc_estimate(*sides, resamples=100, seed=3)
        assert found != auc_estimate(*sides, resamples=100, seed=4)

    def test_it_covers_the_known_area_of_two_gaussians(self):
        truth = norm.cdf(1 / np.sqrt(2))
        found = [auc_estimate(*gaussians(seed, 80, 120, 1.0), resamples=150) for seed in range(120)]
        covered = sum(estimate.low <= truth <= estimate.high for estimate in found)
        assert binomtest(covered, 120, 0.95, alternative="less").pvalue > 0.001
        # And it is not merely wide: about four standard errors.
        spread = np.std([estimate.value for estimate in found])
        assert np.mean([estimate.high - estimate.low for estimate in found]) == pytest.approx(3.92 * spread, rel=0.2)

    def test_sides_that_are_wholly_apart_still_have_an_interval(self):
        expected = binomtest(12, 12).proportion_ci(method="exact").low
        above = auc_estimate(np.arange(12) + 100.0, np.arange(30.0))
        below = auc_estimate(np.arange(12.0) - 100, np.arange(30.0))
        assert (above.low, above.high) == pytest.approx((expected, 1), abs=1e-12)
        assert (below.low, below.high) == pytest.approx((0, 1 - expected), abs=1e-12)

    def test_too_few_give_a_reason_and_no_number(self):
        found = auc_estimate(np.arange(9.0), np.arange(400.0))
        assert found.value is found.low is found.high is None
        assert "9 and 400" in found.reason
        assert auc_estimate(np.empty(0), np.empty(0)).value is None

    @pytest.mark.parametrize("bad", [np.array([np.nan] * 20), np.ones((5, 5)), np.array([np.inf] * 20)])
    def test_bad_input(self, bad):
        with pytest.raises(ValueError, match="finite numbers of shape"):
            auc_estimate(bad, np.arange(20.0))
        with pytest.raises(ValueError, match="finite numbers of shape"):
            tpr_estimate(np.arange(20.0), bad, 0.1)

    def test_without_resamples(self):
        with pytest.raises(ValueError, match="resamples must be at least 1"):
            auc_estimate(np.arange(20.0), np.arange(20.0), resamples=0)


class TestTpr:
    def test_it_is_the_rate_with_its_exact_interval(self):
        sides = gaussians(1, 50, 300, 2.0)
        found = tpr_estimate(*sides, 0.01)
        hits = round(tpr_at_fpr(*sides, 0.01) * 50)
        expected = binomtest(hits, 50).proportion_ci(method="exact")
        assert 0 < hits < 50 and found.n == 50
        assert (found.value, found.low, found.high) == pytest.approx((hits / 50, expected.low, expected.high))

    @pytest.mark.parametrize(("negatives", "supported"), [(999, False), (1000, True)])
    def test_a_tenth_of_a_percent_needs_a_thousand(self, negatives, supported):
        found = tpr_estimate(np.arange(10.0), np.arange(float(negatives)), 0.001)
        assert (found.value is not None) == supported
        assert supported or f"1,000 non-members or more; there are {negatives}" in found.reason

    def test_without_positives(self):
        assert tpr_estimate(np.empty(0), np.arange(100.0), 0.1).reason == "There are no positives."

    def test_another_rate(self):
        with pytest.raises(ValueError, match="between 0 and 1, got 1"):
            unsupported_fpr(10, 1.0)


def test_the_figures_of_an_attack_go_into_json():
    figures = attack_figures(*gaussians(2, 40, 200, 1.0), resamples=50)
    assert figures.tpr[0.001].value is None and figures.tpr[0.01].value is not None
    document = json.loads(json.dumps(figures.to_dict(), allow_nan=False))
    assert set(document) == {"auc", "tpr_at_0.001_fpr", "tpr_at_0.01_fpr", "positives", "negatives"}
    assert set(document["auc"]) == {"value", "low", "high", "n", "reason"}
    assert (document["positives"], document["negatives"]) == (40, 200)
