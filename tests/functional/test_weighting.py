"""Shares weighted by class, and the relearning excess, in closed form."""

import numpy as np
import pytest

from hf_lotus.functional.relearning import relearning_excess
from hf_lotus.functional.weighting import same_shares, weighted_by_class


class TestWeightedByClass:
    def test_by_hand(self):
        """Class 0: 1 of 4 right, class 1: 2 of 2. As three times class 0 and once class 1: 3/4 · 1/4 + 1/4 · 1."""
        right, labels = np.array([1, 0, 0, 0, 1, 1], dtype=bool), np.array([0, 0, 0, 0, 1, 1])
        assert weighted_by_class(right, labels, np.array([0, 0, 1, 0])) == pytest.approx(7 / 16, abs=1e-15)
        assert weighted_by_class(right, labels, np.array([1])) == 1.0

    def test_with_its_own_shares_it_is_the_plain_mean(self):
        generator = np.random.default_rng(0)
        values, labels = generator.normal(size=300), generator.integers(5, size=300)
        assert weighted_by_class(values, labels, labels) == pytest.approx(values.mean(), abs=1e-12)

    @pytest.mark.parametrize("size", [37, 60, 61, 97])
    def test_of_counts_it_is_exact(self, size):
        right = np.random.default_rng(size).random(3 * size) < 0.6
        labels = np.arange(3 * size) % 3
        assert weighted_by_class(right, labels, np.array([0, 1, 2])) == int(right.sum()) / len(right)

    def test_classes_that_are_not_there_are_left_out_and_all_missing_is_an_error(self):
        values, labels = np.array([0.25, 0.75]), np.array([2, 2])
        assert weighted_by_class(values, labels, np.array([2, 7, 7])) == 0.5
        with pytest.raises(ValueError, match="nothing to compare with"):
            weighted_by_class(values, labels, np.array([7]))


@pytest.mark.parametrize(
    ("like", "same"),
    [([0, 1, 0, 1], True), ([0, 0, 0, 1], False), ([0, 1, 9, 9, 9], True), ([9], True)],
)
def test_shares_are_compared_over_the_classes_that_both_have(like, same):
    assert same_shares(np.array([0, 1] * 50), np.array(like)) is same


class TestRelearningExcess:
    def test_by_hand(self):
        """D_f rises from 1/4 to 3/4. D_u: class 0 from 0 to 1/2, class 1 stays; three of four of D_f are of 0."""
        forget = np.array([1, 0, 0, 0], dtype=bool), np.array([1, 1, 1, 0], dtype=bool)
        unseen = np.array([0, 0, 1], dtype=bool), np.array([1, 0, 1], dtype=bool)
        labels = np.array([0, 0, 0, 1]), np.array([0, 0, 1])
        assert relearning_excess(forget, unseen, *labels) == pytest.approx(0.5 - 0.75 * 0.5, abs=1e-15)

    def test_what_rises_alike_has_none_and_a_fall_counts_against_it(self):
        labels = np.array([0, 1])
        none, both, first = (np.array(x, dtype=bool) for x in ([0, 0], [1, 1], [1, 0]))
        assert relearning_excess((none, both), (none, both), labels, labels) == 0
        assert relearning_excess((both, first), (both, both), labels, labels) == -0.5
        assert relearning_excess((none, both), (both, none), labels, labels) == 2
