"""No pass is taken twice: at a border of rounds, however many ask; nor by who measures what was asked for training."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hf_lotus.evaluation import evaluator, predictions
from hf_lotus.trainer import teacher
from hf_lotus.trainer.run import TrainerRun
from tests.support.every_method import build, decisions, options_of, ready_parts
from tests.support.killed_runs import METHODS
from tests.support.method_helpers import equal

# All that ask at the borders of rounds.
ASKING = ["lotus", "margin_matching", "scrub_r"]
MEASURED = {"eval_strategy": "epoch", "save_strategy": "epoch", "early_stopping_patience": 5, "num_train_epochs": 3}


@pytest.fixture
def passes(monkeypatch):
    """What is predicted, and from which data set: description → times."""
    taken = Counter()

    def counted(model, dataset, **options):
        taken[options["description"], passes_at()] += 1
        return predictions.predict(model, dataset, **options)

    trainers = []

    def passes_at():
        return trainers[-1].state.global_step if trainers else 0

    for module in (evaluator, teacher):
        monkeypatch.setattr(module, "predict", counted)
    taken.watch = trainers.append  # type: ignore[attr-defined]
    return taken


def of(passes, what):
    return {step: times for (description, step), times in passes.items() if description == what}


def run(folder, name, **settings):
    options = {**options_of(name), "eval_dataset": ready_parts()["test"]}
    return build(folder, METHODS[name], options=options, **settings)


def measurements(trainer):
    """All that was measured after rounds, but for how long it took."""
    timed = ("_seconds", "_second", "runtime")
    entries = [entry for entry in trainer.state.log_history if "eval_forget_accuracy" in entry]
    return [{name: value for name, value in entry.items() if not name.endswith(timed)} for entry in entries]


@pytest.mark.parametrize("name", ASKING)
def test_the_student_is_asked_once_a_step(tmp_path, passes, name):
    trainer = run(tmp_path, name, **MEASURED)
    passes.watch(trainer)
    trainer.train()
    for split in ("forget", "retain", "unseen", "test"):
        found = of(passes, f"student on {split}")
        assert len(found) == 3 and set(found.values()) == {1}, (split, found)
    assert set(of(passes, "original on forget").values()) == {1}
    assert not trainer.run.predicted and not trainer.run._predicted[1]


@pytest.mark.parametrize("name", ASKING)
def test_and_every_figure_and_weight_is_what_it_was(tmp_path, monkeypatch, name):
    once = run(tmp_path / "once", name, **MEASURED)
    once.train()
    monkeypatch.setattr(TrainerRun, "predicted", property(lambda self: {}))
    anew = run(tmp_path / "anew", name, **MEASURED)
    anew.train()
    assert decisions(once) == decisions(anew) and equal(once.model.state_dict(), anew.model.state_dict())
    measured = [measurements(trainer) for trainer in (once, anew)]
    assert measured[0] == measured[1] and len(measured[0]) == 3
    assert once.unlearning_passes == anew.unlearning_passes


def test_a_weight_that_is_changed_between_is_seen(tmp_path, passes):
    trainer = run(tmp_path, "lotus", **MEASURED)
    begin = trainer.hooks.begin_round
    asked = []

    def changing(run, index):
        if index == 1:
            before = run.student_predictions("forget").logits
            next(run.student.parameters()).detach().mul_(1.5)
            asked.append(np.array_equal(before, run.student_predictions("forget").logits))
        return begin(run, index)

    trainer.hooks.begin_round = changing
    trainer.train()
    assert asked == [False]


def test_what_the_student_is_after_training_is_measured_anew(tmp_path, passes):
    trainer = run(tmp_path, "lotus", **MEASURED)
    trainer.train()
    passes.clear()
    trainer.compare()
    assert sum(of(passes, "student on forget").values()) == 1


def test_the_original_is_asked_for_the_retain_set_once_where_a_round_shows_all_of_it(tmp_path, passes):
    trainer = run(tmp_path, "scrub_r", per_device_eval_batch_size=64)
    trainer.train()
    trainer.compare()
    assert sum(of(passes, "teacher on retain").values()) == 1 and not of(passes, "original on retain")
    taken, own = trainer.evaluator.original_predictions("retain"), trainer.evaluator
    anew = own.predict(own.original, "retain", "again")
    for name in ("labels", "predicted", "entropy"):
        assert np.array_equal(getattr(taken, name), getattr(anew, name))
    assert taken.logits is None and anew.logits is None


@pytest.mark.parametrize(
    ("name", "settings"),
    # 30 % of the retain set are drawn; blocks of rows that are no whole batches.
    [("lotus", {}), ("scrub_r", {"per_device_eval_batch_size": 50})],
)
def test_otherwise_it_is_asked_as_ever(tmp_path, passes, monkeypatch, name, settings):
    monkeypatch.setattr(teacher, "_BLOCK", 128)
    trainer = run(tmp_path, name, **settings)
    trainer.train()
    trainer.compare()
    assert of(passes, "teacher on retain") and sum(of(passes, "original on retain").values()) == 1


def test_nor_where_attacks_need_its_logits(tmp_path, passes):
    trainer = run(tmp_path, "scrub_r")
    trainer.evaluator._keeps_retain_logits = True
    trainer.train()
    assert trainer.evaluator.original_predictions("retain").logits is not None
