"""The components of variance: by hand, against known ones, and where there is nothing to divide."""

import math

import numpy as np
import pytest

from hf_lotus.functional.variance import crossed_deviations


def drawn(shape, deviations, rest, seed):
    """Figures of a crossed design with known components."""
    generator, values = np.random.default_rng(seed), np.zeros(shape)
    for axis, deviation in enumerate(deviations):
        effect = generator.normal(0, deviation, shape[axis])
        values = values + effect.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return values + generator.normal(0, rest, shape)


def test_known_components_are_found_on_average():
    """Variances are unbiased, and are clipped at nought, so components are chosen that hardly ever are."""
    known, rest = (3.0, 2.0, 1.0), 0.5
    found = [crossed_deviations(drawn((6, 5, 4), known, rest, seed)) for seed in range(400)]
    variances = np.mean([np.square(factors) for factors, _ in found], axis=0)
    assert np.sqrt(variances) == pytest.approx(known, rel=0.06)
    assert math.sqrt(np.mean([left**2 for _, left in found])) == pytest.approx(rest, rel=0.02)


def test_what_two_factors_do_together_is_neither_ones_however_often_it_is_measured():
    """Training and unlearning interact, and evaluation adds nothing: its levels are no further evidence."""
    found = []
    for seed in range(600):
        pair = drawn((5, 4), (2.0, 0.0), 1.5, seed)
        found.append(crossed_deviations(np.repeat(pair[..., None], 3, axis=2)))
    training, unlearning, evaluation = np.mean([np.square(factors) for factors, _ in found], axis=0)
    assert math.sqrt(training) == pytest.approx(2.0, rel=0.05) and evaluation == pytest.approx(0, abs=1e-12)
    assert unlearning < 0.3  # unbiased but for the clipping at nought
    assert math.sqrt(np.mean([left**2 for _, left in found])) == pytest.approx(1.5, rel=0.03)


def test_a_factor_that_does_nothing_gets_nothing_however_much_the_others_do():
    """A nested analysis would take what the levels share for noise within; here they are met by all."""
    found = [crossed_deviations(drawn((4, 8), (0.0, 5.0), 0.1, seed))[0] for seed in range(50)]
    assert np.mean([factors[0] for factors in found]) < 0.05
    found = [crossed_deviations(drawn((4, 8), (1.0, 5.0), 0.1, seed))[0] for seed in range(200)]
    assert np.sqrt(np.mean([factors[0] ** 2 for factors in found])) == pytest.approx(1.0, rel=0.1)


def test_by_hand():
    (first, second), rest = crossed_deviations(np.array([[1.0, 2.0], [4.0, 9.0]]))
    # Means by row 1.5 and 6.5, by column 2.5 and 5.5; the rest is ±1 in each cell, with one degree of freedom.
    assert rest == pytest.approx(2.0)
    assert first == pytest.approx(math.sqrt((2 * 12.5 - 4) / 2))
    assert second == pytest.approx(math.sqrt((2 * 4.5 - 4) / 2))


def test_a_single_level_has_no_deviation_and_a_single_factor_the_plain_one():
    values = np.array([1.0, 2.0, 6.0])
    (none, plain, another), rest = crossed_deviations(values.reshape(1, 3, 1))
    assert plain == pytest.approx(values.std(ddof=1)) and all(math.isnan(each) for each in (none, another, rest))


@pytest.mark.parametrize("values", [np.zeros((2, 0)), np.array([[1.0, np.nan]]), np.float64(3.0)])
def test_what_has_no_spread_is_refused(values):
    with pytest.raises(ValueError, match="finite figures in one axis a factor"):
        crossed_deviations(values)
