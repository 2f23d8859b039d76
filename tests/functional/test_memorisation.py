"""Proxies of memorisation by hand: high is hard, ranks within a class, equal parts, the same share of a class."""

import numpy as np
import pytest
from scipy.special import softmax

from hf_lotus.functional.confusion import confusion_error, confusion_scores
from hf_lotus.functional.memorisation import (
    PROXIES,
    doubt,
    highest_of_each_class,
    margin_ranks,
    memorisation,
    split_by_score,
)

# Probabilities (1/2, 1/4, 1/4), (1/4, 1/2, 1/4) and (1/8, 1/8, 3/4).
LOGITS = np.log([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 6.0]])
LABELS = np.array([0, 0, 2])


class TestByHand:
    def test_confidence_is_what_is_left_to_the_wrong_classes(self):
        np.testing.assert_allclose(memorisation(LOGITS, LABELS), [1 / 2, 3 / 4, 1 / 4], rtol=1e-12)

    def test_margin_is_negated(self):
        expected = [-np.log(2), np.log(2), -np.log(6)]
        np.testing.assert_allclose(memorisation(LOGITS, LABELS, "margin"), expected, rtol=1e-12)

    def test_entropy_does_not_ask_for_the_label(self):
        p = softmax(LOGITS, axis=1)
        expected = -(p * np.log(p)).sum(axis=1)
        for labels in (LABELS, LABELS[::-1].copy()):
            np.testing.assert_allclose(memorisation(LOGITS, labels, "entropy"), expected, rtol=1e-12)

    def test_the_rank_is_within_the_class(self):
        """Margins ln 2 and −ln 2 of class 0, and the only one of class 2, which is in the middle of itself."""
        np.testing.assert_allclose(memorisation(LOGITS, LABELS, "margin_rank"), [1 / 4, 3 / 4, 1 / 2], rtol=1e-12)

    def test_the_rank_among_other_trained_samples(self):
        ranks = margin_ranks(np.array([0.0, 2.0]), np.array([0, 0]), np.array([-1.0, 0.0, 0.0, 1.0]), np.zeros(4, int))
        np.testing.assert_array_equal(ranks, [1 / 2, 1])  # below it one and half of two, of four
        trained = (LOGITS[:1], LABELS[:1])
        with pytest.raises(ValueError, match="Class 2 has no trained sample to rank"):
            memorisation(LOGITS, LABELS, "margin_rank", trained)


class TestOrder:
    @pytest.mark.parametrize("proxy", PROXIES)
    def test_what_is_less_sure_is_more_memorised(self, proxy):
        sure = np.array([[4.0, 0.0], [3.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
        assert (np.diff(memorisation(sure, np.zeros(4, int), proxy)) > 0).all()

    def test_confidences_that_round_to_one_still_have_an_order(self):
        sure = np.array([[80.0, 0.0], [60.0, 0.0], [40.0, 0.0]])
        assert (softmax(sure, axis=1)[:, 0] == 1).all()
        assert (np.diff(doubt(sure, np.zeros(3, int))) > 0).all()


class TestSplits:
    def test_thirds_low_first_equal_scores_in_order(self):
        assert split_by_score(np.array([3.0, 1.0, 2.0, 1.0, 5.0, 4.0])).tolist() == [1, 0, 1, 0, 2, 2]

    @pytest.mark.parametrize(("size", "sizes"), [(7, [2, 2, 3]), (2, [0, 1, 1]), (1, [0, 0, 1]), (0, [0, 0, 0])])
    def test_sizes_that_do_not_divide(self, size, sizes):
        assert np.bincount(split_by_score(np.zeros(size)), minlength=3).tolist() == sizes

    def test_the_same_share_of_each_class_the_first_of_equal_ones(self):
        scores = np.array([0.9, 0.1, 0.5, 0.5, 0.2, 0.3, 0.3, 0.1])
        labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
        assert highest_of_each_class(scores, labels, 0.5).tolist() == [0, 2, 5, 6]
        assert highest_of_each_class(-scores, labels, 0.25).tolist() == [1, 7]


class TestConfusion:
    def test_the_error_by_hand(self):
        labels, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 0])
        assert confusion_error(predicted, labels, 0, 1) == 2 / 4  # class 1 taken for class 2 is another error
        assert confusion_error(predicted, labels, 1, 0) == 2 / 4
        with pytest.raises(ValueError, match="no sample of class 5 or 6"):
            confusion_error(predicted, labels, 5, 6)

    def test_the_score_is_the_lead_of_the_other_class(self):
        logits = np.array([[1.0, 3.0, 9.0], [1.0, 3.0, 9.0], [1.0, 3.0, 9.0]])
        assert confusion_scores(logits, np.array([0, 1, 2]), 0, 1).tolist() == [2.0, -2.0, -np.inf]
        with pytest.raises(ValueError, match="got 1 twice"):
            confusion_scores(logits, np.array([0, 1, 2]), 1, 1)
        with pytest.raises(ValueError, match="outside the 3 classes"):
            confusion_scores(logits, np.array([0, 1, 2]), 0, 3)


def test_what_cannot_be_scored():
    with pytest.raises(ValueError, match="no proxy of memorisation 'loss'; there are confidence"):
        memorisation(LOGITS, LABELS, "loss")
    with pytest.raises(ValueError, match="Label 3 in row 0 is outside"):
        memorisation(LOGITS, np.array([3, 0, 0]))
    with pytest.raises(ValueError, match="finite logits; row 1"):
        memorisation(np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([0, 0]))
