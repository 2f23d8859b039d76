"""The models of benchmarks: trained once, kept by a digest of what determines them, gone on with when broken off."""

import json
from dataclasses import replace

import pytest
import torch

from hf_lotus import UnlearningArguments
from hf_lotus.benchmark.data import load_benchmark_data
from hf_lotus.benchmark.models import image_processor, initial_model
from hf_lotus.benchmark.recipe import load_recipe
from hf_lotus.data.prepared import ready
from hf_lotus.evaluation.predictions import predict
from hf_lotus.trainer.reference_models import trained_model
from hf_lotus.trainer.trainer import UnlearningTrainer
from tests.conftest import TINY_MODELS


@pytest.fixture
def train(small_recipe, tmp_path):
    recipe = small_recipe("cifar10-small")
    processor = image_processor(recipe)

    def run(seed=1, rows=60, data_seed=1, **arguments):
        data = load_benchmark_data(recipe, data_seed).split.dataset
        names = data.features["label"].names
        args = UnlearningArguments(
            str(tmp_path), use_cpu=True, disable_tqdm=True, seed=seed,
            **{"num_train_epochs": 3, "learning_rate": 0.1, "optim": "sgd", **arguments},
        )  # fmt: skip
        model = initial_model(recipe, names, seed)
        return trained_model(model, data.select(range(rows)), processor, args, tmp_path / "models")

    return run


def test_a_model_learns_is_kept_and_taken_again(train, trained, small_recipe, tmp_path):
    first = train(rows=200, num_train_epochs=20)
    again = train(rows=200, num_train_epochs=20)
    assert trained == ["_Training"]
    for ours, theirs in zip(first.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert again.seconds == first.seconds > 0
    recipe = small_recipe("cifar10-small")
    images = ready(load_benchmark_data(recipe, 1).split.dataset, image_processor(recipe))
    assert predict(again.model, images, progress=False).accuracy > 0.5  # of ten classes
    assert first.model.config.id2label[3] == "cat"
    (kept,) = (path for path in (tmp_path / "models").iterdir() if path.is_dir())
    record = json.loads((kept / "training.json").read_text())
    assert record["determined_by"]["arguments"]["learning_rate"] == 0.1 and kept.name == record["key"][:16]
    assert (kept / "preprocessor_config.json").is_file()


@pytest.mark.parametrize("change", [{"seed": 2}, {"rows": 61}, {"learning_rate": 0.2}, {"num_train_epochs": 2}])
def test_whatever_determines_a_model_is_in_its_digest(train, trained, change):
    train(num_train_epochs=1)
    train(**{"num_train_epochs": 1, **change})
    assert len(trained) == 2


def test_a_training_that_was_broken_off_goes_on(train, monkeypatch, tmp_path):
    whole = train()
    (kept,) = (path for path in (tmp_path / "models").iterdir() if path.is_dir())
    kept.rename(tmp_path / "whole")
    taken = []
    step = UnlearningTrainer.training_step

    def broken(self, *args, **kwargs):
        taken.append(self.state.global_step)
        if self.state.global_step == 16:  # in the third epoch of eight batches
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(UnlearningTrainer, "training_step", broken)
    with pytest.raises(KeyboardInterrupt):
        train()
    assert not kept.exists()
    taken.clear()
    monkeypatch.setattr(
        UnlearningTrainer, "training_step", lambda self, *a, **k: taken.append(1) or step(self, *a, **k)
    )
    resumed = train()
    assert len(taken) == 8
    for ours, theirs in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_weights_that_were_trained_before_get_a_new_head_and_random_ones_follow_the_seed(tmp_path):
    TINY_MODELS["vit"]().save_pretrained(tmp_path / "vit")
    recipe = replace(load_recipe("vit-cifar10"), model={"name_or_path": str(tmp_path / "vit")})
    first, same, other = (initial_model(recipe, ["cat", "dog", "fox"], seed) for seed in (1, 1, 2))
    assert first.config.id2label == {0: "cat", 1: "dog", 2: "fox"} and first.classifier.weight.shape[0] == 3
    assert torch.equal(first.classifier.weight, same.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    bodies = [model.vit.state_dict().values() for model in (first, other)]
    assert all(torch.equal(a, b) for a, b in zip(*bodies, strict=True))
    published = initial_model(replace(recipe, training=None), ["unused"], seed=1)
    assert published.classifier.weight.shape[0] == 10
