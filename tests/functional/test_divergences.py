"""JSD, RF-JSD and its null: closed forms, SciPy and torchmetrics as oracles, and the published code's formula."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import distance
from torchmetrics.functional.regression import jensen_shannon_divergence

from hf_lotus.functional import arrays as rows_module
from hf_lotus.functional.divergences import (
    Null,
    RunningClassMeans,
    divergence,
    jensen_shannon,
    reference_divergence,
    rf_jsd,
    rf_jsd_null,
)

LN2 = math.log(2)


def random_rows(count: int, classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), size=count)


def _reference_published(p: np.ndarray, q: np.ndarray) -> float:
    """METRICS.md's formula with the published code's operations in their order, whole matrices at a time."""
    p, q = np.clip(p, 1e-8, 1), np.clip(q, 1e-8, 1)
    p, q = p / p.sum(), q / q.sum()
    m = 0.5 * (p + q)
    kl_m_p = (m * np.log(m) - m * np.log(p)).sum() / len(p)
    kl_m_q = (m * np.log(m) - m * np.log(q)).sum() / len(q)
    return 0.5 * (kl_m_p + kl_m_q)


@st.composite
def pairs(draw) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices of distributions, with zeros among their entries."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(2, 5)))
    entries = st.one_of(st.just(0.0), st.floats(1e-6, 1.0))
    drawn = [draw(hnp.arrays(np.float64, shape, elements=entries)) for _ in range(2)]
    for values in drawn:
        values[values.sum(axis=1) == 0, 0] = 1.0
    return tuple(values / values.sum(axis=1, keepdims=True) for values in drawn)


# ---- the divergence of rows ----


def test_disjoint_rows_give_ln_2_and_equal_rows_give_0():
    one_hot = np.eye(3)
    np.testing.assert_allclose(jensen_shannon(one_hot, one_hot[[1, 2, 0]]), LN2, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(jensen_shannon(one_hot, one_hot), 0.0)


def test_two_classes_by_hand():
    # p = (1, 0), q = (1/2, 1/2): m = (3/4, 1/4);
    # KL(p|m) = ln 4/3; KL(q|m) = 1/2 ln 2/3 + 1/2 ln 2 = 1/2 ln 4/3; JSD = 3/4 ln 4/3.
    value = jensen_shannon(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    np.testing.assert_allclose(value, 0.75 * math.log(4 / 3), rtol=1e-14)


@pytest.mark.parametrize("base", [math.e, 2])
def test_scipy_agrees(base):
    p, q = random_rows(500, 20, seed=1), random_rows(500, 20, seed=2)
    expected = distance.jensenshannon(p, q, base=base, axis=1) ** 2
    np.testing.assert_allclose(divergence(p, q, base=base), expected, rtol=0, atol=1e-12)


def test_torchmetrics_agrees():
    p, q = random_rows(500, 20, seed=1), random_rows(500, 20, seed=2)
    expected = jensen_shannon_divergence(torch.from_numpy(p), torch.from_numpy(q))
    assert jensen_shannon(p, q).mean() == pytest.approx(float(expected), abs=1e-12)


def test_logits_give_what_their_softmax_gives():
    logits = np.random.default_rng(0).normal(scale=30, size=(2, 50, 7))
    p, q = (torch.softmax(torch.from_numpy(part), dim=1).numpy() for part in logits)
    np.testing.assert_allclose(jensen_shannon(*logits, from_logits=True), jensen_shannon(p, q), rtol=0, atol=1e-13)


def test_the_reference_convention_is_the_published_code():
    p, q = random_rows(40, 10, seed=1), random_rows(40, 10, seed=2)
    assert reference_divergence(p, q).mean() == pytest.approx(_reference_published(p, q), rel=1e-12)


def test_the_reference_convention_divides_by_the_rows_twice():
    # Of distributions without small entries the totals are N, so it is the mean of the reversed divergence over N.
    p, q = np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([[0.5, 0.5], [0.2, 0.8]])
    m = (p + q) / 2
    reversed_divergence = 0.5 * (m * np.log(m / p) + m * np.log(m / q)).sum(axis=1)
    assert reference_divergence(p, q).mean() == pytest.approx(reversed_divergence.mean() / 2, rel=1e-14)


def test_the_reference_convention_exceeds_ln_2():
    one_hot = np.eye(2)[:1]
    assert reference_divergence(one_hot, one_hot[:, ::-1])[0] == pytest.approx(
        -LN2 + math.log(1e8) / 2, abs=1e-6
    )  # m = 1/2 on both, half the logarithms 0 and half ln 1e-8


@given(pairs())
def test_it_is_symmetric_and_bounded(pair):
    p, q = pair
    forward = jensen_shannon(p, q)
    np.testing.assert_allclose(forward, jensen_shannon(q, p), rtol=0, atol=1e-14)
    assert (forward >= 0).all()
    assert (forward <= LN2 + 1e-14).all()


@given(pairs(), st.randoms(use_true_random=False))
def test_columns_may_be_renamed_and_rows_reordered(pair, random):
    p, q = pair
    columns, order = list(range(p.shape[1])), list(range(len(p)))
    random.shuffle(columns)
    random.shuffle(order)
    moved = jensen_shannon(p[order][:, columns], q[order][:, columns])
    np.testing.assert_allclose(moved, jensen_shannon(p, q)[order], rtol=0, atol=1e-14)


@pytest.mark.parametrize("function", [jensen_shannon, reference_divergence])
def test_blocks_do_not_show(function, monkeypatch):
    p, q = random_rows(100, 10, seed=1), random_rows(100, 10, seed=2)
    whole = function(p, q)
    monkeypatch.setattr(rows_module, "_BLOCK", 70)
    np.testing.assert_allclose(function(p, q), whole, rtol=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"convention": "textbook"}, "paper, reference.*'textbook'"), ({"base": 1}, "greater than 1.*got 1")],
)
def test_an_unknown_convention_or_base_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        divergence(np.eye(2), np.eye(2), **options)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"same shape, got \(2, 2\) and \(3, 3\)"):
        jensen_shannon(np.eye(2), np.eye(3))


# ---- RF-JSD ----


def labelled(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return random_rows(count, classes, seed), np.random.default_rng(seed).integers(0, classes, count)


def test_rf_jsd_by_hand():
    # Class 0: means (1, 0) and (1/2, 1/2); class 1: equal means.
    forget = RunningClassMeans.of(np.array([[1.0, 0.0], [1.0, 0.0], [0.2, 0.8]]), np.array([0, 0, 1]))
    unseen = RunningClassMeans.of(np.array([[0.3, 0.7], [0.7, 0.3], [0.2, 0.8]]), np.array([0, 0, 1]))
    result = rf_jsd(forget, unseen)
    assert result.per_class == {0: pytest.approx(0.75 * math.log(4 / 3), rel=1e-14), 1: pytest.approx(0, abs=1e-16)}
    assert result.value == pytest.approx(0.375 * math.log(4 / 3), rel=1e-14)
    assert result.missing_classes == ()


@pytest.mark.parametrize("convention", ["paper", "reference"])
def test_rf_jsd_is_the_divergence_of_class_means(convention):
    (p, p_labels), (q, q_labels) = labelled(300, 6, seed=1), labelled(200, 6, seed=2)
    means = [np.stack([x[y == c].mean(axis=0) for c in range(6)]) for x, y in ((p, p_labels), (q, q_labels))]
    expected = {
        "paper": (distance.jensenshannon(*means, axis=1) ** 2).mean(),
        "reference": _reference_published(*means),
    }
    result = rf_jsd(RunningClassMeans.of(p, p_labels), RunningClassMeans.of(q, q_labels), convention=convention)
    assert result.value == pytest.approx(expected[convention], rel=1e-10)
    assert np.mean(list(result.per_class.values())) == pytest.approx(result.value, rel=1e-14)


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 2**32 - 1), st.data())
def test_sums_do_not_depend_on_order_or_batches(count, classes, seed, data):
    probabilities, labels = labelled(count, classes, seed)
    whole = RunningClassMeans.of(probabilities, labels)
    order = np.array(data.draw(st.permutations(range(count))))
    borders = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    split = RunningClassMeans(classes)
    for part in np.split(order, borders):
        split.add(probabilities[part], labels[part])
    np.testing.assert_allclose(split.sums, whole.sums, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(split.counts, whole.counts)


def test_sums_of_float32_are_float64():
    probabilities, labels = labelled(1000, 5, seed=0)
    single = RunningClassMeans.of(probabilities.astype(np.float32), labels)
    assert single.sums.dtype == np.float64
    np.testing.assert_allclose(single.sums.sum(), 1000, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        ([[0.5, 0.5], [0.5, 0.6]], [0, 0], "Row 1 is not"),
        ([[0.5, 0.5]], [2], "Label 2 in row 0 is outside the 2 classes"),
        ([[0.5, 0.5]], [0, 1], r"shape \(1,\), got .* of shape \(2,\)"),
        ([[0.5, 0.25, 0.25]], [0], "has 3 classes, the ones before it 2"),
    ],
)
def test_a_bad_batch_changes_nothing(probabilities, labels, message):
    running = RunningClassMeans.of(np.array([[0.25, 0.75]]), np.array([1]))
    with pytest.raises(ValueError, match=message):
        running.add(np.array(probabilities), np.array(labels))
    np.testing.assert_array_equal(running.sums, [[0, 0], [0.25, 0.75]])
    np.testing.assert_array_equal(running.counts, [0, 1])


def test_classes_without_unseen_samples_are_named():
    forget = RunningClassMeans.of(np.eye(3), np.arange(3))
    unseen = RunningClassMeans.of(np.eye(3)[:2], np.arange(2))
    result = rf_jsd(forget, unseen)
    assert result.missing_classes == (2,)
    assert set(result.per_class) == {0, 1}


@pytest.mark.parametrize(
    ("forget", "unseen", "message"),
    [
        (RunningClassMeans(3), RunningClassMeans.of(np.eye(3), np.arange(3)), "the forget set is empty"),
        (RunningClassMeans.of(np.eye(3), np.arange(3)), RunningClassMeans(3), "the unseen set is empty"),
        (RunningClassMeans.of(np.eye(3), [0] * 3), RunningClassMeans.of(np.eye(3), [2] * 3), "no class in common"),
        (RunningClassMeans.of(np.eye(3), [0] * 3), RunningClassMeans.of(np.eye(2), [0] * 2), "3 classes and the unse"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(forget, unseen, message):
    with pytest.raises(ValueError, match=message):
        rf_jsd(forget, unseen)


# ---- the null ----


def test_the_null_is_what_an_unseen_forget_set_gives():
    """Fresh forget sets from the unseen set's own distribution score as the null says."""
    rng = np.random.default_rng(0)
    unseen, unseen_labels = random_rows(4000, 5, seed=1), np.repeat(np.arange(5), 800)
    q = RunningClassMeans.of(unseen, unseen_labels)
    null = rf_jsd_null(unseen, unseen_labels, np.full(5, 100), resamples=400)
    labels = np.repeat(np.arange(5), 100)
    values = [rf_jsd(RunningClassMeans.of(rng.dirichlet(np.full(5, 0.3), 500), labels), q).value for _ in range(400)]
    # Four standard errors of the mean, the unseen set's own draw included.
    assert np.mean(values) == pytest.approx(null.mean, abs=4 * null.std / np.sqrt(100))
    assert np.std(values) == pytest.approx(null.std, rel=0.25)


def test_the_null_by_hand():
    # One class of two rows, a forget set of one: P is a row, Q the mean of two drawn rows; two resamples of each case.
    rows, labels = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0])
    null = rf_jsd_null(rows, labels, np.array([1, 0]), resamples=4000)
    # Q is the same row (1/4), the other (1/4) or (1/2, 1/2) (1/2): divergences 0, ln 2 and 3/4 ln 4/3.
    values, chances = np.array([0, LN2, 0.75 * math.log(4 / 3)]), np.array([0.25, 0.25, 0.5])
    mean = values @ chances
    std = np.sqrt(((values - mean) ** 2) @ chances)
    assert null.mean == pytest.approx(mean, abs=4 * std / np.sqrt(4000))
    assert null.std == pytest.approx(std, rel=0.1)


def test_the_null_is_seeded_and_in_the_unit_asked_for():
    rows, labels = labelled(100, 3, seed=0)
    counts = np.array([5, 5, 5])
    nats = rf_jsd_null(rows, labels, counts, seed=1)
    assert rf_jsd_null(rows, labels, counts, seed=1) == nats
    assert rf_jsd_null(rows, labels, counts, seed=2) != nats
    bits = rf_jsd_null(rows, labels, counts, seed=1, base=2)
    assert (bits.mean, bits.std) == pytest.approx((nats.mean / LN2, nats.std / LN2), rel=1e-12)


def test_the_real_number_of_unseen_samples_counts():
    rows, labels = np.repeat(np.eye(2), 50, axis=0), np.zeros(100, int)
    few = rf_jsd_null(rows, labels, np.array([1000, 0]), resamples=200)
    many = rf_jsd_null(rows, labels, np.array([1000, 0]), resamples=200, unseen_counts=np.array([10_000, 0]))
    # Noise of variance 1/1000 + 1/100 against 1/1000 + 1/10,000: a tenth.
    assert many.mean == pytest.approx(few.mean / 10, rel=0.3)


def test_a_z_score_needs_a_spread():
    assert Null(1.0, 0.5).z_score(2.0) == 2.0
    assert Null(1.0, 0.0).z_score(2.0) is None
    assert Null(1e-17, 2e-18).z_score(1e-16) is None, "rounding is no spread"


@pytest.mark.parametrize(
    ("counts", "resamples", "message"),
    [([1, 0], 1, "at least 2 resamples.*got 1"), ([0, 1], 50, "no class in common")],
)
def test_a_null_that_cannot_be_is_refused(counts, resamples, message):
    with pytest.raises(ValueError, match=message):
        rf_jsd_null(np.eye(2), np.zeros(2, int), np.array(counts), resamples)
