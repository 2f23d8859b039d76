"""What a user gives, checked; and the bounded sample of rows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hf_lotus.functional import arrays as rows_module
from hf_lotus.functional.arrays import ClassSample, as_array, blocks, check_labels, check_rows, distributions

GOOD = [[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]


@pytest.mark.parametrize(
    "values",
    [
        GOOD,
        np.array(GOOD),
        np.array(GOOD, dtype=np.float16),
        torch.tensor(GOOD),
        torch.tensor(GOOD, dtype=torch.bfloat16),
        torch.tensor(GOOD, requires_grad=True),
        [torch.tensor(row) for row in GOOD],
    ],
    ids=["lists", "array", "half", "tensor", "bfloat16", "gradient", "list of tensors"],
)
def test_arrays_tensors_and_lists_are_the_same(values):
    np.testing.assert_array_equal(check_rows("rows", values), GOOD)


def test_an_array_is_not_copied():
    array = np.array(GOOD, dtype=np.float32)
    assert check_rows("rows", array) is array


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([0.5, 0.6], r"Row 2 is not \(sum 1.1"),
        ([1.5, -0.5], r"Row 2 is not \(sum 1, minimum -0.5"),
        ([np.nan, 0.5], "Row 2 is not"),
        ([np.inf, -np.inf], "Row 2 is not"),
        ([np.inf, 0.5], "Row 2 is not"),
    ],
)
def test_the_first_bad_row_is_named(bad, message, monkeypatch):
    monkeypatch.setattr(rows_module, "_BLOCK", 4)
    rows = np.array([*GOOD[:2], bad, bad])
    with pytest.raises(ValueError, match=message):
        check_rows("rows", rows)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 0.5], r"two classes or more, got \(2,\)"),
        ([[1.0]], r"two classes or more, got \(1, 1\)"),
        ([[0.5, 0.5], [1.0]], "same number of columns"),
        ([["a", "b"]], "must hold numbers"),
        (None, "must hold numbers, got object: None"),
    ],
)
def test_what_is_not_a_matrix_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        check_rows("rows", values)


def test_logits_must_be_finite():
    logits = np.array([[100.0, -100.0], [0.0, np.inf]])
    with pytest.raises(ValueError, match="finite logits; row 1"):
        check_rows("rows", logits, from_logits=True)
    assert check_rows("rows", logits[:1], from_logits=True) is not None


def test_distributions_sum_to_one():
    single = np.random.default_rng(0).dirichlet(np.ones(1000), size=10).astype(np.float32)
    rows = distributions(single)
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(rows, single, rtol=1e-5)


def test_softmax_of_extreme_logits():
    logits = np.array([[1000.0, 0.0], [0.0, np.log(3)]])
    np.testing.assert_allclose(distributions(logits, from_logits=True), [[1, 0], [0.25, 0.75]], rtol=0, atol=1e-15)


@given(st.integers(0, 100), st.integers(1, 10), st.integers(1, 50))
def test_blocks_cover_every_row_once(count, columns, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "_BLOCK", size)
        rows = [row for block in blocks(count, columns) for row in range(count)[block]]
    assert rows == list(range(count))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], "Label 3 in row 1 is outside the 3 classes.*0 to 2"),
        ([-1, 0], "Label -1 in row 0"),
        ([0.0, 1.0], "must be integers"),
        ([[0], [1]], r"shape \(2,\), got int64 of shape \(2, 1\)"),
        (None, "labels must hold numbers"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, 2, 3)


def test_scalars_become_arrays():
    assert as_array("label", torch.tensor(3)) == 3


# ---- the bounded sample ----


def numbered(count: int) -> np.ndarray:
    """Rows that say which they are."""
    return np.arange(count, dtype=np.float64)[:, None]


def test_few_rows_are_all_kept_in_order():
    sample = ClassSample(per_class=5)
    sample.add(numbered(4), np.array([1, 0, 1, 0]))
    sample.add(numbered(2) + 10, np.array([1, 1]))
    rows, labels = sample.rows()
    np.testing.assert_array_equal(rows[:, 0], [1, 3, 0, 2, 10, 11])
    np.testing.assert_array_equal(labels, [0, 0, 1, 1, 1, 1])


def test_what_is_kept_is_bounded_and_does_not_hold_the_batch():
    sample = ClassSample(per_class=3)
    batch = numbered(1000)
    sample.add(batch, np.repeat([0, 1], 500))
    batch[:] = -1
    rows, labels = sample.rows()
    np.testing.assert_array_equal(np.bincount(labels), [3, 3])
    assert (rows >= 0).all()


@pytest.mark.parametrize("processes", [1, 2])
def test_every_row_has_the_same_chance(processes):
    """Of 20 rows 5 are kept; over many seeds each a quarter of the time, wherever it was added."""
    kept = np.zeros(20)
    for seed in range(2000):
        # Uneven shares: the first process sees 4 rows, the second 16.
        samples = []
        for part in np.split(numbered(20), [4] if processes == 2 else []):
            sample = ClassSample(per_class=5, seed=seed * 2 + len(samples))
            sample.add(part, np.zeros(len(part), int))
            samples.append(sample)
        rows, _ = ClassSample.merged(samples).rows()
        kept[rows[:, 0].astype(int)] += 1
    # Five standard deviations of a binomial share.
    np.testing.assert_allclose(kept / 2000, 0.25, rtol=0, atol=5 * np.sqrt(0.25 * 0.75 / 2000))


def test_equal_keys_on_two_processes_do_not_compare_rows():
    samples = []
    for _ in range(2):
        sample = ClassSample(per_class=2, seed=0)
        sample.add(np.ones((3, 4)), np.zeros(3, int))
        samples.append(sample)
    rows, _ = ClassSample.merged(samples).rows()
    assert rows.shape == (2, 4)
