"""What `make benchmark` runs on where the real data is not beside the project."""

from tasks import load

from hf_lotus.data.checks import check_rows


def test_the_digits_that_stand_in_share_no_rows_between_sets(monkeypatch, tmp_path):
    """They are repeated until they are as many as asked for, and a trainer refuses shared rows."""
    monkeypatch.setattr("tasks.SHARED", tmp_path)
    task = load(2_000)
    check_rows(task.sets)
    assert len(task.sets["forget"]) + len(task.sets["retain"]) == 2_000
