"""ε of attacks that are known, its bound's coverage on Laplace noise, and the competition's bins."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from hf_lotus.functional.epsilon import epsilon, forgetting_scores, sample_epsilons


def column(*values):
    return np.array(values, dtype=float)[:, None]


def shares(ones: int, of: int) -> np.ndarray:
    """A pool in which so many models say 1 and the others 0: one threshold, and no more to attack with."""
    return column(*[1] * ones, *[0] * (of - ones))


def by_enumeration(u, r, delta):
    """All intervals between neighbouring values, and all that lies outside each, one attack after the other."""
    cuts = [-np.inf, *((a + b) / 2 for a, b in itertools.pairwise(np.unique([*u, *r]))), np.inf]
    best = 0.0
    for low, high in itertools.combinations(cuts, 2):
        for calls_inside in (True, False):
            fpr, fnr = (np.mean(((x > low) & (x < high)) == calls_inside) for x in (r, u))
            fnr = 1 - fnr
            if fpr == fnr == 0:
                return np.inf
            if fpr == 0 or fnr == 0:
                continue
            for a, b in ((fpr, fnr), (fnr, fpr)):
                if 1 - delta - a > 0:
                    best = max(best, np.log((1 - delta - a) / b))
    return best


class TestSampleEpsilons:
    def test_of_a_known_threshold_attack(self):
        # FPR 0.1 and FNR 0.2: the larger of ln (0.9 / 0.2) and ln (0.8 / 0.1).
        found = sample_epsilons(shares(8, 10), shares(1, 10))
        assert found.tolist() == pytest.approx([np.log(8)])
        assert sample_epsilons(shares(8, 10), shares(1, 10), delta=0.1).tolist() == pytest.approx([np.log(7)])

    def test_models_that_are_wholly_apart_are_infinite(self):
        assert sample_epsilons(column(2, 3, 4, 5), column(0, 1, 0, 1)).tolist() == [np.inf]
        # By an interval, too.
        assert sample_epsilons(column(2, 3, 2, 3), column(0, 9, 1, 8)).tolist() == [np.inf]

    def test_an_attack_with_errors_of_one_kind_alone_is_left_out(self):
        # The only threshold lets no false positive through: nothing remains.
        assert sample_epsilons(shares(3, 4), shares(0, 4)).tolist() == [0]

    def test_models_that_all_say_the_same(self):
        assert sample_epsilons(np.ones((4, 2)), np.ones((4, 2))).tolist() == [0, 0]
        assert sample_epsilons(np.ones((4, 2)), np.ones((4, 2)), confidence=0.9).tolist() == [0, 0]

    @settings(deadline=None, max_examples=40)
    @given(
        st.lists(st.integers(0, 8), min_size=2, max_size=9),
        st.lists(st.integers(0, 8), min_size=2, max_size=9),
        st.sampled_from([0.0, 0.1]),
    )
    def test_every_attack_one_by_one(self, u, r, delta):
        u, r = np.array(u, dtype=float), np.array(r, dtype=float)
        found = float(sample_epsilons(u[:, None], r[:, None], delta=delta)[0])
        assert found == pytest.approx(by_enumeration(u, r, delta), abs=1e-9)

    @settings(deadline=None, max_examples=30)
    @given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12))
    def test_range_sides_order_and_monotone_maps(self, seed, unlearned, retrained):
        rng = np.random.default_rng(seed)
        u, r = rng.normal(size=(unlearned, 4)), rng.normal(size=(retrained, 4)) + 0.5
        found = sample_epsilons(u, r)
        finite = found[np.isfinite(found)]
        assert (finite >= 0).all() and (finite <= np.log(max(unlearned, retrained))).all()
        np.testing.assert_allclose(sample_epsilons(r, u), found)
        np.testing.assert_allclose(sample_epsilons(-rng.permutation(u, axis=0), -r), found)
        np.testing.assert_allclose(sample_epsilons(np.exp(u), np.exp(r)), found)
        assert (sample_epsilons(u, r, delta=0.1) <= found).all()

    def test_more_models_than_cuts_lose_little(self, monkeypatch):
        monkeypatch.setattr("hf_lotus.functional.epsilon._MOST_CUTS", 20)
        rng = np.random.default_rng(0)
        u, r = rng.normal(size=40) + 1, rng.normal(size=40)
        found = float(sample_epsilons(u[:, None], r[:, None])[0])
        assert 0.8 * by_enumeration(u, r, 0.0) <= found <= by_enumeration(u, r, 0.0) + 1e-9


class TestBound:
    def test_of_a_known_threshold_attack(self):
        """Each rate's upper end, at a chance of error shared among two rates, 20 thresholds and two directions."""
        chance = 0.05 / (4 * 20)
        fpr, fnr = (binomtest(errors, 20).proportion_ci(1 - 2 * chance, method="exact").high for errors in (0, 2))
        expected = max(np.log((1 - fpr) / fnr), np.log((1 - fnr) / fpr))
        found = sample_epsilons(shares(18, 20), shares(0, 20), confidence=0.95)
        assert found.tolist() == pytest.approx([expected], rel=1e-9)

    @pytest.mark.parametrize("shift", [0.0, 1.0])
    def test_it_lies_below_the_truth_as_often_as_it_says(self, shift):
        """Of Laplace noise of scale 1 moved by s, every attack's ε is s at most, and some have it."""
        rng = np.random.default_rng(0)
        u, r = rng.laplace(size=(60, 400)) + shift, rng.laplace(size=(60, 400))
        above = np.count_nonzero(sample_epsilons(u, r, confidence=0.95) > shift)
        assert above <= binom.ppf(0.999, 400, 0.05)
        # Which the best of the attacks, uncorrected, exceeds nearly always.
        assert np.mean(sample_epsilons(u, r) > shift) > 0.95

    def test_more_models_prove_more(self):
        apart = [
            float(sample_epsilons(np.ones((n, 1)), np.zeros((n, 1)), confidence=0.95)[0]) for n in (8, 32, 128, 512)
        ]
        assert apart == sorted(apart) and apart[0] == 0 and apart[-1] > 3

    @pytest.mark.parametrize("confidence", [0, 1, 1.5])
    def test_another_confidence(self, confidence):
        with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
            sample_epsilons(np.ones((4, 1)), np.ones((4, 1)), confidence=confidence)


class TestScores:
    def test_the_bins(self):
        found = forgetting_scores(np.array([0, 0.49, 0.5, 1.2, 5.99, 6.0, 40.0, np.inf]))
        assert found.tolist() == [1, 1, 1 / 2, 1 / 4, 2**-11, 2**-12, 2**-12, 2**-12]

    @pytest.mark.parametrize("bad", [-0.1, np.nan])
    def test_bad_input(self, bad):
        with pytest.raises(ValueError, match="0 or above"):
            forgetting_scores(np.array([bad]))


class TestSummary:
    def test_pools_that_are_alike_stand_at_the_floor(self):
        rng = np.random.default_rng(0)
        alike, apart = (
            epsilon(rng.normal(size=(32, 120)) + shift, rng.normal(size=(32, 120))) for shift in (0.0, 2.0)
        )
        # The best of many attacks finds much between models that are alike; the floor and the bound tell.
        assert alike.median > 1.5 and alike.bounded_median == 0
        assert alike.matched_quality == pytest.approx(alike.floor_quality, rel=0.25)
        assert apart.matched_quality < apart.floor_quality / 1.5
        assert alike.largest_bounded < 1.5 and alike.floor_models == 16
        assert 0 < apart.bounded_percentile_95 <= apart.largest_bounded

    def test_its_figures_are_of_the_values(self):
        rng = np.random.default_rng(1)
        u, r = rng.normal(size=(6, 40)) + 3, rng.normal(size=(6, 40))
        found = epsilon(u, r, delta=0.01)
        values = sample_epsilons(u, r, delta=0.01)
        np.testing.assert_array_equal(found.values, values)
        assert found.forgetting_quality == pytest.approx(forgetting_scores(values).mean())
        assert found.share_infinite == np.isinf(values).mean() > 0.5
        assert found.median is None
        json.dumps(found.to_dict(), allow_nan=False)

    @pytest.mark.parametrize(("unlearned", "retrained"), [(3, 9), (9, 3), (1, 1)])
    def test_too_few_models_give_a_reason_and_no_number(self, unlearned, retrained):
        found = epsilon(np.ones((unlearned, 2)), np.ones((retrained, 2)))
        assert found.forgetting_quality is found.floor_median is found.largest_bounded is None
        assert found.floor_models == 0
        assert f"there are {unlearned} unlearned and {retrained} retrained" in found.reason
        json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unlearned": np.ones(4)}, "of shape"),
        ({"retrained": np.ones((4, 3))}, "same samples"),
        ({"unlearned": np.full((4, 2), np.nan)}, "must be finite; model 0 of sample 0"),
        ({"delta": 1}, "delta must be at least 0 and below 1"),
        ({"delta": -0.1}, "delta must be at least 0"),
    ],
)
def test_bad_input(change, message):
    arguments = {"unlearned": np.ones((4, 2)), "retrained": np.ones((4, 2)), **change}
    with pytest.raises(ValueError, match=message):
        sample_epsilons(**arguments)
