"""Margins, quantile maps, their pooling, and calibration: closed forms, properties, and independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from hf_lotus.functional.margins import (
    TEMPERATURES,
    QuantileMap,
    closed_loop_shifts,
    fitted_temperature,
    margins,
    matched_margins,
)

# Few distinct values, so that ties are common; halves, so that sums are exact.
VALUES = st.lists(st.integers(-6, 6).map(lambda n: n / 2), min_size=1, max_size=30).map(np.array)


class TestMargins:
    def test_by_hand(self):
        logits = [[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [0.5, 0.5, -1.0], [-4.0, -6.0, -7.0]]
        assert margins(np.float32(logits), np.array([0, 1, 1, 0])).tolist() == [1.0, -2.0, 0.0, 2.0]

    def test_the_logits_are_left_as_they_are(self):
        logits = np.arange(6.0).reshape(2, 3)
        margins(logits, np.array([0, 2]))
        assert logits.tolist() == [[0, 1, 2], [3, 4, 5]]

    def test_negative_exactly_where_misclassified(self):
        generator = np.random.default_rng(0)
        logits, labels = generator.normal(size=(200, 4)), generator.integers(4, size=200)
        assert np.array_equal(margins(logits, labels) > 0, logits.argmax(axis=1) == labels)


class TestQuantileMap:
    def test_by_hand_with_a_tie(self):
        """1, 2, 2, 5 stand at 1/8, 4/8, 4/8, 7/8, and of the target 0 at 1/4 and 10 at 3/4."""
        mapped = QuantileMap.fit(np.array([2.0, 5.0, 1.0, 2.0]), np.array([10.0, 0.0]))
        assert mapped.knots.tolist() == [1, 2, 5]
        assert mapped.images.tolist() == [0, 5, 10]

    def test_by_hand_to_a_larger_sample(self):
        """1/4 lies halfway between 1/8 and 3/8, and 3/4 between 5/8 and 7/8."""
        mapped = QuantileMap.fit(np.array([4.0, 3.0]), np.array([0.0, 1.0, 2.0, 30.0]))
        assert mapped(np.array([3.0, 4.0])).tolist() == [0.5, 16.0]

    def test_by_hand_with_weights(self):
        """A value of weight 3 fills three quarters: it stands at 3/8, and the other at 7/8."""
        mapped = QuantileMap.fit(np.array([1.0, 2, 3, 4]), np.array([10.0, 0.0]), np.array([1.0, 3.0]))
        assert mapped.images.tolist() == [0, 0, 5, 10]

    def test_one_value_goes_to_the_median(self):
        assert QuantileMap.fit(np.array([3.0]), np.array([1.0, 5.0, 2.0])).images.tolist() == [2.0]

    def test_linear_between_the_knots_and_constant_beyond(self):
        mapped = QuantileMap.fit(np.array([0.0, 1.0]), np.array([10.0, 30.0]))
        assert mapped(np.array([-5.0, 0.25, 7.0])).tolist() == [10.0, 15.0, 30.0]

    @given(VALUES, st.integers(1, 3), st.integers(1, 3))
    def test_a_sample_is_mapped_onto_itself_however_often_each_value_is_repeated(self, sample, first, second):
        mapped = QuantileMap.fit(np.repeat(sample, first), np.repeat(sample, second)[::-1])
        np.testing.assert_allclose(mapped(sample), sample, rtol=0, atol=1e-12)
        if first == second:
            assert np.array_equal(mapped(sample), sample)

    @given(VALUES, VALUES)
    def test_it_never_falls_and_stays_within_the_target(self, source, target):
        mapped = QuantileMap.fit(source, target)
        assert (np.diff(mapped.images) >= 0).all()
        assert target.min() <= mapped.images.min() and mapped.images.max() <= target.max()

    @given(VALUES, VALUES)
    def test_it_is_numpys_quantile_by_hazens_rule_at_the_mean_rank(self, source, target):
        below = (source[:, None] > source).sum(axis=1) + (source[:, None] == source).sum(axis=1) / 2
        expected = np.quantile(target, below / len(source), method="hazen")
        np.testing.assert_allclose(QuantileMap.fit(source, target)(source), expected, rtol=0, atol=1e-12)

    def test_its_image_is_the_target_where_sizes_agree_and_nothing_is_tied(self):
        generator = np.random.default_rng(1)
        source, target = generator.normal(size=50), generator.exponential(size=50)
        mapped = QuantileMap.fit(source, target)(source)
        assert np.array_equal(np.sort(mapped), np.sort(target))
        assert np.array_equal(mapped[np.argsort(source)], np.sort(target))

    def test_of_normal_samples_it_is_the_known_transport(self):
        """From N(1, 2²) to N(−1, 1): x ↦ −1 + (x − 1)/2."""
        generator = np.random.default_rng(2)
        mapped = QuantileMap.fit(1 + 2 * generator.normal(size=40_000), generator.normal(size=40_000) - 1)
        points = np.array([-2.0, 0.0, 1.0, 3.0])
        np.testing.assert_allclose(mapped(points), -1 + (points - 1) / 2, atol=0.05)


def labelled(*groups):
    """Values and labels of (label, values) pairs."""
    labels = np.concatenate([np.full(len(values), label) for label, values in groups])
    return np.concatenate([np.asarray(values, dtype=float) for _, values in groups]), labels


FORGET = labelled((0, [4.0, 6.0]), (1, [8.0, 10.0]))
UNSEEN = labelled((0, [1.0, 2.0]), (1, [3.0, 5.0]))


class TestMatchedMargins:
    def test_by_hand_each_class_on_its_own(self):
        assert matched_margins(*FORGET, *UNSEEN, pool_below=1).tolist() == [1, 2, 3, 5]
        assert matched_margins(*FORGET, *UNSEEN, pool_below=2).tolist() == [1, 2, 3, 5]

    def test_only_forget_samples_of_the_class_count(self):
        """Without pooling a class's images do not depend on the other's samples."""
        other = labelled((0, [4.0, 6.0]), (1, [-3.0, 0.0, 70.0]))
        assert matched_margins(*other, *UNSEEN, pool_below=1)[:2].tolist() == [1, 2]

    def test_by_hand_pooled_in_part(self):
        """Together 4, 6, 8, 10 go to 0, 1, 2, 9; alone 4, 6 go to 1, 2 and 8, 10 to 0, 9.

        With 2 samples of the 8 asked for, a quarter of the way from the one to the other.
        """
        unseen = labelled((0, [1.0, 2.0]), (1, [0.0, 9.0]))
        assert matched_margins(*FORGET, *unseen, pool_below=1).tolist() == [1, 2, 0, 9]
        assert matched_margins(*FORGET, *unseen, pool_below=8).tolist() == [0.25, 1.25, 1.5, 9]

    def test_a_class_without_unseen_samples_moves_as_all_the_others_do(self):
        """Class 2 takes no part in the pool: 4, 6, 8, 10 go to 1, 2, 3, 5, so 5 to 1.5 and 11, beyond, to 5."""
        forget = labelled((0, [4.0, 6.0]), (1, [8.0, 10.0]), (2, [5.0, 11.0]))
        unseen = labelled((0, [1.0, 2.0]), (1, [3.0, 5.0]), (3, [-50.0]))
        assert matched_margins(*forget, *unseen, pool_below=1)[4:].tolist() == [1.5, 5.0]

    def test_the_pool_weighs_each_class_as_the_forget_set_does(self):
        """A class that is rare among the unseen samples is no rarer in the pool."""
        forget = labelled((0, [1.0, 3.0]), (1, [2.0, 4.0]))
        few = labelled((0, [10.0, 12.0]), (1, [11.0, 13.0]))
        many = labelled((0, [10.0, 12.0]), (1, [11.0] * 50 + [13.0] * 50))
        pooled = [matched_margins(*forget, *unseen, pool_below=10**9) for unseen in (few, many)]
        assert pooled[0] == pytest.approx([10, 12, 11, 13], abs=1e-6)
        assert np.abs(pooled[1] - pooled[0]).max() < 0.51  # the hundred fill half, and not 98 %

    def test_more_samples_lean_more_on_the_class_itself(self):
        """From the pooled map to the class's own, which 200 samples on its scarcer side have to themselves."""
        generator = np.random.default_rng(3)
        leaning = []
        for count in (20, 100, 199, 200, 400):
            forget = labelled((0, generator.normal(5, 1, count)), (1, generator.normal(5, 1, 500)))
            unseen = labelled((0, generator.normal(-3, 1, 500)), (1, generator.normal(3, 1, 500)))
            own, given, pooled = (matched_margins(*forget, *unseen, below)[:count] for below in (1, 200, 10**9))
            leaning.append(np.median((given - pooled) / (own - pooled)))
        assert leaning == pytest.approx([0.1, 0.5, 0.995, 1, 1], abs=1e-6)

    def test_the_scarcer_side_counts(self):
        for counts in ((3, 60), (60, 3)):
            generator = np.random.default_rng(4)
            forget = labelled((0, generator.normal(5, 1, counts[0])), (1, generator.normal(5, 1, 60)))
            unseen = labelled((0, generator.normal(-3, 1, counts[1])), (1, generator.normal(3, 1, 60)))
            own, given, pooled = (matched_margins(*forget, *unseen, below)[: counts[0]] for below in (1, 30, 10**9))
            np.testing.assert_allclose(given, pooled + 0.1 * (own - pooled), atol=1e-6)

    @settings(max_examples=50)
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(-6, 6)), min_size=1, max_size=40), st.integers(1, 50))
    def test_a_sample_is_mapped_onto_itself_pooled_or_not(self, pairs, pool_below):
        labels, values = np.array(pairs).T
        order = np.random.default_rng(0).permutation(len(labels))
        given = matched_margins(values / 2, labels, values[order] / 2, labels[order], pool_below)
        assert np.array_equal(given, values / 2)

    @settings(max_examples=50)
    @given(
        st.lists(st.tuples(st.integers(0, 3), st.integers(-6, 6)), min_size=1, max_size=40),
        st.lists(st.tuples(st.integers(0, 3), st.integers(-6, 6)), min_size=1, max_size=40),
        st.integers(1, 50),
    )
    def test_within_a_class_it_never_falls_and_stays_within_the_unseen_margins(self, forget, unseen, pool_below):
        (labels, values), (others, there) = np.array(forget).T, np.array([*unseen, (forget[0][0], 0)]).T
        given = matched_margins(values / 2, labels, there / 2, others, pool_below)
        assert there.min() / 2 - 1e-12 <= given.min() and given.max() <= there.max() / 2 + 1e-12
        for label in np.unique(labels):
            mine = labels == label
            order = np.argsort(values[mine], kind="stable")
            assert (np.diff(given[mine][order]) >= -1e-12).all()
            for value in np.unique(values[mine]):  # equal margins have one image
                assert len(np.unique(given[mine][values[mine] == value])) == 1

    def test_no_class_in_common_is_refused(self):
        with pytest.raises(ValueError, match=r"no sample of any class of the forget set \(0, 1\). Give unseen data"):
            matched_margins(*FORGET, *labelled((2, [1.0])), pool_below=1)


class TestTemperature:
    @pytest.mark.parametrize("right", [6, 8, 9])
    def test_of_two_classes_in_closed_form(self, right):
        """All logits (1, 0), a share p of them right: σ(1/T) = p."""
        labels = np.array([0] * right + [1] * (10 - right))
        expected = 1 / math.log(right / (10 - right))
        assert fitted_temperature(np.tile([1.0, 0.0], (10, 1)), labels) == pytest.approx(expected, rel=1e-9)

    def test_against_a_search_over_the_likelihood(self):
        generator = np.random.default_rng(5)
        logits = 3 * generator.normal(size=(500, 7))
        labels = np.array([generator.choice(7, p=np.exp(log_softmax(row / 1.7))) for row in logits])
        nll = lambda t: -log_softmax(logits / t, axis=1)[np.arange(500), labels].mean()  # noqa: E731
        found = minimize_scalar(nll, bounds=TEMPERATURES, method="bounded", options={"xatol": 1e-10}).x
        assert fitted_temperature(np.float32(logits), labels) == pytest.approx(found, rel=1e-5)
        assert found == pytest.approx(1.7, rel=0.15)
        assert fitted_temperature(2 * logits, labels) == pytest.approx(2 * found, rel=1e-5)
        assert fitted_temperature(logits + generator.normal(size=(500, 1)), labels) == pytest.approx(found, rel=1e-5)

    def test_a_set_without_an_error_and_one_worse_than_chance_end_at_the_bounds(self):
        logits = np.tile([1.0, 0.0], (4, 1))
        assert fitted_temperature(logits, np.zeros(4, dtype=int)) == TEMPERATURES[0]
        assert fitted_temperature(logits, np.ones(4, dtype=int)) == TEMPERATURES[1]


class TestClosedLoop:
    def test_a_step_by_hand(self):
        shifts = closed_loop_shifts(
            np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 9.0]), np.array([1.0, 20.0, -9.0]), 0.5
        )
        assert shifts.tolist() == [1 - 0.5, 2 - 4, 3 + 4]  # errors of −1, −19 and 18, of which 8 counts

    @pytest.mark.parametrize("reach", [0.3, 0.7, 1.0])
    def test_a_student_that_always_falls_short_still_comes_to_the_goal(self, reach):
        """It moves by `reach` of its target's shift: the open loop is left at that share, the closed one is not."""
        shift = np.array([-6.0])
        for _ in range(60):
            shift = closed_loop_shifts(shift, np.array([-6.0]), reach * shift, 0.5)
        assert reach * shift == pytest.approx([-6.0], abs=1e-3)


class TestBesideTrainedSamples:
    def test_a_sample_goes_to_the_quantile_of_its_rank(self):
        """Of 1 … 9 the third: at 2.5/9 of the unseen, which stand at 1/6, 3/6 and 5/6."""
        known = np.array([1.0, 2, 4, 5, 6, 7, 8, 9])
        zeros = np.zeros(8, dtype=int)
        mapped = matched_margins(np.array([3.0]), zeros[:1], np.array([0.0, 3.0, 6.0]), zeros[:3], 1, known, zeros)
        assert mapped == pytest.approx([3 * (2.5 / 9 - 1 / 6) * 3], abs=1e-12)

    def test_trained_samples_of_other_classes_do_not_count(self):
        generator = np.random.default_rng(0)
        forget, unseen, known = generator.normal(size=(3, 40))
        labels = np.arange(40) % 2
        given = forget, labels, unseen, labels, 10
        expected = matched_margins(*given, known, labels)
        more = np.concatenate([known, [9.0, 9.0]]), np.concatenate([labels, [5, 5]])
        assert np.array_equal(matched_margins(*given, *more), expected)
        assert not np.array_equal(matched_margins(*given), expected)

    def test_weights_of_the_source_are_repetitions(self):
        source, target = np.array([3.0, 1.0, 2.0]), np.array([0.0, 1.0, 5.0, 7.0])
        weighted = QuantileMap.fit(source, target, source_weights=np.array([1.0, 3.0, 2.0]))
        repeated = QuantileMap.fit(np.array([3.0, 1, 1, 1, 2, 2]), target)
        assert np.allclose(weighted.images, repeated.images) and np.array_equal(weighted.knots, repeated.knots)


class TestWhenTheLoopSettles:
    """docs/margin_matching.md: a student that goes the share a of the way to its target, and is pulled away by b."""

    def errors(self, gain, a, b=0.0, k=0.0, rounds=4000):
        """What is missing of a margin of 4 that should be 1, or 1 + k · (change), before each round."""
        before, wanted = np.array([4.0]), 1.0
        student, shifts, missing = before, np.array([wanted]) - before, []
        for _ in range(rounds):
            student = student + a * (before + shifts - student) + b
            goals = wanted + k * (student - before)
            missing.append(float((goals - student)[0]))
            shifts = closed_loop_shifts(shifts, goals, student, gain)
        return np.abs(missing), float((student - before)[0])

    @pytest.mark.parametrize("gain", [0.1, 0.5, 1.0, 1.95])
    @pytest.mark.parametrize("a", [0.05, 0.3, 0.7, 1.0])
    def test_every_gain_below_two_settles_and_takes_the_pull_up(self, gain, a):
        missing, change = self.errors(gain, a, b=0.5)
        assert missing[-1] < 1e-9
        assert change == pytest.approx(-3)
        open_loop, _ = self.errors(0.0, a, b=0.5)
        assert open_loop[-1] == pytest.approx(0.5 / a)

    def test_a_gain_of_two_oscillates_for_ever_where_a_round_goes_all_the_way(self):
        missing, _ = self.errors(2.0, 1.0, b=0.5)
        assert missing[-200:] == pytest.approx(missing[0])

    @pytest.mark.parametrize("a", [0.5, 0.8, 1.0])
    def test_the_bound_is_where_the_eigenvalues_say(self, a):
        bound = (4 - 2 * a) / a
        assert self.errors(0.99 * bound, a, b=0.1)[0][-1] < 1e-6
        assert self.errors(1.01 * bound, a, b=0.1)[0][-1] > 1

    def test_a_swing_shrinks_by_the_root_of_what_is_left(self):
        missing, _ = self.errors(0.5, 0.5, b=0.5, rounds=200)
        steps = np.arange(20, 60)
        slope = np.polyfit(steps, np.log([missing[s - 6 : s + 7].max() for s in steps]), 1)[0]
        assert np.exp(slope) == pytest.approx(0.5**0.5, rel=0.02)

    @pytest.mark.parametrize("k", [0.3, 0.8])
    def test_a_goal_that_follows_the_student_overshoots_and_half_of_it_by_less_than_twice(self, k):
        assert self.errors(0.5, 0.5, k=k)[1] == pytest.approx(-3 / (1 - k))
        halved = self.errors(0.5, 0.5, k=k / 2)[1]
        assert halved == pytest.approx(-3 / (1 - k / 2))
        assert halved > 2 * -3

    def test_a_goal_that_falls_faster_than_the_student_runs_away(self):
        assert self.errors(0.5, 0.5, k=1.1, rounds=200)[1] < -100
