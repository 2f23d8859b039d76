"""The logit-scaled confidence against SciPy, and where probabilities round."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logit, softmax

from hf_lotus.functional.confidence import logit_confidence


def some(seed: int, rows: int = 50, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(scale=3, size=(rows, classes)), rng.integers(classes, size=rows)


def test_it_is_the_logit_of_the_true_class_probability():
    logits, labels = some(0)
    expected = logit(softmax(logits, axis=1)[np.arange(50), labels])
    np.testing.assert_allclose(logit_confidence(logits, labels, from_logits=True), expected, atol=1e-9)
    np.testing.assert_allclose(logit_confidence(softmax(logits, axis=1), labels), expected, atol=1e-9)


def test_of_two_classes_it_is_the_difference_of_the_logits():
    assert logit_confidence(np.array([[3.0, 1.0], [0.5, 2.0]]), np.array([0, 0]), from_logits=True).tolist() == [
        2,
        -1.5,
    ]


def test_logits_do_not_saturate_where_probabilities_do():
    logits = np.array([[60.0, 0.0, 0.0], [-900.0, 0.0, 0.0]])
    np.testing.assert_allclose(
        logit_confidence(logits, np.array([0, 0]), from_logits=True), [60 - np.log(2), -900 - np.log(2)]
    )
    rounded = logit_confidence(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))
    assert np.isfinite(rounded).all() and rounded[0] == -rounded[1] > 700


def test_a_certain_float32_prediction_keeps_what_its_other_classes_say():
    # 1 − p is 0 in float32, the sum of the others is not.
    rows = np.float32([[1.0, 1e-9, 3e-9]])
    np.testing.assert_allclose(logit_confidence(rows, np.array([0])), -np.log(4e-9), rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50))
def test_a_shift_of_the_logits_changes_nothing_and_the_others_have_no_order(seed, shift):
    logits, labels = some(seed, 10)
    value = logit_confidence(logits, labels, from_logits=True)
    np.testing.assert_allclose(logit_confidence(logits + shift, labels, from_logits=True), value, atol=1e-9)
    flipped = logit_confidence(logits[:, ::-1], 3 - labels, from_logits=True)
    np.testing.assert_allclose(flipped, value, atol=1e-9)


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        ([[0.5, 0.6]], [0], "Row 0 is not"),
        ([[0.5, np.nan]], [0], "Row 0 is not"),
        ([[0.5, 0.5]], [2], "Label 2 in row 0"),
        ([0.5, 0.5], [0], "two classes or more"),
    ],
)
def test_bad_input(rows, labels, message):
    with pytest.raises(ValueError, match=message):
        logit_confidence(np.array(rows), np.array(labels))
