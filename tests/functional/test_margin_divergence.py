"""KLOM against NumPy's histograms and SciPy's entropy, in the limit of two Gaussians, and against its floor."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, norm

from hf_lotus.functional.margin_divergence import klom, klom_values


def pools(seed: int, unlearned: int, retrained: int, samples: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hardness = 3 * rng.normal(size=samples)
    return hardness + shift + rng.normal(size=(unlearned, samples)), hardness + rng.normal(size=(retrained, samples))


def by_numpy(p, q, bins, clip, epsilon):
    p, q = np.clip(p, -clip, clip), np.clip(q, -clip, clip)
    edges = (min(p.min(), q.min()), max(p.max(), q.max()))
    shares = [np.histogram(x, bins=bins, range=edges)[0] / len(x) for x in (p, q)]
    return entropy(shares[0], np.maximum(shares[1], epsilon))


@pytest.mark.parametrize("settings_", [(20, 100.0, 1e-5), (7, 2.0, 1e-3)])
def test_numpy_and_scipy_agree(settings_):
    u, r = pools(0, 30, 25, 40, 0.7)
    bins, clip, epsilon = settings_
    expected = [by_numpy(u[:, j], r[:, j], *settings_) for j in range(40)]
    np.testing.assert_allclose(
        klom_values(u, r, bins=bins, clip=clip, epsilon=epsilon), expected, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_two_gaussians(shift):
    """KL of N(d, 1) from N(0, 1) is d²/2; of their histograms it is what the bins' normal probabilities give."""
    rng = np.random.default_rng(1)
    p, q = rng.normal(size=(200_000, 1)) + shift, rng.normal(size=(200_000, 1))
    edges = np.linspace(min(p.min(), q.min()), max(p.max(), q.max()), 21)
    binned = [np.diff(norm.cdf(edges, loc)) for loc in (shift, 0)]
    found = float(klom_values(p, q)[0])
    assert found == pytest.approx(entropy(binned[0], np.maximum(binned[1], 1e-5)), rel=0.02)
    assert found == pytest.approx(shift**2 / 2, rel=0.05)


def test_it_is_the_unlearned_against_the_retrained():
    """All mass of the narrow one lies where the wide one has some; the wide one's lies where the narrow has none."""
    narrow, wide = np.tile([[0.0], [0.01]], (8, 1)), np.linspace(-1, 1, 16)[:, None]
    assert klom_values(narrow, wide)[0] < 3 < klom_values(wide, narrow)[0]


def test_its_ends():
    u = np.zeros((5, 1))
    # What the floor of the other 19 bins takes from the one that is filled.
    assert klom_values(u, u)[0] == pytest.approx(np.log1p(19e-5), abs=1e-12)
    # One bin each, and apart: −ln of the floor, normalised with the other bins at theirs.
    assert klom_values(u, u + 50)[0] == pytest.approx(np.log((1 + 19e-5) / 1e-5), abs=1e-12)
    # Margins beyond the clip are all alike.
    assert klom_values(u + 1000, u + 2000) == klom_values(u, u)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(2, 9), st.floats(-5, 5))
def test_range_order_and_reflection(seed, unlearned, retrained, shift):
    u, r = pools(seed, unlearned, retrained, 12, shift)
    values = klom_values(u, r)
    assert (values >= 0).all() and (values <= np.log(1.001 / 1e-5)).all()
    rng = np.random.default_rng(seed)
    order = rng.permutation(12)
    shuffled = klom_values(rng.permutation(u, axis=0)[:, order], rng.permutation(r, axis=0)[:, order])
    np.testing.assert_allclose(shuffled, values[order], atol=1e-12)
    np.testing.assert_allclose(klom_values(u, u), 0, atol=5e-3)


class TestSummary:
    def test_the_statistics_and_their_intervals(self):
        u, r = pools(2, 20, 20, 100, 1.0)
        found, values = klom(u, r, resamples=100), klom_values(u, r)
        np.testing.assert_array_equal(found.values, values)
        for estimate, value in (
            (found.percentile_95, np.percentile(values, 95)),
            (found.median, np.median(values)),
            (found.mean, values.mean()),
        ):
            assert estimate.value == pytest.approx(value) and estimate.n == 100
            assert estimate.low <= estimate.value <= estimate.high and estimate.low < estimate.high
        assert found.mean.high - found.mean.low == pytest.approx(3.92 * values.std() / 10, rel=0.35)

    def test_models_that_are_alike_stand_at_the_floor_and_others_above(self):
        alike, apart = (klom(*pools(3, 32, 32, 400, shift), resamples=2) for shift in (0.0, 2.0))
        assert alike.floor_models == 16
        # Far above 0 at this size, which the floor tells.
        assert alike.floor_median > 1
        assert alike.matched_mean == pytest.approx(alike.floor_mean, rel=0.1)
        assert apart.matched_mean > 1.5 * apart.floor_mean

    def test_the_floor_is_one_half_against_the_other(self):
        u, r = pools(4, 6, 12, 30, 1.0)
        found = klom(u, r, resamples=2, seed=9)
        assert found.floor_models == 6
        # The same for any unlearned models of the same number.
        assert klom(u + 3, r, resamples=2, seed=9).floor_mean == found.floor_mean
        assert klom(u, r, resamples=2, seed=10).floor_mean != found.floor_mean

    @pytest.mark.parametrize(("unlearned", "retrained"), [(3, 8), (8, 3), (1, 1)])
    def test_too_few_models_give_a_reason_and_no_number(self, unlearned, retrained):
        found = klom(*pools(5, unlearned, retrained, 10, 0.0))
        assert found.percentile_95.value is found.floor_mean is None
        assert f"there are {unlearned} unlearned, {retrained} retrained" in found.reason
        json.dumps(found.to_dict(), allow_nan=False)

    def test_what_goes_into_json(self):
        document = json.loads(json.dumps(klom(*pools(6, 8, 8, 20, 0.0), resamples=3).to_dict(), allow_nan=False))
        assert document["percentile_95"]["n"] == 20 and "values" not in document
        assert (document["unlearned_models"], document["floor_models"]) == (8, 4)


U, R = pools(7, 4, 4, 3, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unlearned": U[:1]}, "2 unlearned models or more, got 1"),
        ({"retrained": R[:, :2]}, "same samples"),
        ({"unlearned": U * np.inf}, "must be finite"),
        ({"unlearned": U[0]}, "of shape"),
        ({"unlearned": U[:, :0], "retrained": R[:, :0]}, "a sample or more"),
        ({"bins": 1}, "bins must be 2 or more"),
        ({"clip": 0}, "clip above 0"),
        ({"epsilon": 0}, "epsilon between 0 and 1"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        klom_values(**{"unlearned": U, "retrained": R, **change})


def test_without_resamples():
    with pytest.raises(ValueError, match="resamples must be at least 1"):
        klom(U, R, resamples=0)
