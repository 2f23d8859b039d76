"""Ranks that each choose what to forget must have chosen the same rows."""

from tests.support.choice_on_ranks import main
from tests.support.ranks import on_ranks


def test_ranks_that_chose_other_rows_are_all_refused(tmp_path):
    on_ranks(main, tmp_path)
    told = [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]
    assert told[0] == told[1] and "chose different rows to forget" in told[0] and "forget_rows" in told[0]
