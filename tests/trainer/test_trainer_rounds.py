"""Rounds of different lengths: steps, epochs, schedules and what happens once a round."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, TrainerCallback

from hf_lotus.methods import METHODS, UNSIR, Finetune
from tests.support.every_method import SHORT_SCRUB, SaveAt, build
from tests.support.method_helpers import equal, weights

# 60 forget samples in steps of 16 and 180 retain samples in steps of 32.
FIRST, LATER = 4 + 6, 6


class Diary(TrainerCallback):
    """What happened, and after which step."""

    def __init__(self):
        self.saved, self.evaluated, self.rates, self.ends, self.losses = [], [], [], [], []

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_epoch_end(self, args, state, control, **kwargs):
        self.ends.append((state.global_step, state.epoch))

    def on_save(self, args, state, control, **kwargs):
        self.saved.append(state.global_step)

    def on_evaluate(self, args, state, control, **kwargs):
        self.evaluated.append(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses.append((state.global_step, logs.get("pass")))


def run(folder, method=SHORT_SCRUB, resume=None, callbacks=(), **arguments):
    diary = Diary()
    trainer = build(folder, method, callbacks=[diary, *callbacks], **arguments)
    trainer.train(resume and str(folder / f"checkpoint-{resume}"))
    return trainer, diary


@pytest.mark.parametrize("accumulation", [1, 2])
def test_every_round_is_as_long_as_its_passes_and_ends_on_a_whole_epoch(tmp_path, accumulation):
    method = replace(SHORT_SCRUB, forget_batch_size=16 // accumulation)
    arguments = {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 32 // accumulation}
    trainer, diary = run(tmp_path, method, num_train_epochs=4, **arguments)
    assert diary.ends == [(10, 1.0), (20, 2.0), (26, 3.0), (32, 4.0)]
    assert trainer.state.global_step == trainer.state.max_steps == 2 * FIRST + 2 * LATER
    assert [entry["step"] for entry in trainer.state.log_history if "round" in entry] == [0, 10, 20, 26]


@pytest.mark.parametrize(
    ("rounds", "steps"), [(1, 10), (0.5, 5), (1.25, 10 + 3), (2, 20), (2.5, 20 + 3), (2.9, 20 + 6), (3, 26)]
)
def test_a_fraction_of_a_round_is_one_of_its_own_steps(tmp_path, rounds, steps):
    trainer, diary = run(tmp_path, num_train_epochs=rounds)
    assert trainer.state.global_step == trainer.state.max_steps == steps
    assert trainer.state.num_train_epochs == math.ceil(rounds)
    assert len([entry for entry in trainer.state.log_history if "round" in entry]) == math.ceil(rounds)


@pytest.mark.parametrize(
    ("steps", "epoch"), [(1, 0.1), (10, 1.0), (13, 1.3), (20, 2.0), (23, 2.5), (26, 3.0), (44, 6.0)]
)
def test_a_number_of_steps_ends_within_the_round_that_it_reaches(tmp_path, steps, epoch):
    trainer, diary = run(tmp_path, max_steps=steps, num_train_epochs=1)
    assert (trainer.state.global_step, trainer.state.epoch) == (steps, pytest.approx(epoch))
    assert trainer.state.num_train_epochs == math.ceil(epoch)
    decided = [entry["round"] for entry in trainer.state.log_history if "round" in entry]
    assert decided == list(range(math.ceil(epoch)))


def test_many_steps_of_short_rounds_are_counted_at_once(tmp_path):
    """Not in a time that is the square of their number."""
    trainer = build(tmp_path, Finetune(), max_steps=300_000)
    loader = trainer.get_train_dataloader()
    assert trainer.set_initial_training_values(trainer.args, loader)[0] == 300_000 // 6


@pytest.mark.parametrize("warmup", [0, 3])
def test_a_cosine_ends_with_the_last_step(tmp_path, warmup):
    rate, total = 0.05, 2 * FIRST + LATER
    trainer, diary = run(tmp_path, num_train_epochs=3, lr_scheduler_type="cosine", warmup_steps=warmup)
    expected = [rate * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2 for step in range(total)]
    expected[:warmup] = [rate * step / warmup for step in range(warmup)]
    assert diary.rates == pytest.approx(expected, abs=1e-12)
    assert max(trainer.lr_scheduler.get_last_lr()) == pytest.approx(0.0, abs=1e-12)


class TestScaledRate:
    METHOD = replace(SHORT_SCRUB, lr_decay_rounds=(1, 2))
    EXPECTED = [0.05] * FIRST + [0.005] * FIRST + [0.0005] * LATER

    def test_it_changes_with_the_round_under_accumulation_too(self, tmp_path):
        method = replace(self.METHOD, forget_batch_size=4)
        arguments = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 8}
        trainer, diary = run(tmp_path, method, num_train_epochs=3, **arguments)
        assert diary.rates == pytest.approx(self.EXPECTED, rel=1e-12)

    @pytest.mark.parametrize("step", [7, 10, 14, 20, 23])
    def test_it_is_taken_up_again_where_a_run_was_broken_off(self, tmp_path, step):
        arguments = {"num_train_epochs": 3, "lr_scheduler_type": "linear"}
        _, whole = run(tmp_path, self.METHOD, callbacks=[SaveAt(step)], **arguments)
        fall = [rate * (26 - step) / 26 for step, rate in enumerate(self.EXPECTED)]
        assert whole.rates == pytest.approx(fall, rel=1e-12)
        _, resumed = run(tmp_path, self.METHOD, step, **arguments)
        assert resumed.rates == whole.rates[step:]

    def test_it_knows_the_rounds_that_a_number_of_steps_reaches(self, tmp_path):
        """Whatever number of rounds stands beside it in the arguments."""
        _, diary = run(tmp_path, self.METHOD, max_steps=26, num_train_epochs=1)
        assert diary.rates == pytest.approx(self.EXPECTED, rel=1e-12)

    def test_a_schedule_that_is_no_factor_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="does not go with ReduceLROnPlateau. Use lr_scheduler_type='constant'"):
            run(tmp_path, self.METHOD, lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="epoch")


class TestOnceARound:
    EVERY_ROUND = {"save_strategy": "epoch", "eval_strategy": "epoch", "save_total_limit": 9, "num_train_epochs": 3}

    def test_saved_and_evaluated_after_each_round_and_logged_after_each_pass(self, tmp_path):
        trainer, diary = run(tmp_path, **self.EVERY_ROUND)
        assert diary.saved == diary.evaluated == [10, 20, 26]
        assert diary.losses == [(4, "max"), (10, "min"), (14, "max"), (20, "min"), (26, "min")]
        folders = {path.name for path in tmp_path.glob("checkpoint-*")}
        assert folders == {"checkpoint-10", "checkpoint-20", "checkpoint-26"}

    def test_a_round_of_one_pass_is_logged_once_and_without_a_name(self, tmp_path):
        trainer, diary = run(tmp_path, UNSIR(noise_steps=1), **{**self.EVERY_ROUND, "num_train_epochs": 2})
        # Impair in pairs and repair: both walk through the retain set, 180 samples in steps of 32.
        assert diary.losses == [(6, None), (12, None)] and diary.saved == diary.evaluated == [6, 12]

    def test_by_steps_or_not_at_all_where_asked_for(self, tmp_path):
        by_steps = {"logging_strategy": "steps", "logging_steps": 5, "save_strategy": "steps", "save_steps": 8}
        _, diary = run(tmp_path, **by_steps)
        assert diary.saved == [8, 16, 20]  # and at the end
        assert [step for step, _ in diary.losses] == [4, 5, 10, 14, 15, 20]
        _, diary = run(tmp_path / "none", logging_strategy="no")
        assert not diary.losses and not diary.saved and not diary.evaluated

    def test_the_loss_of_a_pass_is_the_mean_of_its_own_steps(self, tmp_path):
        each, _ = run(tmp_path, logging_strategy="steps", logging_steps=1)
        whole, _ = run(tmp_path)
        steps = [entry["loss"] for entry in each.state.log_history if "loss" in entry]
        # The first max pass has nothing to disobey yet; the second one has.
        assert len(steps) == 2 * FIRST and max(steps[10:14]) < 0 < min(steps[14:])
        means = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
        assert means[1:] == pytest.approx([sum(steps[4:10]) / 6, sum(steps[10:14]) / 4, sum(steps[14:]) / 6], rel=1e-4)


@pytest.mark.parametrize("forgotten", [1, 2, 33])
@pytest.mark.parametrize("name", ["scrub", "neggrad_plus", "random_labels", "finetune"])
def test_a_last_batch_of_one_does_not_stop_a_batch_norm_model(make, parts, name, forgotten):
    """Its last map has one pixel, of which BatchNorm has no statistics in a batch of one: torch refuses it."""
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 8, 8], "depths": [1, 1, 1]}
    model = ResNetForImageClassification(ResNetConfig(**sizes, layer_type="basic", num_labels=10))
    pixels = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model.train()(pixels)
    sets = {
        "forget_dataset": parts["forget"].select(range(forgotten)),
        "retain_dataset": parts["retain"].select(range(33)),
    }
    trainer = make(model, METHODS[name](), {"num_train_epochs": 1}, **sets)
    before = weights(model)
    trainer.train()
    assert trainer.state.global_step >= 1 and not equal(weights(trainer.model), before)
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())
