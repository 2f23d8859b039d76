"""`load_best_model_at_end`: the run ends with the bits of the round that was best, also where it was broken off."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hf_lotus import LoTUS
from tests.support.every_method import EVERY_METHOD, build
from tests.support.killed_runs import METHODS
from tests.support.method_helpers import equal, trained, weights

BY_RF_JSD = {"load_best_model_at_end": True, "metric_for_best_model": "eval_rf_jsd", "greater_is_better": False}
EVERY_ROUND = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 4}


def run(folder, method, family, processor, resume=None, **arguments):
    """From a model that has learned what it is to forget."""
    trainer = build(folder, method, family, **{**EVERY_ROUND, **BY_RF_JSD, **arguments})
    for model in (trainer.model, trainer.teacher):
        model.load_state_dict(trained(family, processor).state_dict())
    trainer.train(resume)
    return trainer


def measured(trainer):
    return [entry["eval_rf_jsd"] for entry in trainer.state.log_history if "eval_rf_jsd" in entry]


def saved(trainer, round_index):
    """The weights that were saved after a round, by the way that users load them."""
    steps = trainer.sampler.first_step(round_index + 1)
    return type(trainer.model).from_pretrained(f"{trainer.args.output_dir}/checkpoint-{steps}").state_dict()


# Rates at which the last round is not the best.
@pytest.mark.parametrize(
    ("name", "family", "rate", "rounds"),
    [
        ("lotus", "vit", 0.002, 4),
        ("random_labels", "resnet", 0.02, 3),
        pytest.param("lotus", "resnet", 0.002, 4, marks=pytest.mark.exhaustive),
        pytest.param("random_labels", "vit", 0.005, 3, marks=pytest.mark.exhaustive),
    ],
)
def test_the_round_of_the_least_rf_jsd_is_left_to_the_bit(tmp_path, processor, name, family, rate, rounds):
    arguments = {"learning_rate": rate, "num_train_epochs": rounds}
    whole = run(tmp_path / "whole", EVERY_METHOD[name], family, processor, **arguments)
    values = measured(whole)
    best = values.index(min(values))
    assert len(values) == rounds and best < rounds - 1, values
    assert equal(weights(whole.model), saved(whole, best))
    assert not equal(weights(whole.model), saved(whole, rounds - 1))
    assert whole.evaluate()["eval_rf_jsd"] == values[best]

    # Broken off before the best round, or after it: the folder of the best must be found again.
    for index in range(rounds):
        steps = whole.sampler.first_step(index + 1)
        resume = str(tmp_path / "whole" / f"checkpoint-{steps}")
        again = run(tmp_path / "whole", EVERY_METHOD[name], family, processor, resume, **arguments)
        assert equal(weights(again.model), weights(whole.model)) and measured(again)[:rounds] == values


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_only_the_best_and_the_last_are_kept(tmp_path, processor, family):
    few = run(tmp_path, EVERY_METHOD["random_labels"], family, processor, save_total_limit=1)
    values = measured(few)
    best = values.index(min(values))
    (folder,) = tmp_path.glob("checkpoint-*")
    assert equal(weights(few.model), saved(few, best))
    assert json.loads((folder / "trainer_state.json").read_text())["best_metric"] == min(values)


class StopsBeforeTheFourthRound(LoTUS):
    def begin_round(self, run, index):
        return replace(super().begin_round(run, index), stop=index == 3)


def test_a_run_that_had_stopped_is_resumed_with_the_best_round_and_not_the_last(tmp_path, processor):
    method, arguments = StopsBeforeTheFourthRound(), {"num_train_epochs": 5, "learning_rate": 0.002}
    whole = run(tmp_path, method, "vit", processor, **arguments)
    values = measured(whole)
    assert len(values) == 3 and values.index(min(values)) == 1, values
    # Told in the log when the third round ended; the checkpoint that `Trainer` writes after it has it.
    again = run(tmp_path, method, "vit", processor, True, **arguments)
    assert again.state.global_step == whole.state.global_step
    assert equal(weights(again.model), weights(whole.model)) and equal(weights(again.model), saved(whole, 1))
    assert not equal(weights(again.model), saved(whole, 2))


@pytest.mark.parametrize("resume", [None, 10, 20])
def test_a_method_that_rewinds_decides_after_trainer_has_chosen(tmp_path, processor, resume):
    """Also where the run was broken off: its own round is left, by the forget accuracy, and not RF-JSD's."""
    arguments = {"learning_rate": 0.02, "optim_args": "momentum=0.9", "num_train_epochs": 4}
    both = run(tmp_path, METHODS["scrub_r"], "resnet", processor, **arguments)
    told = both.state.log_history[-1]
    assert equal(weights(both.model), saved(both, told["rewound_to_round"]))
    if resume:
        again = run(tmp_path, METHODS["scrub_r"], "resnet", processor, f"{tmp_path}/checkpoint-{resume}", **arguments)
        assert equal(weights(again.model), weights(both.model)) and again.state.log_history[-1] == told
