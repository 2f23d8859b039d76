"""The teacher is asked once where its inputs never change, and what it said is read from a file of the run's own."""

import os

import pytest
import torch

from hf_lotus.methods import SCRUB, BadTeacher, LoTUS
from hf_lotus.trainer.logits_cache import KeptLogits
from tests.support.method_helpers import equal, weights

EACH_STEP = {"logging_strategy": "steps", "logging_steps": 1, "learning_rate": 1e-4}


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def counted(trainer):
    """Forward passes of the teacher, by whether they are of training: the student is then in training mode."""
    passes = []
    trainer.teacher.register_forward_hook(lambda *_: passes.append(trainer.model.training))
    return passes


@pytest.mark.parametrize("method", [LoTUS(stop_margin=2.0), BadTeacher(), SCRUB()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("model", ["resnet", "vit"])
def test_asked_once_or_in_each_step_it_gives_the_same_loss(make, model, method):
    runs = {}
    for keep in (None, False):
        trainer = make(model, method, arguments={**EACH_STEP, "keep_teacher_logits": keep})
        trainer.model.eval()
        passes = counted(trainer)
        trainer.train()
        assert sum(passes) == (trainer.state.global_step if keep is False else 0)
        runs[keep] = losses(trainer)
    assert runs[None] == pytest.approx(runs[False], abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_the_device_or_in_a_file_they_are_the_same(make, dtype):
    ends = []
    for on_device in (True, False):
        arguments = {"teacher_logits_dtype": dtype, "keep_on_device": on_device, "num_train_epochs": 1}
        trainer = make("resnet", arguments=arguments)
        placed = []
        keep = trainer._teacher.keep_logits
        trainer._teacher.keep_logits = lambda *a, keep=keep, t=trainer, p=placed, **o: (
            keep(*a, **o),
            p.append(t._teacher._placed is not None),
        )
        trainer.train()
        assert placed == [on_device]
        ends.append(weights(trainer.model))
    assert equal(*ends)


def test_in_half_the_room_the_loss_is_that_of_rounded_logits(make):
    runs = []
    for dtype in ("float32", "bfloat16"):
        trainer = make("resnet", arguments={**EACH_STEP, "teacher_logits_dtype": dtype, "num_train_epochs": 1})
        trainer.train()
        runs.append(losses(trainer))
    # bfloat16 has 8 bits: a logit is off by at most 2⁻⁹ of itself, and these are below 1.
    assert runs[0] == pytest.approx(runs[1], abs=2**-8) and runs[0] != runs[1]


class TestWhetherTheyAreKept:
    def passes(self, make, **arguments):
        trainer = make("resnet", arguments={"num_train_epochs": 1, **arguments})
        trainer.model.eval()
        passes = counted(trainer)
        trainer.train()
        return sum(passes)

    def test_augmented_images_are_shown_to_it_each_time(self, make):
        assert self.passes(make, horizontal_flip=True) > 0

    def test_they_can_be_refused(self, make):
        assert self.passes(make, keep_teacher_logits=False) > 0

    def test_of_augmented_images_they_cannot_be_kept(self, make):
        trainer = make("resnet", arguments={"crop_padding": 2, "keep_teacher_logits": True})
        with pytest.raises(ValueError, match="cannot be kept: images are augmented. Leave keep_teacher_logits out"):
            trainer.train()


class TestTheFiles:
    def test_they_go_when_the_run_ends(self, make, tmp_path):
        trainer = make("resnet")
        trainer.train()
        assert not (tmp_path / "out" / "teacher_logits").exists()
        assert trainer._teacher._kept is None

    def test_a_run_that_was_broken_off_reads_them_when_it_goes_on(self, make, tmp_path, monkeypatch):
        settings = {"save_strategy": "epoch", "num_train_epochs": 3}
        whole = make("resnet", arguments={**settings, "output_dir": str(tmp_path / "whole")})
        whole.train()
        broken = make("resnet", arguments=settings)
        monkeypatch.setattr(broken, "training_step", interrupt_at(broken, 10))
        with pytest.raises(KeyboardInterrupt):
            broken.train()
        assert len(list((tmp_path / "out" / "teacher_logits").iterdir())) == 4
        again = make("resnet", arguments=settings)
        again.model.eval()
        passes = counted(again)
        again.train(resume_from_checkpoint=True)
        assert not passes, "the bound of the round is in the checkpoint too"
        assert equal(weights(again.model), weights(whole.model))

    def test_runs_share_a_folder_that_is_given(self, make, tmp_path):
        shared = {"teacher_logits_dir": str(tmp_path / "shared"), "num_train_epochs": 1}
        first = make("resnet", arguments=shared)
        first.train()
        files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "shared").iterdir()}
        second = make("resnet", BadTeacher(), arguments=shared)
        passes = counted(second)
        second.train()
        assert not passes, "it has the same model, and the same part of the retain set"
        assert {path.name for path in (tmp_path / "shared").iterdir()} == files.keys()
        other = make("vit", arguments=shared)
        passes = counted(other)
        other.train()
        assert passes and len(list((tmp_path / "shared").iterdir())) == 2 * len(files)


def interrupt_at(trainer, step):
    own = trainer.training_step

    def training_step(*args, **kwargs):
        if trainer.state.global_step == step:
            raise KeyboardInterrupt
        return own(*args, **kwargs)

    return training_step


def test_before_the_first_round_the_students_accuracy_is_the_teachers(make):
    """The student is asked for nothing that is known; a second run begins with weights of its own."""
    trainer = make("resnet", arguments={"num_train_epochs": 1, "learning_rate": 1e-2})
    student, passes = trainer.model, []
    student.register_forward_hook(lambda *_: passes.append(student.training))
    trainer.train()
    assert passes.count(False) == 0 and passes.count(True) > 0
    trainer.train()
    assert passes.count(False) > 0


def test_it_leaves_the_device_and_comes_back_to_be_measured(make, monkeypatch):
    trainer = make("resnet", arguments={"num_train_epochs": 1})
    places = []
    to = trainer.teacher.to
    monkeypatch.setattr(trainer.teacher, "to", lambda place: places.append(str(place)) or to(place))
    trainer.train()
    assert places == ["cpu"]
    assert trainer.compare()["original"].retain_accuracy >= 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_are_known_once_written_also_to_another_reader(tmp_path, dtype):
    path = tmp_path / "new" / "logits"
    kept = KeptLogits(path, 10, 3, dtype)
    rows, values = torch.tensor([7, 2]), torch.randn(2, 3)
    assert kept.missing(torch.tensor([2, 7, 2, 5])).tolist() == [2, 5, 7]
    kept.keep(rows, values)
    other = KeptLogits(path, 10, 3, dtype)
    assert other.missing(torch.tensor([2, 7, 5])).tolist() == [5]
    expected = values.to(getattr(torch, dtype)).float()
    assert torch.equal(other[rows], expected) and other[rows].dtype == torch.float32
    assert os.path.getsize(path) == 10 * 3 * (4 if dtype == "float32" else 2)
    other.remove()
    assert not path.parent.exists()
