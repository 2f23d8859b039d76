"""The queue's files: what they say, what they refuse, and in which state they leave the queue."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hf_lotus.publishing.digests import Salt
from hf_lotus.requests.queue import DeletionRequest, RequestQueue
from hf_lotus.requests.retained import Retained
from hf_lotus.utils.documents import first_problem

RECEIVED = "2026-01-01T00:00:00+00:00"


def request(name="one", day="2026-01-01", **selector):
    return DeletionRequest(name, day, selector or {"by": "rows", "rows": [1]}, RECEIVED)


@pytest.fixture
def queue(tmp_path):
    return RequestQueue(tmp_path / "queue")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"by": "rows", "rows": [5, 3]}, lambda digits: [3, 5]),
        (
            {"by": "column", "column": "user_id", "values": ["u3", "u5"]},
            lambda digits: [row for row, user in enumerate(digits["user_id"]) if user in ("u3", "u5")],
        ),
        (
            {"by": "class", "classes": ["digit 2"]},
            lambda digits: [row for row, label in enumerate(digits["label"]) if label == 2],
        ),
    ],
)
def test_rows_of_a_request(digits, selector, expected):
    assert request(**selector).rows(digits).tolist() == expected(digits)


def test_written_and_read_a_request_is_the_same(queue):
    given = request(by="column", column="user_id", values=["Ünal; DROP", "u7"])
    queue.add(given)
    assert queue.requests() == [given]
    (path,) = (queue.folder / "requests").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(queue.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "change",
    [
        *({"selector": {"by": "rows", "rows": rows}} for rows in ([0, 7], [], [True], [-1], [1.0], ["1"], (1,), 1)),
        *({"selector": {"by": "class", "classes": names}} for names in (["a"], [], [1], "cat", None)),
        *({"selector": {"by": "column", "column": "c", "values": names}} for names in (["a", ""], [], [1], "cat")),
        {"selector": {"by": "column", "column": 3, "values": ["a"]}},
        {"selector": {"by": "column", "column": "c", "values": ["a"], "rows": [1]}},
        {"selector": {"by": "class", "classes": ["a"], "mood": "angry"}},
        *({"selector": selector} for selector in ({}, [], None, "rows", {"by": "rows"}, {"rows": [1]})),
        *({"date": day} for day in ("20260101", "2026-W01-1", "2026-01-01")),
        *({"received": when} for when in ("2026-01-01T00:00:00+00:00", "", None, 3)),
    ],
)
def test_a_request_is_taken_where_the_schema_takes_it(change):
    """What is ordinary is not held against the schema, which is slow to load."""
    given = {"id": "one", "date": "2026-01-01", "received": "x", "selector": {"by": "rows", "rows": [1]}, **change}
    document = {"format": "hf-lotus deletion request", "format_version": 1, **given}
    if first_problem(document, "hf_lotus.requests/deletion_request") is None:
        assert DeletionRequest(**given).to_text()
    else:
        with pytest.raises(ValueError, match="one"):
            DeletionRequest(**given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format="a letter"), "is not a deletion request"),
        (lambda d: d.pop("format"), "is not a deletion request"),
        (lambda d: d.update(format_version=2), "is of format version 2; this version reads 1"),
        (lambda d: d.update(mood="angry"), "understands: .*mood"),
        (lambda d: d.pop("date"), "understands: .*date"),
        (lambda d: d.update(selector={"by": "rows", "rows": []}), "one is not one that this version understands"),
        (lambda d: d.update(selector={"by": "rows", "rows": ["1"]}), "selector"),
        (lambda d: d.update(selector={"by": "name"}), "selector"),
        (lambda d: d.update(date="2026-13-01"), "must be YYYY-MM-DD"),
        (lambda d: d.update(id="other"), "holds request other: a request's file has its name"),
        (lambda d: d.update(id="../other"), "begins with a letter or a digit"),
    ],
)
def test_a_file_that_is_no_request_is_named(queue, change, message):
    queue.add(request())
    (path,) = (queue.folder / "requests").iterdir()
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        queue.requests()


def test_a_file_that_is_no_json(queue):
    queue.add(request())
    (queue.folder / "requests" / "one.json").write_text('{"format": ')
    with pytest.raises(ValueError, match="one.json is not valid JSON"):
        queue.requests()


def test_of_many_who_take_an_id_at_once_one_has_it(queue):
    def add(value):
        try:
            queue.add(request(by="rows", rows=[value]))
        except ValueError as error:
            assert "already" in str(error)
            return None
        return value

    with ThreadPoolExecutor(8) as pool:
        taken = [value for value in pool.map(add, range(32)) if value is not None]
    assert len(taken) == 1 and queue.requests()[0].selector["rows"] == taken


def test_new_ids_differ_and_are_ids():
    ids = {DeletionRequest.new_id("2026-01-01") for _ in range(100)}
    assert len(ids) == 100 and all(request(name) for name in ids)


def test_the_state_is_told_by_the_files(queue):
    for name, day in (("late", "2026-01-03"), ("early", "2026-01-02")):
        queue.add(request(name, day))
    assert [r.id for r in queue.open()] == ["early", "late"] and queue.unfinished() is queue.latest() is None
    run = queue.begin({"early": {"date": "2026-01-02", "samples": ["aa"]}}, "0" * 64)
    assert queue.unfinished() == run and [r.id for r in queue.open()] == ["late"] and queue.planned() == {"early": run}
    for name in ("checkpoint-7", "best_round", "teacher_logits"):
        (run.work / name).mkdir(parents=True)
    (run.work / "model.safetensors").write_text("weights")
    assert run.model is None and run.measured is None
    measured = {"requests": {}, "models": {"original": {}, "model": {}}}
    run.keep(measured, Retained.of(["ab" * 32], np.array([True]), np.array([False])))
    assert sorted(os.listdir(run.model)) == ["model.safetensors"] and run.measured == measured
    assert run.retained.original.tolist() == [True] and run.retained.model.tolist() == [False]
    assert queue.unfinished() == run and queue.latest() is None, "not served before it says so"
    run.finish("now")
    assert queue.unfinished() is None and queue.latest() == run
    # A run that had nothing new to forget has no model: the one before stays the latest.
    second = queue.begin({"late": {"date": "2026-01-03", "samples": []}}, "0" * 64)
    second.finish("now")
    assert second.number == 2 and queue.latest() == run and not queue.open()


def test_a_damaged_plan_is_named(queue):
    run = queue.begin({}, "0" * 64)
    (run.folder / "plan.json").write_text("{")
    with pytest.raises(ValueError, match="plan.json is not valid JSON"):
        queue.planned()


def test_rows_of_rows_are_checked(digits):
    with pytest.raises(ValueError, match="out of range"):
        request(by="rows", rows=[3, len(digits)]).rows(digits)
    assert isinstance(request(by="rows", rows=[3]).rows(digits), np.ndarray)


class TestTheSalt:
    def test_one_that_is_lost_stops_the_queue(self, queue):
        salt = queue.salt()
        queue.begin({}, "0" * 64, salt.commitment)
        assert queue.salt() == salt
        queue.salt_path.rename(queue.folder / "moved")
        with pytest.raises(ValueError, match="is gone, and 1 run counted on it.*Put it back from a backup"):
            queue.salt()
        assert not queue.salt_path.exists(), "another one would brick the queue in silence"

    def test_another_one_is_refused(self, queue):
        queue.begin({}, "0" * 64, queue.salt().commitment)
        queue.salt_path.write_text("ab" * 32)
        with pytest.raises(ValueError, match="is another than that of run 1"):
            queue.salt()

    def test_of_many_that_make_one_at_once_all_have_the_first(self, tmp_path):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: Salt.read_or_create(tmp_path / "salt"), range(64)))
        assert len(set(found)) == 1 and [path.name for path in tmp_path.iterdir()] == ["salt"]
