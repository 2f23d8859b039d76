"""U-LiRA against plain loops, on Gaussians whose accuracy and area are known, and on pools that are alike."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from hf_lotus.functional.u_lira import FEWEST_MODELS, log_likelihood_ratio, u_lira


def pools(seed: int, unlearned: int, retrained: int, samples: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hardness = 3 * rng.normal(size=samples)
    return hardness + shift + rng.normal(size=(unlearned, samples)), hardness + rng.normal(size=(retrained, samples))


def plain_scores(own, other, used, other_used, shared):
    """Λ of the side `own`, one value at a time: all models but this one, and but its partner on the other side."""
    scores = np.full(own.shape, np.nan)
    for k in range(len(own)):
        for j in range(own.shape[1]):
            if not used[k, j]:
                continue
            there = np.flatnonzero(other_used[:, j])
            partner = there[np.count_nonzero(used[:k, j]) % len(there)]
            sides = []
            for values, counts, left_out in ((own, used, k), (other, other_used, partner)):
                keep = np.arange(len(values)) != left_out
                mine = values[keep, j][counts[keep, j]]
                if shared:
                    columns = [values[keep, i][counts[keep, i]] for i in range(own.shape[1])]
                    variance = sum(len(c) * c.var() for c in columns) / sum(len(c) - 1 for c in columns)
                else:
                    variance = mine.var(ddof=1)
                sides.append(norm.logpdf(own[k, j], mine.mean(), np.sqrt(variance)))
            scores[k, j] = sides[0] - sides[1]
    return scores


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_plain_loops(shared, masked):
    u, r = pools(0, 7, 9, 6, 0.5)
    rng = np.random.default_rng(1)
    used_u = (rng.random(u.shape) < 0.8) | (not masked)
    used_r = (rng.random(r.shape) < 0.8) | (not masked)
    used_u[:5] = used_r[:5] = True
    options = {"unlearned_used": used_u, "retrained_used": used_r} if masked else {}
    found = u_lira(u, r, shared_variance=shared, resamples=10, **options)
    np.testing.assert_allclose(found.unlearned_scores, plain_scores(u, r, used_u, used_r, shared), rtol=1e-7)
    np.testing.assert_allclose(found.retrained_scores, -plain_scores(r, u, used_r, used_u, shared), rtol=1e-7)


@pytest.mark.parametrize("models", [24, 64])
def test_two_gaussians_that_are_known(models):
    """Calls are right with chance Φ(d/2), and the area is Φ(d/√2): of many models, by either kind of variance."""
    found = u_lira(*pools(2, models, models, 300, 1.0), resamples=100)
    assert found.shared_variance == (models < 64)
    assert found.accuracy.value == pytest.approx(norm.cdf(0.5), abs=0.02)
    assert found.auc.value == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.02)
    assert found.accuracy.low < norm.cdf(0.5) < found.accuracy.high
    assert found.tpr[0.01].value == pytest.approx(norm.sf(norm.isf(0.01) - 1), abs=0.03)


@pytest.mark.parametrize(("unlearned", "retrained"), [(4, 4), (5, 9), (16, 16)])
def test_pools_that_are_alike_read_a_half_on_average(unlearned, retrained):
    found = [u_lira(*pools(seed, unlearned, retrained, 60, 0.0), resamples=40, seed=seed) for seed in range(60)]
    for figure in ("accuracy", "auc"):
        values = np.array([getattr(result, figure).value for result in found])
        assert abs(values.mean() - 0.5) < 4 * values.std() / np.sqrt(60) + 0.002
        covered = sum(getattr(result, figure).low <= 0.5 <= getattr(result, figure).high for result in found)
        assert covered >= 53


def test_models_that_differ_as_a_whole_are_in_the_interval():
    """Each model has a shift of its own on all samples: the interval must know that there are few of them."""
    covered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        u, r = pools(seed, 8, 8, 60, 0.0)
        found = u_lira(u + 0.7 * rng.normal(size=(8, 1)), r + 0.7 * rng.normal(size=(8, 1)), resamples=60, seed=seed)
        covered += found.accuracy.low <= 0.5 <= found.accuracy.high
    assert covered >= 33


def test_pools_that_are_wholly_apart_have_the_interval_of_their_models():
    u, r = pools(3, 6, 8, 50, 60.0)
    found = u_lira(u, r, resamples=20)
    assert (found.accuracy.value, found.auc.value) == (1, 1)
    # Six models of six.
    assert found.accuracy.low == pytest.approx(0.025 ** (1 / 6), abs=1e-9)


def test_a_sample_without_enough_models_is_left_out():
    u, r = pools(4, 8, 8, 30, 1.0)
    used = np.ones(u.shape, dtype=bool)
    used[3:, :10] = False
    found = u_lira(u, r, unlearned_used=used, resamples=10)
    assert (found.samples, found.left_out) == (20, 10)
    assert np.isnan(found.unlearned_scores[:, :10]).all() and not np.isnan(found.unlearned_scores[:, 10:]).any()
    # What does not count may hold anything finite.
    wild = u_lira(np.where(used, u, 1e6), r, unlearned_used=used, resamples=10)
    np.testing.assert_array_equal(wild.unlearned_scores, found.unlearned_scores)


@pytest.mark.parametrize(("unlearned", "retrained"), [(3, 20), (20, 3), (1, 1)])
def test_too_few_models_give_a_reason_and_no_number(unlearned, retrained):
    found = u_lira(*pools(5, unlearned, retrained, 10, 1.0))
    assert found.accuracy.value is found.auc.value is found.tpr[0.01].value is None
    assert f"are {unlearned} unlearned and {retrained} retrained" in found.reason
    json.dumps(found.to_dict(), allow_nan=False)
    assert np.isnan(log_likelihood_ratio(np.zeros(10), *pools(5, unlearned, retrained, 10, 1.0))).all()


def test_few_values_cannot_support_a_low_rate():
    found = u_lira(*pools(6, 4, 4, 30, 1.0), resamples=10)
    assert found.tpr[0.001].value is None and "there are 120" in found.tpr[0.001].reason
    assert found.tpr[0.01].value is not None
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert {"accuracy", "auc", "tpr_at_0.001_fpr", "tpr_at_0.01_fpr", "samples", "reason"} <= set(document)


class TestRatio:
    def test_by_hand(self):
        u = np.array([[1.0], [3.0], [2.0], [2.0]])
        r = np.array([[0.0], [0.0], [1.0], [-1.0]])
        deviation = np.sqrt(2 / 3)
        expected = norm.logpdf(1.5, 2, deviation) - norm.logpdf(1.5, 0, deviation)
        for shared in (True, False):
            found = log_likelihood_ratio(np.array([1.5]), u, r, shared_variance=shared)
            assert found.tolist() == pytest.approx([expected], abs=1e-12)

    def test_a_new_model_of_either_side_is_told(self):
        u, r = pools(7, 33, 33, 500, 1.0)
        for sign, observed in ((1, u[-1]), (-1, r[-1])):
            calls = sign * log_likelihood_ratio(observed, u[:-1], r[:-1]) > 0
            assert calls.mean() == pytest.approx(norm.cdf(0.5), abs=0.07)

    def test_bad_input(self):
        u, r = pools(8, 5, 5, 3, 0.0)
        with pytest.raises(ValueError, match="one of each of 3 samples"):
            log_likelihood_ratio(np.zeros(4), u, r)
        with pytest.raises(ValueError, match="must be finite"):
            log_likelihood_ratio(np.full(3, np.nan), u, r)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(-100, 100), st.floats(0.1, 10))
def test_scale_shift_order_and_sides(seed, shift, scale):
    u, r = pools(seed, 5, 6, 8, 1.0)
    found = u_lira(u, r, resamples=1)
    # Every sample may be measured on a scale of its own origin; one common unit.
    moved = u_lira(u * scale + shift * np.arange(8), r * scale + shift * np.arange(8), resamples=1)
    np.testing.assert_allclose(moved.unlearned_scores, found.unlearned_scores, rtol=1e-5, atol=1e-6)
    order = np.random.default_rng(seed).permutation(8)
    permuted = u_lira(u[:, order], r[:, order], resamples=1)
    np.testing.assert_allclose(permuted.unlearned_scores, found.unlearned_scores[:, order], rtol=1e-9)
    turned = u_lira(r, u, resamples=1)
    np.testing.assert_allclose(turned.retrained_scores, -found.unlearned_scores, rtol=1e-9)
    assert turned.auc.value == pytest.approx(found.auc.value, abs=1e-12)
    assert turned.accuracy.value == pytest.approx(found.accuracy.value, abs=1e-12)


def test_models_that_all_say_the_same_are_no_error():
    found = u_lira(np.ones((5, 40)), np.ones((5, 40)), resamples=5)
    assert (found.accuracy.value, found.auc.value) == (0.5, 0.5)


U, R = pools(9, FEWEST_MODELS, FEWEST_MODELS, 3, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unlearned": U[0]}, r"unlearned models' values must be numbers of shape \(models, samples\)"),
        ({"retrained": R[:, :2]}, "same samples, got 3 under the unlearned and 2"),
        ({"unlearned": np.where(U == U[1, 2], np.nan, U)}, "finite; model 1 of sample 2"),
        ({"retrained": R.astype(str)}, "must be numbers"),
        ({"unlearned_used": np.ones((4, 2), dtype=bool)}, r"unlearned_used must be booleans of shape \(4, 3\)"),
        ({"retrained_used": np.ones((4, 3))}, "retrained_used must be booleans"),
        ({"resamples": 0}, "resamples must be at least 1"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        u_lira(**{"unlearned": U, "retrained": R, **change})
