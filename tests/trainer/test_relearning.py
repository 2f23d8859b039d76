"""The relearning excess tells a model that hides from one that never knew, and touches neither."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hf_lotus.methods import Finetune, MarginMatching
from hf_lotus.trainer.relearning import measured_relearning_excess
from tests.conftest import TINY_MODELS
from tests.support.method_helpers import class_wise_parts, equal, pixels_of, weights


def fitted(given, processor, *names, start=None, steps=150):
    """A tiny ResNet that has learned some parts by heart."""
    pixels, labels = (torch.cat(x) for x in zip(*(pixels_of(given[n], processor) for n in names), strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TINY_MODELS["resnet"]() if start is None else start
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2 if start is None else 1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(pixels).logits, labels).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def noisy(parts):
    """A third of the labels wrong: to get them right is to have seen them."""
    generator, given = np.random.default_rng(0), {}
    for name, part in parts.items():
        wrong = generator.random(len(part)) < 0.33
        labels = (np.array(part["label"]) + wrong * generator.integers(1, 10, len(part))) % 10
        given[name] = part.remove_columns("label").add_column("label", labels, feature=part.features["label"])
    return given


def test_who_hides_has_an_excess_and_who_never_saw_has_none(make, noisy, processor):
    sets = {f"{name}_dataset": noisy[name] for name in ("forget", "retain", "unseen")} | {"eval_dataset": None}
    knows, never = (fitted(noisy, processor, *names) for names in (("forget", "retain"), ("retain",)))
    hides = copy.deepcopy(knows)
    # The last layer alone is turned away from what the rest still knows.
    with torch.no_grad():
        hides.classifier[-1].weight.mul_(0.02)
        hides.classifier[-1].bias.copy_(torch.linspace(3, -3, 10))
    found = {}
    for name, model in {"never saw": never, "hides": hides}.items():
        trainer = make(model, Finetune(), {"per_device_train_batch_size": 8}, **sets)
        found[name] = measured_relearning_excess(trainer, learning_rate=0.01)
        assert found[name] == measured_relearning_excess(trainer, learning_rate=0.01)
    assert abs(found["never saw"]) < 0.12
    assert found["hides"] > found["never saw"] + 0.1, found


def test_the_model_its_run_and_the_global_state_are_left_as_they_are(make, processor):
    trainer = make("resnet", MarginMatching(), {"num_train_epochs": 1})
    trainer.train()
    before, log, modes = weights(trainer.model), list(trainer.state.log_history), trainer.model.training
    measured_relearning_excess(trainer)
    assert equal(weights(trainer.model), before) and trainer.state.log_history == log
    assert trainer.model.training == modes and trainer.args.num_train_epochs == 1
    assert trainer.args.optim == "adamw_torch_fused"


def test_without_unseen_data_of_its_classes_there_is_nothing_to_compare(make, digits):
    for trainer in (make("vit", Finetune(), unseen_dataset=None), make("vit", Finetune(), **class_wise_parts(digits))):
        with pytest.raises(ValueError, match="give unseen_dataset"):
            measured_relearning_excess(trainer)
