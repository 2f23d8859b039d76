"""Warm restart: two phases by name, a teacher that is renewed between them, and rounds that may be chosen."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import TrainerCallback

from hf_lotus.cli.parsing import parse
from hf_lotus.data.images import Augmentation
from hf_lotus.functional.margins import margins
from hf_lotus.methods import SCRUB, SSD, Finetune, LoTUS, MarginMatching, SalUn, Task, WarmRestart
from hf_lotus.methods.warm_restart import rise_and_fall
from tests.support.every_method import SaveAt, build, decisions
from tests.support.method_helpers import equal, record_batches, trained, weights

TWO = WarmRestart(restart_rounds=2)


class Diary(TrainerCallback):
    """The rate of each step, and the rounds after which was measured."""

    def __init__(self):
        self.rates, self.measured = [], []

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_evaluate(self, args, state, control, **kwargs):
        self.measured.append(round(state.epoch))


def test_rise_and_fall_by_hand():
    assert [rise_and_fall(x, 0.1) for x in (0.0, 0.05, 0.1, 0.55)] == pytest.approx([0, 0.5, 1, 0.5])
    assert rise_and_fall(1.0, 0.1) == pytest.approx(0, abs=1e-15)


class TestPhases:
    def test_they_are_logged_by_name_and_each_has_its_data_and_its_rate(self, make, processor, monkeypatch):
        """180 retain samples in 6 steps a round, then a round of 24 balanced batches."""
        diary = Diary()
        arguments = {"num_train_epochs": 3, "learning_rate": 0.02}
        trainer = make(trained("resnet", processor), TWO, arguments, callbacks=[diary])
        seen = record_batches(trainer, monkeypatch)
        trainer.train()
        assert [len(seen), sum(bool(batch.is_forget.any()) for batch in seen[:12])] == [36, 0]
        assert all(int(batch.is_forget.sum()) == 8 for batch in seen[12:])
        losses = [(e["step"], e["pass"]) for e in trainer.state.log_history if "loss" in e]
        assert losses == [(6, "restart"), (12, "restart"), (36, "unlearn")]
        first = [0.02 * rise_and_fall(step / 12, 0.1) for step in range(12)]
        then = [0.02 * 0.2 * rise_and_fall(step / 24, 0.05) for step in range(24)]
        assert diary.rates == pytest.approx(first + then, rel=1e-9, abs=1e-15)

    def test_the_restart_is_cross_entropy_on_labels_and_nothing_else(self, make, processor, monkeypatch):
        arguments = {"num_train_epochs": 3, "learning_rate": 1.0, "optim": "sgd", "weight_decay": 0.0, "max_steps": 3}
        method = WarmRestart(restart_rounds=2, restart_flip=False)
        trainer = make(trained("vit", processor), method, arguments)
        seen = record_batches(trainer, monkeypatch)
        trainer.train()
        rate = rise_and_fall(1 / 12, 0.1)  # of the second step, within the rise
        model = trained("vit", processor)
        model.load_state_dict(seen[1].weights)
        F.cross_entropy(model(seen[1].pixel_values).logits, seen[1].labels).backward()
        for name, parameter in model.named_parameters():
            step = seen[1].weights[name] - seen[2].weights[name]
            torch.testing.assert_close(step, rate * parameter.grad, rtol=1e-4, atol=1e-6)

    def test_only_the_restart_is_augmented_by_it(self, tiny_model):
        task = Task(tiny_model("resnet"), False, 10, (), 180, 60)
        restart, inner = (TWO.passes(task, index)[0] for index in (1, 2))
        assert restart.augmentation == Augmentation(True, 0) and not restart.needs_teacher and not restart.forget
        assert inner.augmentation is None and inner.needs_teacher
        plain = Task(tiny_model("vit"), False, 10, (), 180, 60)
        assert TWO.passes(plain, 0)[0].augmentation is None
        cropped = WarmRestart(restart_rounds=1, restart_crop=2).passes(plain, 0)[0]
        assert cropped.augmentation == Augmentation(False, 2)

    @pytest.mark.parametrize("keep", [True, False])
    def test_the_restarted_model_is_the_teacher_of_the_second_phase(self, make, processor, keep):
        """All that the inner method measures, and the logits that it is given, kept or not; the original stays."""
        asked = []

        class Watched(MarginMatching):
            def loss(self, inputs):
                asked.append(inputs)
                return super().loss(inputs)

        start = trained("resnet", processor)
        original = weights(start)
        method = WarmRestart(Watched(), restart_rounds=1)
        arguments = {"num_train_epochs": 2, "learning_rate": 0.02, "keep_teacher_logits": keep}
        trainer = make(start, method, arguments)
        kept = {}

        class AtTheBorder(TrainerCallback):
            def on_epoch_end(self, args, state, control, **kwargs):
                kept.setdefault("restarted", copy.deepcopy(trainer.model).eval())

        trainer.add_callback(AtTheBorder())
        trainer.train()
        restarted = kept["restarted"]
        assert equal(weights(trainer.current_teacher), weights(restarted))
        assert equal(weights(trainer.teacher), original) and not equal(weights(restarted), original)
        assert {inputs.round_index for inputs in asked} == {0} and len(asked) == 24
        for inputs in asked[:3]:
            with torch.no_grad():
                expected = restarted(**inputs.inputs).logits
            torch.testing.assert_close(inputs.teacher_logits, expected, rtol=1e-4, atol=1e-4)
        predicted = trainer.run.teacher_predictions("forget")
        np.testing.assert_allclose(trainer.hooks.state.inner.forget, margins(predicted.logits, predicted.labels))
        # What the run is measured against is the original all the same.
        again = trainer.evaluator.original_predictions("forget").logits
        assert not np.allclose(again, predicted.logits, atol=1e-3)


class TestChoosing:
    @pytest.mark.parametrize("metric", ["eval_retrain_free_gap", "eval_forget_accuracy"])
    def test_rounds_of_the_restart_are_neither_measured_nor_chosen(self, make, processor, metric):
        diary = Diary()
        arguments = {"num_train_epochs": 5, "early_stopping_patience": 1, "save_strategy": "epoch"}
        arguments |= {"metric_for_best_model": metric, "greater_is_better": False, "learning_rate": 0.02}
        trainer = make(trained("resnet", processor), TWO, arguments, callbacks=[diary])
        trainer.train()
        assert diary.measured and min(diary.measured) == 3
        assert trainer.state.best_global_step >= 12 + 24

    def test_a_method_that_rewinds_does_so_within_its_own_rounds(self, tmp_path):
        inner = SCRUB(alpha=0.5, gamma=1.0, msteps=1, forget_batch_size=32, rewind=True)
        trainer = build(tmp_path, WarmRestart(inner, restart_rounds=2), num_train_epochs=4)
        trainer.train()
        assert [e["after_round"] for e in trainer.state.log_history if "after_round" in e] == [2, 3]


class TestResuming:
    ARGUMENTS = {"num_train_epochs": 4, "learning_rate": 0.02, "optim": "adamw_torch", "save_strategy": "steps"}
    ARGUMENTS |= {"save_steps": 1000}

    @pytest.mark.parametrize("family", ["resnet", pytest.param("vit", marks=pytest.mark.exhaustive)])
    def test_within_either_phase_and_at_their_border_to_the_bit(self, tmp_path, family):
        """After 3, 12 (before the teacher is renewed), 12 and a decision, 20 and 40 of 6 + 6 + 24 + 24 steps."""
        whole = build(tmp_path, TWO, family, callbacks=[SaveAt(3, 12, 20, 40)], **self.ARGUMENTS)
        whole.train()
        later = build(tmp_path / "decided", TWO, family, callbacks=[SaveAt(rounds=(2,))], **self.ARGUMENTS)
        later.train()
        assert equal(weights(later.model), weights(whole.model))
        for folder in [tmp_path / f"checkpoint-{step}" for step in (3, 12, 20, 40)] + [
            tmp_path / "decided/checkpoint-12"
        ]:
            again = build(folder.parent, TWO, family, **self.ARGUMENTS)
            again.train(str(folder))
            assert equal(weights(again.model), weights(whole.model)), folder
            assert decisions(again) == decisions(whole), folder
            assert equal(weights(again.current_teacher), weights(whole.current_teacher))

    def test_a_teacher_of_another_run_is_refused(self, tmp_path):
        build(tmp_path, TWO, callbacks=[SaveAt(20)], **self.ARGUMENTS).train()
        other = {**self.ARGUMENTS, "seed": 2}
        build(tmp_path, TWO, callbacks=[], **other).train()
        with pytest.raises(ValueError, match="no longer holds the weights"):
            build(tmp_path, TWO, **self.ARGUMENTS).train(str(tmp_path / "checkpoint-20"))


@pytest.mark.parametrize("inner", [SalUn(), SSD(), WarmRestart(), "lotus", None])
def test_an_inner_method_that_cannot_follow_is_refused(inner):
    with pytest.raises(TypeError, match="inner must"):
        WarmRestart(inner)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"restart_rounds": 0}, "restart_rounds must be 1 or more"),
        ({"inner_scale": 0.0}, "inner_scale must be above 0"),
        ({"inner_scale": math.nan}, "inner_scale must be above 0"),
        ({"restart_crop": -1}, "restart_crop must be 0 or more"),
    ],
)
def test_fields_out_of_range_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        WarmRestart(**fields)


def test_defaults_by_family_and_size(tiny_model, monkeypatch):
    def given(family, num_retain, method=WarmRestart()):  # noqa: B008 - frozen
        task = Task(tiny_model(family), False, 10, (), num_retain, 500)
        values = method.default_arguments(task)
        return method.rounds(task), values["num_train_epochs"], values["learning_rate"], values.get("optim_args")

    nesterov = "momentum=0.9,nesterov=True"
    assert given("resnet", 45000) == (4, 7, 0.1, nesterov)
    assert given("resnet", 4500) == (15, 18, 0.1, nesterov)
    assert given("vit", 4500) == (10, 13, 5e-3, None)
    assert given("vit", 45000, WarmRestart(LoTUS(), restart_rounds=6)) == (6, 9, 5e-3, None)
    monkeypatch.setattr("hf_lotus.methods.base._LARGE", 1000)
    assert given("vit", 45000) == (1, 4, 1e-4, None)


def test_from_the_command_line():
    argv = ["--method", "warm_restart", "--inner", "finetune", "--restart_rounds", "3"]
    assert parse(argv, [], "unlearn", method="lotus") == (WarmRestart(Finetune(), restart_rounds=3),)
    argv = ["--method", "warm_restart", "--inner", "margin_matching", "--gain", "0.25"]
    assert parse(argv, [], "unlearn", method="lotus") == (WarmRestart(MarginMatching(gain=0.25)),)
