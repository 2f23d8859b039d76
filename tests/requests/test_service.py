"""A queue served from Python: what comes back, what is told, and that nothing is printed."""

import pytest

from hf_lotus import SSD, LoTUS, UnlearningArguments
from hf_lotus.data.loading import DatasetArguments
from hf_lotus.models.loading import ModelArguments
from hf_lotus.requests.queue import DeletionRequest, RequestQueue
from hf_lotus.requests.service import publish_latest, serve


@pytest.fixture
def serve_queue(tmp_path, model_and_data, datasets_cache):
    model_and_data(tmp_path)
    queue, told = RequestQueue(tmp_path / "requests"), []

    def call(method=None):
        arguments = UnlearningArguments(
            str(tmp_path / "unused"), num_train_epochs=1, use_cpu=True, disable_tqdm=True, save_strategy="no"
        )
        model, data = ModelArguments(str(tmp_path / "model")), DatasetArguments(str(tmp_path / "data"))
        return serve(queue, model, data, arguments, method or LoTUS(stop_margin=2.0), say=told.append)

    return queue, told, call


def request(name, user):
    selector = {"by": "column", "column": "user_id", "values": [user]}
    return DeletionRequest(name, "2026-01-01", selector, "2026-01-01T00:00:00+00:00")


def test_what_was_served_comes_back_and_nothing_is_printed(serve_queue, tmp_path, capsys):
    queue, told, call = serve_queue
    queue.add(request("known", "u3"))
    queue.add(request("unknown", "nobody"))
    served = call()
    assert served.run.number == 1 and served.run.is_done and list(served.run.plan["requests"]) == ["known"]
    assert list(served.refused) == ["unknown"] and "has no row" in served.refused["unknown"]
    assert served.history + "\n" == (queue.folder / "history.md").read_text() and "| known " in served.history
    assert len(told) == 1 and "| lotus" in told[0]
    printed = capsys.readouterr().out  # `Trainer` prints its logs where there is no bar
    assert "| lotus" not in printed and "unknown" not in printed and not (tmp_path / "unused").exists()


def test_requests_that_a_method_changes_nothing_for_stay_open(serve_queue):
    queue, _, call = serve_queue
    queue.add(request("known", "u3"))
    dampens_nothing = SSD(alpha=1e30)
    served = call(dampens_nothing)
    assert served.run is None and "Nothing was unlearned" in served.refused["known"]
    assert [one.id for one in queue.open()] == ["known"] and not queue.runs() and queue.latest() is None
    served = call()
    assert served.run.number == 1 and served.run.is_done and not served.refused and not queue.open()


def test_with_nothing_open_nothing_is_done(serve_queue):
    queue, told, call = serve_queue
    with pytest.raises(ValueError, match="There is no queue in .*: the first request that is added begins one"):
        call()
    queue.add(request("unknown", "nobody"))
    assert call().run is None and told == ["No open request can be served."]
    assert publish_latest(queue, "me/model") is None
