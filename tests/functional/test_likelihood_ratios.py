"""RMIA against two plain loops, and on synthetic Gaussians whose area under the curve is known."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from hf_lotus.functional.likelihood_ratios import rmia, rmia_scores
from hf_lotus.functional.membership import auc


def probabilities(seed: int, models: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random(samples), rng.random((models, samples))


def by_definition(x, x_ref, z, z_ref, a, gamma, x_in, z_in):
    def ratio(p, reference, trained):
        outside = np.mean([q for q, t in zip(reference, trained, strict=True) if not t])
        return p / (0.5 * ((1 + a) * outside + (1 - a)))

    zs = [ratio(z[j], z_ref[:, j], z_in[:, j]) for j in range(len(z))]
    return [np.mean([ratio(x[i], x_ref[:, i], x_in[:, i]) / other >= gamma for other in zs]) for i in range(len(x))]


@pytest.mark.parametrize(("a", "gamma"), [(0.3, 2.0), (0.0, 1.0), (1.0, 1.3)])
def test_two_plain_loops(a, gamma):
    (x, x_ref), (z, z_ref) = probabilities(0, 4, 30), probabilities(1, 4, 40)
    rng = np.random.default_rng(2)
    x_in, z_in = rng.random((4, 30)) < 0.5, rng.random((4, 40)) < 0.5
    x_in[0] = z_in[1] = False
    found = rmia_scores(x, x_ref, z, z_ref, a=a, gamma=gamma, trained_on=x_in, population_trained_on=z_in)
    assert found.tolist() == pytest.approx(by_definition(x, x_ref, z, z_ref, a, gamma, x_in, z_in), abs=1e-12)


def gaussian(seed: int, members: int, others: int, shift: float, models: int = 2):
    """ln p(x|θ) = hardness of x + a normal number, `shift` higher for members; a reference has the hardness alone."""
    rng = np.random.default_rng(seed)

    def draw(count, higher):
        hardness = rng.uniform(-20, -8, size=count)
        target = np.exp(hardness + rng.normal(size=count) + higher)
        return target, np.repeat(np.exp(hardness)[None], models, axis=0)

    return *draw(members, shift), *draw(others, 0.0)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_the_known_area_of_two_gaussians(gamma):
    """With a = 1 the ratio is exp of the normal number alone: AUC Φ(d/√2), which the raw probability is far from."""
    forget, forget_reference, unseen, unseen_reference = gaussian(0, 4000, 8000, 1.5)
    found = rmia(forget, forget_reference, unseen, unseen_reference, a=1.0, gamma=gamma, resamples=20)
    # A score is a share of the population: what is beyond all of it is tied, which costs a little.
    assert found.figures.auc.value == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.02)
    assert found.figures.tpr[0.01].value == pytest.approx(norm.sf(norm.isf(0.01) - 1.5), abs=0.06)
    assert auc(forget, unseen) < 0.7


def test_a_model_that_never_saw_the_forget_set_reads_a_half():
    found = rmia(*gaussian(1, 3000, 6000, 0.0), resamples=100)
    assert found.figures.auc.low < 0.5 < found.figures.auc.high


def test_its_interval_covers_what_it_should():
    """Over forget sets and unseen sets alike of a model without memory, one half lies within."""
    found = [rmia(*gaussian(seed, 60, 120, 0.0), resamples=100).figures.auc for seed in range(60)]
    # The halves of the unseen share what they vary by, so this is a little less than 95 % of 60.
    assert sum(estimate.low <= 0.5 <= estimate.high for estimate in found) >= 50


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(1, 4))
def test_ranges_order_and_monotony(seed, a, gamma):
    (x, x_ref), (z, z_ref) = probabilities(seed, 3, 12), probabilities(seed + 1, 3, 15)
    found = rmia_scores(x, x_ref, z, z_ref, a=a, gamma=gamma)
    assert ((found >= 0) & (found <= 1)).all()
    order = np.random.default_rng(seed).permutation(12)
    assert rmia_scores(x[order], x_ref[::-1, order], z, z_ref[::-1], a=a, gamma=gamma) == pytest.approx(found[order])
    # What the judged model is surer of looks more like a member, what others are surer of less.
    assert (rmia_scores(np.minimum(x * 1.5, 1), x_ref, z, z_ref, a=a, gamma=gamma) >= found).all()
    assert (rmia_scores(x, np.minimum(x_ref * 1.5, 1), z, z_ref, a=a, gamma=gamma) <= found).all()
    assert (rmia_scores(x, x_ref, z, z_ref, a=a, gamma=gamma + 1) <= found).all()


def test_entries_of_models_that_were_trained_on_a_sample_do_not_count():
    (x, x_ref), (z, z_ref) = probabilities(3, 3, 10), probabilities(4, 3, 20)
    trained = np.zeros((3, 10), dtype=bool)
    trained[2] = True
    wild = x_ref.copy()
    wild[2] = 1.0
    masked = rmia_scores(x, wild, z, z_ref, trained_on=trained)
    np.testing.assert_array_equal(masked, rmia_scores(x, x_ref[:2], z, z_ref))


def test_probabilities_of_zero_are_no_error():
    found = rmia_scores(np.zeros(3), np.zeros((1, 3)), np.array([0.0, 0.5]), np.zeros((1, 2)), a=1.0)
    assert found.tolist() == [0.5, 0.5, 0.5]


def test_the_halves_and_what_goes_into_json():
    found = rmia(*gaussian(2, 50, 401, 1.0), resamples=20, seed=5)
    assert (len(found.scores), len(found.non_member_scores), found.population, found.models) == (50, 200, 201, 2)
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["tpr_at_0.001_fpr"]["value"] is None and "1,000" in document["tpr_at_0.001_fpr"]["reason"]
    assert document["auc"]["value"] == rmia(*gaussian(2, 50, 401, 1.0), resamples=20, seed=5).figures.auc.value
    assert (document["a"], document["gamma"], document["models"]) == (0.3, 2.0, 2)


X, X_REF = probabilities(5, 2, 6)
Z, Z_REF = probabilities(6, 2, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": X[:5]}, r"got \(5,\) and \(2, 6\)"),
        ({"reference": X_REF[0]}, r"got \(6,\) and \(6,\)"),
        ({"reference": X_REF[:0]}, "one reference model or more"),
        ({"target": X + 1}, "judged model' probabilities of the samples must lie between 0 and 1"),
        ({"reference": X_REF * np.nan}, "reference models' probabilities of the samples"),
        ({"population": -Z}, "of the population samples must lie between"),
        ({"population": Z[:0], "population_reference": Z_REF[:, :0]}, "population is empty"),
        ({"a": 1.1}, "a must lie between 0 and 1"),
        ({"gamma": 0.9}, "gamma be 1 or more"),
        ({"trained_on": np.ones((2, 6), dtype=bool)}, r"All 2 reference models were trained on 6 of the samples \(0"),
        ({"trained_on": np.ones((2, 6))}, "must be booleans"),
        ({"population_trained_on": np.zeros((2, 6), dtype=bool)}, r"booleans of shape \(2, 8\)"),
    ],
)
def test_bad_input(change, message):
    arguments = {"target": X, "reference": X_REF, "population": Z, "population_reference": Z_REF}
    with pytest.raises(ValueError, match=message):
        rmia_scores(**{**arguments, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unseen": Z[:1]}, "two unseen samples or more"),
        ({"unseen_reference": Z_REF[:, :5]}, r"must have shape \(models, 8\)"),
        ({"unseen_trained_on": np.zeros((3, 8), dtype=bool)}, r"must have shape \(2, 8\)"),
        ({"unseen_trained_on": np.ones((2, 8), dtype=bool)}, "of the population samples"),
    ],
)
def test_bad_unseen_samples(change, message):
    arguments = {"forget": X, "forget_reference": X_REF, "unseen": Z, "unseen_reference": Z_REF}
    with pytest.raises(ValueError, match=message):
        rmia(**{**arguments, **change})
