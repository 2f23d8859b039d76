"""Which rows each model of a pool has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_lotus.audit.pool_design import design


def contents(count, twins=()):
    values = np.arange(count)
    for first, second in twins:
        values[second] = values[first]
    return values


@given(st.integers(2, 9), st.integers(1, 60), st.integers(0, 99))
def test_of_halves_every_row_is_in_half_of_the_models(models, rows, seed):
    members = design("halves", models, contents(rows), {}, seed)
    assert members.shape == (models, rows) and (members.sum(axis=0) == models // 2).all()


@given(st.integers(2, 9), st.sets(st.integers(0, 39), min_size=2, max_size=20), st.integers(0, 99))
def test_the_rows_of_a_forget_set_enter_and_leave_together(models, rows, seed):
    rows = np.array(sorted(rows))
    first, second = rows[::2], rows[1::2]
    members = design("halves", models, contents(40), {"first": first, "second": second}, seed)
    for each in (first, second):
        assert (members[:, each].all(axis=1) | ~members[:, each].any(axis=1)).all()
        assert members[:, each].all(axis=1).sum() == models // 2


def test_rows_are_drawn_each_by_itself_and_by_the_seed():
    members = design("halves", 8, contents(2000), {}, 0)
    assert abs(np.corrcoef(members[0], members[1])[0, 1] + 1 / 7) < 0.1  # of halves, −1/(models − 1)
    sizes = members.sum(axis=1)
    assert 900 < sizes.min() and sizes.max() < 1100
    assert (design("halves", 8, contents(2000), {}, 0) == members).all()
    assert (design("halves", 8, contents(2000), {}, 1) != members).any()


def test_twins_enter_and_leave_together_also_those_of_a_forget_set():
    members = design("halves", 6, contents(50, [(3, 40), (7, 41)]), {"one": np.array([3, 10])}, 0)
    assert (members[:, 3] == members[:, 40]).all() and (members[:, 7] == members[:, 41]).all()
    assert (members[:, 3] == members[:, 10]).all()
    retrained = design("retrained", 2, contents(50, [(3, 40)]), {"one": np.array([3, 10])})
    assert np.flatnonzero(~retrained[0]).tolist() == [3, 10, 40] and (retrained[0] == retrained[1]).all()
    assert design("originals", 2, contents(5), {}).all()


@pytest.mark.parametrize(
    ("kind", "models", "sets", "told"),
    [
        ("thirds", 4, {}, "halves, retrained, originals, got 'thirds'"),
        ("halves", 1, {}, "needs 2 models or more, got 1"),
        ("retrained", 4, {}, "without one forget set, got 0"),
        ("halves", 4, {"empty": np.array([], dtype=int)}, "'empty' must have row numbers from 0 to 9"),
        ("halves", 4, {"out": np.array([10])}, "'out' must have row numbers from 0 to 9"),
        ("halves", 4, {"a": np.array([1, 2]), "b": np.array([2, 3])}, "'a' and 'b' share 1 samples"),
    ],
)
def test_what_cannot_be_dealt_out(kind, models, sets, told):
    with pytest.raises(ValueError, match=told):
        design(kind, models, contents(10), sets)
