"""A pool as an audit opens it: outputs found by content, who had what, and pools that do not suit."""

import json

import numpy as np
import pytest
from transformers import ResNetConfig, ResNetForImageClassification

from hf_lotus.audit.pool import Pool, architecture
from hf_lotus.audit.pool_files import FORMAT, PARTS, PoolRows, write_arrays
from tests.conftest import TINY_MODELS

SIZES, CLASSES, MODELS = {"train": 8, "unseen": 4, "test": 3}, 10, 4
# Set "a" is rows 0 and 1: in models 0 and 1, in neither of 2 and 3. Row 7 is in all, row 6 in none.
MEMBERS = np.array(
    [[1, 1, 1, 0, 1, 0, 0, 1], [1, 1, 0, 1, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1, 0, 1]]
)


def digests(values):
    raw = np.zeros((len(values), 32), dtype=np.uint8)
    raw[:, 0] = values  # the rest are zeros, which NumPy would cut off
    return raw.view("V32").reshape(-1)


CONTENTS = {"train": range(8), "unseen": range(10, 14), "test": range(20, 23)}


@pytest.fixture
def folder(tmp_path):
    make(tmp_path)
    return tmp_path


def make(path, contents=CONTENTS, done=range(MODELS)):
    labels = {part: np.arange(size) % CLASSES for part, size in SIZES.items()}
    rows = PoolRows(
        {part: digests(list(contents[part])) for part in PARTS}, labels, MEMBERS.astype(bool), {"a": np.array([0, 1])}
    )
    rows.write(path / "rows.npz")
    plan = {"format": FORMAT, "kind": "halves", "planned": MODELS, "num_classes": CLASSES, "models": []}
    plan["architecture"] = json.loads(json.dumps(architecture(TINY_MODELS["resnet"]())))
    (path / "pool.json").write_text(json.dumps(plan))
    for number in done:
        keep(path / "outputs", number)


def keep(path, number, shift=0.0):
    path.mkdir(parents=True, exist_ok=True)
    write_arrays(path / f"{number:03d}.npz", {part: logits(number, part) + np.float32(shift) for part in PARTS})
    record = {"number": number, "seed": number, "weights_digest": str(number), "seconds": 1.0}
    (path / f"{number:03d}.json").write_text(json.dumps(record))


def logits(number, part):
    shape = (SIZES[part], CLASSES)
    return np.random.default_rng([number, PARTS.index(part)]).normal(size=shape).astype(np.float32)


def test_what_was_kept_is_what_is_opened(folder):
    pool = Pool.open(folder)
    assert (pool.kind, pool.planned, pool.num_models, pool.num_classes) == ("halves", 4, 4, 10)
    assert (pool.members == MEMBERS).all() and pool.labels["train"].tolist() == list(range(8))
    assert pool.logits().dtype == np.float32
    assert (pool.logits() == np.stack([logits(n, "train") for n in range(4)])).all()
    assert (pool.logits("test", [2, 0]) == np.stack([logits(n, "test")[[2, 0]] for n in range(4)])).all()
    with pytest.raises(ValueError, match="train, unseen, test, not on 'forget'"):
        pool.logits("forget")


def test_outputs_are_found_by_content_in_the_samples_order(folder):
    out = Pool.open(folder).outputs(digests([22, 3, 99, 10, 0]))
    assert out.found.tolist() == [True, True, False, True, True] and out.labels.tolist() == [2, 3, 0, 0]
    for number in range(MODELS):
        wanted = [logits(number, p)[row] for p, row in (("test", 2), ("train", 3), ("unseen", 0), ("train", 0))]
        assert (out.logits[number] == np.stack(wanted)).all()
    assert (out.members[:, 1] == MEMBERS[:, 3]).all() and (out.members[:, 3] == MEMBERS[:, 0]).all()
    assert not out.members[:, [0, 2]].any()


def test_samples_that_were_in_all_or_no_models_are_counted_and_said(folder):
    out = Pool.open(folder).outputs(digests([0, 6, 7, 99]))
    assert out.usable.tolist() == [True, False, False]
    assert out.told() == (
        "the pool keeps no outputs of 1 of 4 samples; 1 were in all of its 4 models; 1 were in none of its 4 models"
    )
    assert Pool.open(folder).outputs(digests([0, 2])).told() == ""


def test_originals_and_retrained_models_of_a_forget_set(folder):
    pool = Pool.open(folder)
    assert pool.with_all(digests([0, 1])).tolist() == [0, 1] and pool.with_none(digests([0, 1])).tolist() == [2, 3]
    assert pool.with_all(digests([0, 2])).tolist() == [0] and pool.with_none(digests([0, 2])).tolist() == [3]
    with pytest.raises(ValueError, match="knows nothing of 1 of 2 samples"):
        pool.with_none(digests([0, 99]))


def test_who_had_a_twin_had_the_sample(tmp_path):
    make(tmp_path, {**CONTENTS, "train": [0, 1, 2, 3, 4, 4, 6, 7], "test": [20, 21, 2]})
    pool = Pool.open(tmp_path)
    assert (pool.had(digests([4]))[:, 0] == (MEMBERS[:, 4] | MEMBERS[:, 5])).all()
    assert (pool.had(digests([2]))[:, 0] == MEMBERS[:, 2]).all()  # also where it stands among the test samples
    with pytest.raises(ValueError, match="trained on 1 of the 2 samples of the audit's own test data"):
        pool.check(held_out={"unseen": digests([10, 11]), "test": digests([20, 2])})


def test_a_pool_of_another_architecture_or_of_other_classes_does_not_suit(folder):
    pool = Pool.open(folder)
    pool.check(TINY_MODELS["resnet"](), {"unseen": digests([10, 50])})
    with pytest.raises(ValueError, match="class: ViTForImageClassification; of the pool's models: ResNetFor"):
        pool.check(TINY_MODELS["vit"]())
    common = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    with pytest.raises(ValueError, match="has 7 classes, those of the pool 10"):
        pool.check(ResNetForImageClassification(ResNetConfig(**common, num_labels=7)))
    deeper = ResNetForImageClassification(ResNetConfig(**{**common, "depths": [1, 2]}, num_labels=10))
    with pytest.raises(ValueError, match="The model's weights"):
        pool.check(deeper)
    with pytest.raises(ValueError, match="The model's hidden_act: gelu; of the pool's models: relu"):
        pool.check(ResNetForImageClassification(ResNetConfig(**common, hidden_act="gelu", num_labels=10)))


def test_an_unfinished_pool_is_opened_with_the_models_that_are_done(tmp_path):
    make(tmp_path, done=[1, 3])
    pool = Pool.open(tmp_path)
    assert pool.num_models == 2 and pool.planned == 4 and (pool.members == MEMBERS[[1, 3]]).all()
    assert pool.with_all(digests([0, 1])).tolist() == [0]  # positions among those that are done
    assert (pool.logits("test")[1] == logits(3, "test")).all()


def test_what_was_unlearned_of_exactly_these_samples(folder):
    for number in (0, 1):
        keep(folder / "unlearned" / "lotus" / "a", number, shift=1.0)
    pool = Pool.open(folder)
    (made,) = pool.unlearned_of(digests([1, 0]))
    assert (made.label, made.forget_set, made.positions.tolist()) == ("lotus", "a", [0, 1])
    assert np.allclose(made.outputs(digests([1])).logits[1, 0], logits(1, "train")[1] + 1)
    assert (made.outputs(digests([0])).members[:, 0] == [True, True]).all()
    assert pool.unlearned_of(digests([0])) == [] and pool.unlearned_of(digests([0, 1]), "scrub") == []


def test_what_is_no_pool_or_damaged_is_told(folder, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match="is no pool: it has no pool.json"):
        Pool.open(tmp_path_factory.mktemp("empty"))
    (folder / "outputs" / "000.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match=r"000\.npz is damaged"):
        Pool.open(folder).logits()
    write_arrays(folder / "outputs" / "000.npz", {part: np.zeros((2, CLASSES), np.float32) for part in PARTS})
    with pytest.raises(ValueError, match=r"outputs of shape \(2, 10\) on train, which has 8 rows"):
        Pool.open(folder).logits()
    plan = json.loads((folder / "pool.json").read_text())
    (folder / "pool.json").write_text(json.dumps({**plan, "planned": 9}))
    with pytest.raises(ValueError, match="plans 9 models, and rows.npz is of 4"):
        Pool.open(folder)
    (folder / "pool.json").write_text(json.dumps({**plan, "format": "hf_lotus pool 2"}))
    with pytest.raises(ValueError, match="not of the format 'hf_lotus pool 1', but 'hf_lotus pool 2'"):
        Pool.open(folder)
    for file in (folder / "outputs").glob("*.json"):
        file.unlink()
    (folder / "pool.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match="No model of the pool .* is done yet"):
        Pool.open(folder)


def test_objects_in_a_file_are_never_read(folder):
    np.savez(folder / "outputs" / "000.npz", train=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="damaged"):
        Pool.open(folder).logits()


def test_samples_are_given_by_their_digests(folder):
    with pytest.raises(TypeError, match="V32 of shape"):
        Pool.open(folder).outputs(np.arange(3))
