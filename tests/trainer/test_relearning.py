"""The relearning excess tells a model that hides from one that never knew, and touches neither."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_lotus.methods import Finetune, MarginMatching
from hf_lotus.trainer.relearning import Relearning, measured_relearning_excess, relearning_of_rows
from tests.support.fitted_models import fitted, with_wrong_labels
from tests.support.method_helpers import class_wise_parts, equal, weights


@pytest.fixture(scope="module")
def noisy(parts):
    return with_wrong_labels(parts)


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


def test_later_runs_draw_the_same_random_numbers(make):
    """The global state is that of before, and so is what a run measures and trains after it."""
    trainer = make("resnet", Finetune(), {"num_train_epochs": 1})
    trainer.train()
    seconds = trainer.unlearning_seconds
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    buffers = {name: value.clone() for name, value in trainer.model.named_buffers()}
    measured_relearning_excess(trainer)
    assert torch.equal(torch.get_rng_state(), states[0]) and (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    assert buffers and all(torch.equal(value, buffers[name]) for name, value in trainer.model.named_buffers())
    assert trainer.unlearning_seconds == seconds
    assert trainer.compare()["finetune"].seconds == seconds


def test_it_is_measured_of_every_row_of_a_trainers_table(make, tiny_model):
    trainer = make("resnet", Finetune(), {"num_train_epochs": 1}, retrain_models=[tiny_model("resnet")] * 2)
    trainer.train()
    given = relearning_of_rows(trainer)
    assert list(given) == ["original", "finetune", "retrain", "retrain again"]
    assert given["finetune"]["relearning_excess"] == measured_relearning_excess(trainer)
    result = trainer.compare(given=given)
    assert {m.name: {"relearning_excess": m.relearning_excess} for m in result.models} == given
    assert trainer.compare()["finetune"].relearning_excess is None


def test_the_evaluation_seed_orders_the_round(make):
    plain, other = make("resnet", Finetune()), make("resnet", Finetune(), {"evaluation_seed": 9})
    orders = [Relearning.of(trainer)._arguments("x", trainer.model) for trainer in (plain, other)]
    assert [(order.seed, order.data_seed) for order in orders] == [(1, 1), (9, 9)]
    assert replace(Relearning.of(plain), seed=4)._arguments("x", plain.model).seed == 4


def test_where_nothing_can_be_measured_nothing_is_given(make, digits):
    trainer = make("vit", Finetune(), **class_wise_parts(digits))
    assert relearning_of_rows(trainer) == {}
