"""Membership inference: by hand, and with SciPy and scikit-learn as oracles."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_curve

from hf_lotus.functional.membership import (
    attack_scores,
    auc,
    fit_attack,
    held_out_member_rate,
    member_rate,
    prediction_entropy,
    tpr_at_fpr,
    true_class_confidence,
)


def test_entropy_by_hand_and_by_scipy():
    rows = np.array([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]])
    np.testing.assert_allclose(prediction_entropy(rows), [0, math.log(4), math.log(2)], rtol=0, atol=1e-15)
    assert not np.signbit(prediction_entropy(rows)[0])
    random = np.random.default_rng(0).dirichlet(np.ones(10), size=100)
    np.testing.assert_allclose(prediction_entropy(random), stats.entropy(random, axis=1), rtol=1e-12)


def test_confidence_is_the_true_class_s_probability():
    rows = np.array([[0.1, 0.9], [0.7, 0.3]])
    np.testing.assert_array_equal(true_class_confidence(rows, np.array([0, 0])), [0.1, 0.7])


def test_the_attack_separates_what_can_be_separated():
    attack = fit_attack(np.zeros(50), np.ones(20))
    assert member_rate(attack, np.array([0.0, 0.1, 0.9, 1.0])) == 0.5


def test_the_attack_is_balanced():
    """The border lies midway between two like clouds, however many more members there are."""
    rng = np.random.default_rng(0)
    attack = fit_attack(rng.normal(0, 1, 20_000), rng.normal(2, 1, 1000))
    border = -attack.intercept_[0] / attack.coef_[0, 0]
    assert border == pytest.approx(1.0, abs=0.1)


def test_an_attack_that_knows_nothing_calls_half_members():
    rng = np.random.default_rng(0)
    rate = held_out_member_rate(rng.normal(size=5000), np.empty(0), rng.normal(size=5000))
    assert rate == pytest.approx(0.5, abs=0.05)


def test_with_other_non_members_the_attack_trains_on_those_alone():
    assert held_out_member_rate(np.zeros(100), np.ones(100), np.array([0.0, 1.0, 1.0, 1.0])) == 0.25


def test_cross_fitting_weighs_halves_of_different_size():
    # Judged by the attack of the other half: 0.0 lies with the members, 1.0 does not.
    judged = np.array([1.0, 1.0, 0.0])
    by_hand = [member_rate(fit_attack(np.zeros(9), judged[0::2]), judged[1::2]) * 1]
    by_hand += [member_rate(fit_attack(np.zeros(9), judged[1::2]), judged[0::2]) * 2]
    assert held_out_member_rate(np.zeros(9), np.empty(0), judged) == pytest.approx(sum(by_hand) / 3)


@pytest.mark.parametrize(
    ("members", "non_members", "message"),
    [
        ([], [1.0], r"for members, got shape \(0,\)"),
        ([1.0], [], r"for non-members, got shape \(0,\)"),
        ([[1.0]], [1.0], r"got shape \(1, 1\)"),
        ([np.nan], [1.0], "statistics of the members must be finite"),
    ],
)
def test_statistics_that_cannot_train_are_refused(members, non_members, message):
    with pytest.raises(ValueError, match=message):
        fit_attack(np.array(members), np.array(non_members))


def test_one_non_member_cannot_be_cross_fitted():
    with pytest.raises(ValueError, match="at least two non-members"):
        held_out_member_rate(np.zeros(3), np.empty(0), np.ones(1))


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_rank_members_higher_whichever_way_the_statistic_runs(sign):
    rng = np.random.default_rng(0)
    members, non_members = sign * rng.normal(0, 1, 500), sign * rng.normal(1, 1, 500)
    attack = fit_attack(members, non_members)
    scores, chances = attack_scores(attack, members), attack.predict_proba(members[:, None])[:, 1]
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(chances))


def test_auc_is_mann_whitney():
    rng = np.random.default_rng(0)
    positives, negatives = rng.integers(0, 9, 200), rng.integers(2, 11, 300)  # with ties
    expected = stats.mannwhitneyu(positives, negatives).statistic / (200 * 300)
    assert auc(positives, negatives) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("fpr", [0.0, 0.001, 0.01, 0.29, 0.5])
@pytest.mark.parametrize("ties", [False, True])
def test_tpr_is_the_roc_curve_s(fpr, ties):
    rng = np.random.default_rng(0)
    positives, negatives = rng.normal(1, 1, 700), rng.normal(0, 1, 1000)
    if ties:
        positives, negatives = positives.round(1), negatives.round(1)
    is_positive = np.repeat([1, 0], [700, 1000])
    rates = roc_curve(is_positive, np.concatenate([positives, negatives]), drop_intermediate=False)
    expected = rates[1][rates[0] <= fpr + 1e-12].max()
    assert tpr_at_fpr(positives, negatives, fpr) == pytest.approx(expected, abs=1e-12)


def test_tpr_by_hand():
    positives, negatives = np.array([0.0, 5.0, 6.0, 7.0]), np.arange(6.0)
    assert tpr_at_fpr(positives, negatives, 0.01) == 0.5  # above 5, no false positive
    assert tpr_at_fpr(positives, negatives, 1 / 6) == 0.75  # above 4, one of six
