"""A queue served from Python: what comes back, what is told, and that nothing is printed."""

import numpy as np
import pytest
from datasets import Dataset, concatenate_datasets, load_dataset

from hf_lotus import SSD, LoTUS, UnlearningArguments
from hf_lotus.data.images import ReadyImages
from hf_lotus.data.loading import DatasetArguments
from hf_lotus.data.pixel_store import forget_pictures
from hf_lotus.models.loading import ModelArguments, load_processor
from hf_lotus.publishing.chain import check_chain
from hf_lotus.requests.digest_rows import RowsByDigest
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
        model = ModelArguments(str(tmp_path / "model"))
        data = DatasetArguments(str(tmp_path / "data"), ready_images_dir=str(tmp_path / "ready"))
        return serve(queue, model, data, arguments, method or LoTUS(stop_margin=2.0), say=told.append)

    return queue, told, call


def request(name, user):
    selector = {"by": "column", "column": "user_id", "values": [user]}
    return DeletionRequest(name, "2026-01-01", selector, "2026-01-01T00:00:00+00:00")


def test_what_was_served_comes_back_and_nothing_is_printed(serve_queue, tmp_path, capsys):
    queue, told, call = serve_queue
    queue.add(request("known", "u3"))
    queue.add(request("unknown", "nobody"))
    train = load_dataset(str(tmp_path / "data"), split="train")
    # Another command, before, kept the pixels of all of them.
    ReadyImages(train, load_processor(str(tmp_path / "model")), ready_images_dir=str(tmp_path / "ready"))
    served = call()
    assert served.run.number == 1 and served.run.is_done and list(served.run.plan["requests"]) == ["known"]
    assert list(served.refused) == ["unknown"] and "has no row" in served.refused["unknown"]
    assert served.history + "\n" == (queue.folder / "history.md").read_text() and "| known " in served.history
    asked = [row for row, user in enumerate(train["user_id"]) if user == "u3"]
    assert told[0].startswith(f"{len(asked)} pictures to be forgotten had pixels in")
    assert "| lotus" in told[-1] and all("look like one" in text for text in told[1:-1])
    # The store has nothing left of them, though they were trained on and measured since, and has the others.
    assert forget_pictures(tmp_path / "ready", train.select(asked)) == 0
    assert forget_pictures(tmp_path / "ready", train) == len(train) - len(asked)
    printed = capsys.readouterr().out  # `Trainer` prints its logs where there is no bar
    assert "| lotus" not in printed and "unknown" not in printed and not (tmp_path / "unused").exists()


def test_a_bit_of_an_earlier_run(serve_queue):
    """A flipped bit in the first run's weights stops the third, which is made from the second's."""
    queue, _, call = serve_queue
    for number, user in enumerate(("u3", "u7", "u9"), start=1):
        queue.add(request(f"r{number}", user))
        if number < 3:
            assert call().run.number == number
    weights = queue.models()[0] / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="0001/model is whole: .*model.safetensors is another.*Put the files back"):
        call()
    assert [one.id for one in queue.open()] == ["r3"] and len(queue.runs()) == 2
    weights.write_bytes(whole)
    (queue.models()[1] / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="0002/model is whole: .*adapter_config.json is not in the record"):
        call()
    (queue.models()[1] / "adapter_config.json").unlink()
    assert call().run.number == 3
    assert all(check.holds for check in check_chain(queue.models()))


def test_retained_pictures_that_look_like_a_forgotten_one_are_told(serve_queue, tmp_path, digits):
    """A copy of a forgotten scan, scaled up and down, is another sample of another user, and stays."""
    queue, told, call = serve_queue
    train = tmp_path / "data" / "train-00000.parquet"
    data = Dataset.from_parquet(str(train), cache_dir=str(tmp_path / "cache"))
    row = data["user_id"].index("u3")
    copied = dict(data[row], user_id="other", image=data[row]["image"].resize((20, 20)).resize((8, 8)))
    assert np.asarray(copied["image"]).tolist() != np.asarray(data[row]["image"]).tolist()
    concatenate_datasets([data, Dataset.from_list([copied], features=data.features)]).to_parquet(train)
    queue.add(request("r1", "u3"))
    call()
    assert "look like one that is to be forgotten, and stay" in told[0] and f"{len(data)}" in told[0]


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


def test_rows_by_digest_are_those_of_a_walk_through_all():
    digests = np.array([f"{value:064x}" for value in np.random.default_rng(0).integers(0, 40, 100)])
    rows_with = RowsByDigest(digests)
    for wanted in (
        [],
        [digests[3]],
        sorted(set(digests.tolist()))[5:20],
        ["f" * 64],
        [digests[0], digests[0], "0" * 64],
    ):
        assert rows_with(wanted).tolist() == np.flatnonzero(np.isin(digests, wanted)).tolist()
    assert RowsByDigest(digests[:0])([digests[0]]).tolist() == []
