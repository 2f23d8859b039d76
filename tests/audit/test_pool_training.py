"""Training a pool: each model on its own rows, once; shared by processes, and gone on with when one is killed."""

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from hf_lotus import LoTUS, RandomLabels, UnlearningArguments
from hf_lotus.audit.pool import Pool
from hf_lotus.audit.pool_training import PoolData, PoolSettings, share_work, train_pool
from hf_lotus.audit.pool_unlearning import unlearn_pool
from hf_lotus.data.prepared import ready
from hf_lotus.evaluation.predictions import predict
from hf_lotus.publishing.digests import sample_contents, weights_digest
from hf_lotus.trainer.fingerprint import run_identity
from tests.conftest import TINY_MODELS, scans


@pytest.fixture(scope="module")
def data(processor):
    rows = np.random.default_rng(0).permutation(400)
    return PoolData(*(scans().select(np.sort(part)) for part in (rows[:120], rows[120:180], rows[180:220])), processor)


def build(seed):
    torch.manual_seed(seed)
    return TINY_MODELS["resnet"]()


def arguments(folder, **own):
    return UnlearningArguments(
        str(folder), use_cpu=True, disable_tqdm=True, num_train_epochs=1, learning_rate=0.1, **own
    )


SETS = {"a": np.arange(10)}


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("pool")
    train_pool(path, data, build, arguments(path), PoolSettings(models=4, forget_sets=SETS, about={"from": "a test"}))
    return path


def test_each_model_is_trained_on_its_rows_and_its_outputs_are_kept(folder, data):
    pool = Pool.open(folder)
    assert pool.num_models == 4 and pool.kind == "halves" and pool.plan["from"] == "a test"
    assert [record["number"] for record in pool.plan["models"]] == [0, 1, 2, 3]
    assert len({record["weights_digest"] for record in pool.records}) == 4
    for place, record in enumerate(pool.records):
        model = pool.model(place)
        assert weights_digest(model) == record["weights_digest"] and record["rows"] == pool.members[place].sum()
        kept = json.loads((folder / "models" / record["folder"] / "training.json").read_text())["determined_by"]
        images = data.ready("train").select(np.flatnonzero(pool.members[place]))
        asked = run_identity(
            LoTUS(), model, {"retain": images.select(range(1, len(images)))}, arguments(folder), ended=True
        )
        assert kept["sets"]["retain"] == asked["sets"]["retain"]
        for part in ("train", "unseen", "test"):
            given = predict(model, ready(getattr(data, part), data.processor), progress=False)
            assert np.allclose(pool.logits(part)[place], given.logits, atol=1e-5)
        right = pool.logits("test")[place].argmax(axis=1) == pool.labels["test"]
        assert record["accuracy"]["test"] == pytest.approx(right.mean())
    contents = sample_contents(data.train.select(SETS["a"]))[1]
    assert len(pool.with_all(contents)) == len(pool.with_none(contents)) == 2


def test_a_pool_that_is_there_is_not_trained_again_and_no_other_takes_its_place(folder, data, trained):
    settings = PoolSettings(models=4, forget_sets=SETS, about={"from": "a test"})
    before = (folder / "pool.json").read_text()
    train_pool(folder, data, build, arguments(folder), settings)
    assert trained == [] and (folder / "pool.json").read_text() == before
    with pytest.raises(ValueError, match=r"holds a pool with other settings \(rows_digest, seed\)"):
        train_pool(folder, data, build, arguments(folder), PoolSettings(**{**vars(settings), "seed": 1}))
    with pytest.raises(ValueError, match=r"other settings \(training\)"):
        train_pool(folder, data, build, arguments(folder, weight_decay=0.5), settings)


def test_a_model_that_was_lost_is_made_again_bit_for_bit(folder, data):
    record = folder / "outputs" / "002.json"
    before = json.loads(record.read_text()), Pool.open(folder).logits("unseen")[2]
    record.unlink()
    (folder / "outputs" / "002.npz").unlink()
    told = []
    settings = PoolSettings(models=4, forget_sets=SETS, about={"from": "a test"})
    pool = train_pool(folder, data, build, arguments(folder), settings, told.append)
    assert json.loads(record.read_text()) == before[0] and (pool.logits("unseen")[2] == before[1]).all()
    assert len(told) == 1 and told[0].startswith("002: own 0.") and told[0].endswith("4 of 4 done")


def test_unlearning_from_every_original(folder, data):
    pool = Pool.open(folder)
    own = arguments(folder, per_device_train_batch_size=32)
    made = unlearn_pool(pool, data, RandomLabels(), "a", own, label="ours")
    contents = pool.digests["train"][SETS["a"]]
    assert made.positions.tolist() == pool.with_all(contents).tolist()
    assert [each.label for each in pool.unlearned_of(contents)] == ["ours"]
    before, after = pool.logits("train")[made.positions], made.logits("train")
    assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert {"forget", "own", "left_out", "unseen", "test"} == made.records[0]["accuracy"].keys()
    again = unlearn_pool(pool, data, RandomLabels(), "a", own, label="ours")
    assert (again.logits("test") == made.logits("test")).all()
    with pytest.raises(ValueError, match="of another method or of other settings"):
        unlearn_pool(pool, data, LoTUS(alpha=4.0), "a", own, label="ours")
    with pytest.raises(ValueError, match="no forget set 'b'"):
        unlearn_pool(pool, data, LoTUS(), "b", own)
    other = PoolData(data.unseen, data.train, data.test, data.processor)
    with pytest.raises(ValueError, match="not the pool's, row by row"):
        unlearn_pool(pool, other, LoTUS(), "a", own)


def work(number):
    return {"train": np.full((1, 2), number)}, {"number": number, "seconds": 0.0}


def _hold(folder, number):
    def never_ends(_):
        (folder / "holding").touch()
        time.sleep(600)

    share_work(folder, [number], never_ends)


def test_a_killed_process_leaves_its_model_to_another(tmp_path):
    child = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path, 1))
    child.start()
    for _ in range(600):
        if (tmp_path / "holding").exists():
            break
        time.sleep(0.1)
    told, taken = [], []

    def say(text):
        told.append(text)
        if len(told) == 2:  # all that is free is done: only now does the other one die
            assert taken == [0, 2]
            os.kill(child.pid, signal.SIGKILL)

    def taking(number):
        taken.append(number)
        return work(number)

    share_work(tmp_path, range(3), taking, say)
    child.join()
    assert taken == [0, 2, 1] and sorted(path.name for path in tmp_path.glob("*.json")) == [
        "000.json", "001.json", "002.json",
    ]  # fmt: skip
    assert "1 of 3 done, about" in told[0] and told[2].endswith("3 of 3 done")


def test_what_another_process_finished_meanwhile_is_left_as_it_is(tmp_path):
    share_work(tmp_path, [0, 1], work)
    share_work(tmp_path, [0, 1, 2], lambda number: work(number) if number == 2 else pytest.fail("done twice"))
    assert len(list(tmp_path.glob("*.npz"))) == 3
