"""What a pool adds to an audit: its outputs by content, and what is wrong with one that does not suit."""

import json

import numpy as np
import pytest

from hf_lotus.audit import Pool, audit
from hf_lotus.audit.pool import architecture
from hf_lotus.audit.pool_files import FORMAT, PoolRows, write_arrays
from hf_lotus.evaluation.findings import FOUND
from hf_lotus.publishing.digests import sample_contents, weights_digest
from tests.conftest import TINY_MODELS

pytestmark = pytest.mark.usefixtures("few_deals")

FORGET, RETAIN, UNSEEN, TEST = slice(0, 100), slice(100, 160), slice(160, 360), slice(360, 400)


@pytest.fixture(scope="module")
def sets(digits):
    shuffled = digits.shuffle(seed=0)
    places = {"forget": FORGET, "retain": RETAIN, "unseen": UNSEEN, "test": TEST}
    return {name: shuffled.select(range(400)[place]) for name, place in places.items()}


@pytest.fixture(scope="module")
def make_pool(sets, tmp_path_factory):
    """A function: a pool of made outputs of 44 models, half of which had the forget set, and unlearned ones."""

    def build(name="pool", had=None, model=None, held_out="unseen", weights=None):
        rng, root = np.random.default_rng(0), tmp_path_factory.mktemp(name)
        parts = {"train": ("forget", "retain"), "unseen": (held_out,), "test": ("test",)}
        digests = {p: np.concatenate([sample_contents(sets[s])[1] for s in names]) for p, names in parts.items()}
        labels = {p: np.concatenate([np.array(sets[s]["label"]) for s in names]) for p, names in parts.items()}
        members = rng.random((44, 160)) < 0.5
        members[:, FORGET] = (np.arange(44) % 2 == 0)[:, None] if had is None else had
        PoolRows(digests, labels, members, {"asked": np.arange(100)}).write(root / "rows.npz")
        plan = {"format": FORMAT, "kind": "halves", "planned": 44, "num_classes": 10, "models": []}
        plan["architecture"] = architecture(TINY_MODELS[model or "resnet"]())
        (root / "pool.json").write_text(json.dumps(plan))
        level = {p: rng.normal(1, 1, len(values)) for p, values in labels.items()}

        def write(folder, number, knows):
            folder.mkdir(parents=True, exist_ok=True)
            outputs = {}
            for part, values in labels.items():
                logits = rng.normal(0, 0.3, (len(values), 10))
                own = knows * members[number] if part == "train" else 0
                logits[np.arange(len(values)), values] += 3 + level[part] + own
                outputs[part] = logits.astype(np.float32)
            write_arrays(folder / f"{number:03d}.npz", outputs)
            record = {"number": number, "weights_digest": (weights or {}).get(number, f"{number:064d}")}
            (folder / f"{number:03d}.json").write_text(json.dumps(record))

        for number in range(44):
            write(root / "outputs", number, 3.0)
        for label, knows in {"hides": 2.0, "honest": 0.0}.items():
            for number in range(0, 24, 2):
                write(root / "unlearned" / label / "asked", number, knows)
        return root

    return build


@pytest.fixture(scope="module")
def root(make_pool):
    return make_pool()


@pytest.fixture(scope="module")
def given(sets, processor):
    made = {f"{name}_dataset": part for name, part in sets.items() if name != "test"}
    return {**made, "processing_class": processor, "device": "cpu", "relearn_rows": 30}


def models():
    first, second = TINY_MODELS["resnet"](), TINY_MODELS["resnet"]()
    return first, second


def test_models_unlearned_by_the_method_are_held_against_retrained_ones(root, given):
    hides, honest = (audit(*models(), pool=root, name=name, **given) for name in ("hides", "honest"))
    for tier in ("u_lira", "klom", "epsilon"):
        assert hides[tier].verdict == FOUND, hides[tier]
        assert honest[tier].verdict != FOUND, honest[tier]
        assert hides[tier].counts["unlearned_models"] == 12 and hides[tier].counts["retrained_models"] == 22
        assert [reading.model for reading in hides[tier].readings] == ["hides", "original", "retrain"]
    assert hides["rmia"].audited.more["references"] == 22
    assert any("44 models: 22 without any forget sample" in note for note in hides.notes)


@pytest.mark.exhaustive
def test_one_model_of_another_method_is_ranked_among_the_retrained(root, given):
    report = audit(*models(), pool=Pool.open(root), name="mine", **given)
    assert report["u_lira"].n == 22 and report["u_lira"].audited.p_value is not None
    for tier in ("klom", "epsilon"):
        assert report[tier].verdict is None and "unlearned by hides, honest" in report[tier].reason
    named = audit(*models(), pool=root, pool_method="honest", name="mine", **given)
    assert named["klom"].verdict is not None and named["klom"].readings[0].model == "mine"


def test_the_audited_models_own_original_is_not_among_the_pools(make_pool, given):
    model, original = models()
    root = make_pool("own", weights={2: weights_digest(original)})
    report = audit(model, original, pool=root, name="mine", **given)
    assert report["u_lira"].counts["original_models"] == 21


def test_samples_that_a_pool_was_not_dealt_together_are_judged_by_the_models_without_them(make_pool, given):
    had = np.random.default_rng(1).random((44, 100)) < 0.5
    report = audit(*models(), pool=make_pool("mixed", had), name="mine", **given)
    assert report["rmia"].audited.more["references"] == 44
    assert report["klom"].verdict is None and report["u_lira"].verdict is None


class TestRefused:
    def refused(self, given, message, root, **changes):
        with pytest.raises(ValueError, match=message):
            audit(*models(), **{**given, "pool": root, **changes})

    def test_another_architecture(self, make_pool, given):
        self.refused(given, "make a pool of its architecture", make_pool("vit", model="vit"))

    def test_samples_in_all_models_or_in_none(self, make_pool, given):
        had = np.random.default_rng(1).random((44, 100)) < 0.5
        had[:, 3] = True
        self.refused(given, "1 were in all of its 44 models", make_pool("all", had))

    def test_unseen_data_that_models_were_trained_on(self, root, given, sets):
        self.refused(given, "trained on .* of the .* unseen data", root, unseen_dataset=sets["retain"],
                     retain_dataset=sets["test"])  # fmt: skip

    def test_a_forget_set_that_the_pool_does_not_know(self, make_pool, given, sets):
        other = {"forget_dataset": sets["unseen"].select(range(70)), "unseen_dataset": None}
        self.refused(given, "knows nothing of 70 of 70", make_pool("less", held_out="test"), **other)

    def test_a_method_that_it_has_not(self, root, given):
        self.refused(given, "no models that unlearned this forget set by 'hide'. Did you mean 'hides'", root,
                     pool_method="hide")  # fmt: skip


def test_unseen_data_that_the_pool_keeps_no_outputs_of(make_pool, given):
    report = audit(*models(), pool=make_pool("elsewhere", held_out="test"), name="mine", **given)
    assert report["rmia"].verdict is None and "keeps no outputs of 200 of the 200" in report["rmia"].reason
