"""The relative test: its arithmetic against a plain one, its level on the boundary of its null, its power."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom
from scipy.stats import t as student

from hf_lotus.functional.mmd import mmd2
from hf_lotus.functional.three_samples import class_pairs, rank_p_value, relative_test, relative_test_unseen

TRIALS, LEVEL = 200, 0.05
# No rate of false accusations above this is put down to chance.
ALLOWED = binom.ppf(0.999, TRIALS, LEVEL)


def normal(rng, scale=1.0, n=125):
    return scale * rng.normal(size=n)


# ---- nulls: unlearned, original, reference; the first five on the boundary, both distances equal ----


def all_alike(rng):
    return normal(rng), normal(rng), normal(rng)


def all_alike_and_dependent(rng):
    sample = normal(rng, 2)
    return tuple(sample + normal(rng, 0.5) for _ in range(3))


def between_the_two(rng):
    sample = normal(rng)
    return sample + normal(rng, 0.3), sample + 1 + normal(rng, 0.3), sample - 1 + normal(rng, 0.3)


def between_the_two_that_mirror_each_other(rng):
    sample = normal(rng)
    return sample, sample + 1 + normal(rng, 0.1), -sample - 1


def another_shape_from_both(rng):
    sample = rng.exponential(size=125)
    pair = [sample + rng.exponential(size=125) for _ in range(2)]
    return 2 * sample + normal(rng), *pair


def nearly_certain_predictions(rng):
    labels = rng.integers(10, size=125)

    def model():
        said = np.where(rng.random(125) < 0.9, labels, rng.integers(10, size=125))
        return np.eye(10)[said] * 0.98 + 0.002

    return model(), model(), model()


def retrained_again(rng):
    sample = normal(rng)
    return sample + normal(rng, 0.3), sample + 0.5, sample + normal(rng, 0.3)


NULLS = [
    all_alike,
    all_alike_and_dependent,
    between_the_two,
    between_the_two_that_mirror_each_other,
    another_shape_from_both,
    nearly_certain_predictions,
    retrained_again,
]


def accusations(draw, **options) -> int:
    outputs = (draw(np.random.default_rng(seed)) for seed in range(TRIALS))
    found = [relative_test(*three, resamples=1, seed=seed, **options) for seed, three in enumerate(outputs)]
    return sum(result.p_value <= LEVEL for result in found)


@pytest.mark.parametrize("draw", NULLS)
def test_its_level(draw):
    assert accusations(draw) <= ALLOWED


def test_between_two_it_is_not_merely_timid():
    # On the boundary, where the models differ, the level is used: about one in twenty is accused.
    assert accusations(between_the_two) >= binom.ppf(0.001, TRIALS, 0.03)


@pytest.mark.parametrize(("share", "power"), [(1.0, 1.0), (0.7, 0.95), (0.3, 0.0), (0.0, 0.0)])
def test_its_power(share, power):
    """An unlearned model that lies at `share` of the way from the reference to the original."""

    def draw(rng):
        sample = normal(rng)
        return (sample + place + normal(rng, 0.3) for place in (share, 1.0, 0.0))

    rate = accusations(draw) / TRIALS
    assert rate >= power if power else rate <= 0.01


def test_the_unmodified_original_is_accused():
    rng = np.random.default_rng(0)
    original, reference = normal(rng) + 1, normal(rng)
    found = relative_test(original, original, reference)
    assert found.p_value < 1e-3 and found.references_p_value < 0.01
    assert found.mmd2_original == pytest.approx(0, abs=1e-12) and found.mmd2_reference > 0.1


def test_the_retrained_model_itself_is_not():
    rng = np.random.default_rng(0)
    found = relative_test(r := normal(rng), normal(rng) + 1, r)
    assert found.p_value > 0.99 and found.statistic < 0


def test_the_noise_between_trainings_and_the_tolerance_for_it():
    """The original knows nothing; all models differ by a little noise of their own. n finds who is nearest to whom."""

    def p_values(tolerant: bool) -> np.ndarray:
        found = []
        for seed in range(40):
            rng = np.random.default_rng(seed)
            sample = normal(rng, n=300)
            models = [sample + 0.3 * rng.normal() + normal(rng, 0.3, n=300) for _ in range(4)]
            tolerance = max(mmd2(models[2], models[3], 1.0), 0.0) if tolerant else 0.0
            found.append(relative_test(*models[:3], bandwidth=1.0, tolerance=tolerance, resamples=1).p_value)
        return np.array(found)

    strict, tolerant = (np.mean(p_values(tolerant) <= LEVEL) for tolerant in (False, True))
    assert strict > 0.2
    assert tolerant < strict


# ---- the arithmetic ----


def plain(u, o, r, bandwidth):
    """The statistic from two discrepancies, its error from leaving each sample out, one after the other."""

    def difference(keep):
        return mmd2(u[keep], r[keep], bandwidth) - mmd2(u[keep], o[keep], bandwidth)

    n = len(u)
    without = np.array([difference(np.delete(np.arange(n), i)) for i in range(n)])
    error = np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2))
    return difference(np.arange(n)), error


@pytest.mark.parametrize("dimensions", [1, 3])
def test_against_a_plain_jackknife(dimensions):
    rng = np.random.default_rng(dimensions)
    u, o, r = (rng.normal(size=(60, dimensions)) + shift for shift in (0.3, 0.5, 0.0))
    found = relative_test(u, o, r, bandwidth=1.1, tolerance=0.01)
    statistic, error = plain(u, o, r, 1.1)
    assert found.statistic == pytest.approx(statistic - 0.01, abs=1e-12)
    assert found.standard_error == pytest.approx(error, rel=1e-9)
    assert found.p_value == pytest.approx(student.sf((statistic - 0.01) / error, 59), rel=1e-9)
    assert found.mmd2_original == pytest.approx(mmd2(u, o, 1.1), abs=1e-12)
    assert found.mmd2_reference == pytest.approx(mmd2(u, r, 1.1), abs=1e-12)
    assert (found.n, found.left_out, found.bandwidth) == (60, 0, 1.1)


def test_the_order_of_samples_does_not_matter_and_exchanging_the_two_turns_the_sign():
    rng = np.random.default_rng(3)
    u, o, r = (rng.normal(size=80) + shift for shift in (0.3, 0.5, 0.0))
    order = rng.permutation(80)
    found = relative_test(u, o, r, bandwidth=1.0)
    moved = relative_test(u[order], o[order], r[order], bandwidth=1.0)
    assert moved.p_value == pytest.approx(found.p_value, rel=1e-9)
    turned = relative_test(u, r, o, bandwidth=1.0)
    assert turned.statistic == pytest.approx(-found.statistic, abs=1e-12)
    assert turned.p_value == pytest.approx(1 - found.p_value, abs=1e-9)


def test_a_fifth_fixes_the_bandwidth_and_is_not_tested():
    rng = np.random.default_rng(4)
    three = [normal(rng) for _ in range(3)]
    found = relative_test(*three, seed=7)
    assert found.n == 100 and 0.7 < found.bandwidth < 1.3
    assert found == relative_test(*three, seed=7)
    rest = np.random.default_rng(7).permutation(125)[25:]
    again = relative_test(*(x[rest] for x in three), bandwidth=found.bandwidth)
    assert again.p_value == pytest.approx(found.p_value, rel=1e-9)


def test_equal_models_are_no_evidence():
    same = np.ones(100)
    assert relative_test(same, same, same).p_value == 1
    known = np.arange(100.0)
    assert relative_test(known, known, known).p_value == 1


def test_references_that_cannot_be_told_apart():
    rng = np.random.default_rng(5)
    assert relative_test(*all_alike(rng)).references_p_value > 0.05


def test_too_few_give_a_reason_and_no_number():
    found = relative_test(*(np.arange(60.0) for _ in range(3)))
    assert found.p_value is found.statistic is None
    assert found.n == 48 and "needs 50 samples" in found.reason
    json.dumps(found.to_dict(), allow_nan=False)
    assert relative_test(*(np.empty(0) for _ in range(3))).p_value is None
    assert relative_test(*(np.arange(50.0) for _ in range(3)), bandwidth=1.0).p_value is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unlearned": np.full(100, np.nan)}, "unlearned must be finite; row 0"),
        ({"reference": np.zeros(99)}, r"the same samples.*reference \(99, 1\)"),
        ({"original": np.zeros((100, 2))}, r"original \(100, 2\)"),
        ({"tolerance": -0.1}, "tolerance must be 0 or above, got -0.1"),
        ({"tolerance": np.nan}, "tolerance must be 0 or above"),
        ({"bandwidth": 0}, "bandwidth must be above 0"),
    ],
)
def test_bad_input(change, message):
    arguments = {name: np.arange(100.0) for name in ("unlearned", "original", "reference")}
    with pytest.raises(ValueError, match=message):
        relative_test(**{**arguments, **change})


# ---- without a retrained model ----


def original_on(labels, rng, seen):
    """Each class has its own mean; what was trained on stands one higher."""
    return labels + 1.0 * seen + rng.normal(size=len(labels))


def retrain_free(place, seed):
    """The unlearned model treats the forget set as unseen data (0), as the original does (1), or in between."""
    rng = np.random.default_rng(seed)
    forget, unseen = rng.choice(3, size=130, p=[0.6, 0.3, 0.1]), rng.choice(3, size=300)
    noise = rng.normal(size=130)
    original = forget + 1.0 + 0.7 * noise + 0.714 * rng.normal(size=130)
    unlearned = forget + place + 0.7 * noise + 0.714 * rng.normal(size=130)
    return relative_test_unseen(
        unlearned, original, forget, original_on(unseen, rng, False), unseen, resamples=1, seed=seed
    )


@pytest.mark.parametrize(("place", "power"), [(0.0, None), (0.5, None), (1.0, 0.95)])
def test_retrain_free_level_and_power(place, power):
    accused = sum(retrain_free(place, seed).p_value <= LEVEL for seed in range(TRIALS))
    assert accused <= ALLOWED if power is None else accused >= power * TRIALS


def test_classes_are_matched():
    """Skewed classes alone, on equal outputs class by class, are no evidence; unmatched they would be."""
    rng = np.random.default_rng(0)
    forget, unseen = np.repeat([0, 1], [90, 30]), np.repeat([0, 1], [150, 600])
    outputs = [forget * 4.0 + normal(rng, n=120) for _ in range(2)]
    found = relative_test_unseen(*outputs, forget, unseen * 4.0 + rng.normal(size=750), unseen)
    assert found.p_value > 0.05 and found.references_p_value > 0.05 and found.left_out == 0


def test_pairs_are_of_one_class_and_none_is_used_twice():
    here, there = np.array([0, 0, 0, 1, 2, 2, 5]), np.array([2, 0, 0, 1, 1, 9])
    mine, others = class_pairs(here, there, seed=1)
    assert (here[mine] == there[others]).all() and len(mine) == 4
    assert len(set(mine.tolist())) == len(set(others.tolist())) == 4


def test_samples_without_a_partner_are_counted():
    rng = np.random.default_rng(1)
    forget, unseen = np.repeat([0, 1], [100, 20]), np.repeat([0, 1], [80, 100])
    found = relative_test_unseen(
        normal(rng, n=120), normal(rng, n=120), forget, normal(rng, n=180), unseen, bandwidth=1.0
    )
    assert (found.n, found.left_out) == (100, 20)
    nothing = relative_test_unseen(normal(rng, n=120), normal(rng, n=120), forget + 5, normal(rng, n=180), unseen)
    assert nothing.p_value is None and nothing.left_out == 120


def test_labels_must_be_one_a_sample():
    with pytest.raises(ValueError, match="one label for each of the 80 unseen samples"):
        relative_test_unseen(np.ones(60), np.ones(60), np.zeros(60), np.ones(80), np.zeros(79))


# ---- ranks among honest models ----


def test_the_rank_among_honest_models():
    null = np.array([0.1, 0.2, 0.3, 0.3])
    assert rank_p_value(0.3, null) == 3 / 5
    assert rank_p_value(0.31, null) == 1 / 5
    assert rank_p_value(-1, null) == 1


def test_its_level_is_exact():
    """One of 20 exchangeable figures is the highest with chance 1/20, whatever the figures are."""
    figures = np.random.default_rng(0).standard_cauchy(size=(2000, 20))
    accused = sum(rank_p_value(row[0], row[1:]) <= 0.05 for row in figures)
    assert binom.ppf(0.001, 2000, 0.05) <= accused <= binom.ppf(0.999, 2000, 0.05)


@pytest.mark.parametrize(("observed", "null"), [(1.0, []), (np.nan, [1.0]), (1.0, [np.nan]), (1.0, [[1.0]])])
def test_a_rank_needs_figures(observed, null):
    with pytest.raises(ValueError, match="one honest model or more"):
        rank_p_value(observed, np.array(null))


def test_a_result_can_be_changed_and_written():
    rng = np.random.default_rng(0)
    found = replace(relative_test(*all_alike(rng)), left_out=3)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["left_out"] == 3
