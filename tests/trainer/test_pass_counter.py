"""The samples that pass forward and backward in a run, by side: by hand for some methods, carried over a resume."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch

from hf_lotus import Comparison, Contender, Finetune, UnlearningArguments, UnlearningResult
from hf_lotus.methods import SSD
from hf_lotus.trainer.checkpoints import MARK
from hf_lotus.trainer.pass_counter import PassCounter
from tests.support.every_method import EVERY_METHOD, SaveAt, build, options_of, ready_parts

METHODS = {**EVERY_METHOD, "ssd": SSD()}
# 60 forget samples, 180 retain samples, 80 unseen ones, in steps of 32, two rounds. Name → forget, retain, other of
# the student's forward passes, of other models', and of backward passes.
BY_HAND = {
    "finetune": ((0, 360, 0), (0, 0, 0), (0, 360, 0)),
    # Each of six steps a round has 32 forget samples beside its retain samples.
    "neggrad_plus": ((384, 360, 0), (0, 0, 0), (384, 360, 0)),
    "munba": ((384, 360, 0), (0, 0, 0), (384, 360, 0)),
    # The original's logits are computed once a run.
    "scrub": ((120, 360, 0), (60, 180, 0), (120, 360, 0)),
    # The set is 180, so that it has as many steps as the others.
    "delete": ((360, 0, 0), (180, 0, 0), (360, 0, 0)),
    # The ignorant teacher is asked in each round, the original once, of 30 % of the retain set.
    "bad_teacher": ((120, 108, 0), (180, 54, 0), (120, 108, 0)),
    # The mask is a pass over the forget set, forward and backward, on a copy of the original.
    "salun": ((120, 360, 0), (60, 0, 0), (180, 360, 0)),
    # Fisher information on either set; two forget steps of 32 for six retain steps.
    "sfron": ((128, 360, 0), (60, 180, 0), (188, 540, 0)),
    # Once on the forget set, once on both.
    "ssd": ((0, 0, 0), (120, 180, 0), (120, 180, 0)),
    # Before the second round the student is measured on the forget set; the original once on it and on unseen data.
    "lotus": ((180, 108, 0), (60, 54, 80), (120, 108, 0)),
    # Six steps a round: noise is tried on 32 images, in two steps forward and backward, and trained on.
    "unsir of samples": ((768, 360, 0), (0, 0, 0), (576, 360, 0)),
}


def counted(trainer):
    return tuple(tuple(sides.values()) for sides in trainer.unlearning_passes.values())


@pytest.mark.parametrize("name", BY_HAND)
def test_passes_by_hand(tmp_path, name):
    trainer = build(tmp_path, METHODS[name], options=options_of(name))
    assert trainer.unlearning_passes is None
    trainer.train()
    assert list(trainer.unlearning_passes) == ["student_forward", "teacher_forward", "backward"]
    assert counted(trainer) == BY_HAND[name]
    assert not trainer.model._forward_hooks and not trainer.teacher._forward_hooks


@pytest.mark.parametrize("name", ["neggrad_plus", "munba", "sfron of a given mask"])
def test_accumulated_batches_have_the_passes_of_large_ones(tmp_path, name):
    both = [
        build(tmp_path, METHODS[name], per_device_train_batch_size=size, gradient_accumulation_steps=32 // size)
        for size in (32, 8)
    ]
    for trainer in both:
        trainer.train()
    assert counted(both[0]) == counted(both[1])


def test_evaluation_is_left_out(tmp_path):
    test = {"eval_dataset": ready_parts()["test"]}
    plain, measured = (build(tmp_path, METHODS["lotus"], options=test, eval_strategy=s) for s in ("no", "epoch"))
    for trainer in (plain, measured):
        trainer.train()
    assert plain.unlearning_passes["student_forward"] == measured.unlearning_passes["student_forward"]
    assert plain.unlearning_passes["backward"] == measured.unlearning_passes["backward"]
    before = measured.unlearning_passes
    measured.evaluate()
    assert measured.passes.counts == before


@pytest.mark.parametrize("step", [3, 6])
def test_passes_are_carried_over_a_resume_and_begin_anew_without(tmp_path, step):
    whole = build(tmp_path, METHODS["neggrad_plus"], callbacks=[SaveAt(step)])
    whole.train()
    mark = json.loads((tmp_path / f"checkpoint-{step}" / MARK).read_text())
    assert mark["passes"]["backward"] == {"forget": 32 * step, "retain": min(32 * step, 180), "other": 0}
    again = build(tmp_path, METHODS["neggrad_plus"])
    again.train(str(tmp_path / f"checkpoint-{step}"))
    assert again.unlearning_passes == whole.unlearning_passes
    again.train()
    assert again.unlearning_passes == whole.unlearning_passes


def test_a_checkpoint_of_before_they_were_counted_can_be_resumed(tmp_path):
    build(tmp_path, METHODS["finetune"], callbacks=[SaveAt(6)]).train()
    path = tmp_path / "checkpoint-6" / MARK
    mark = json.loads(path.read_text())
    del mark["passes"]
    path.write_text(json.dumps(mark))
    again = build(tmp_path, METHODS["finetune"])
    again.train(str(path.parent))
    assert again.unlearning_passes["backward"]["retain"] == 180


def test_they_stand_in_the_results_of_a_run_and_of_a_comparison(tmp_path, parts, processor, tiny_model):
    trainer = build(tmp_path, METHODS["finetune"])
    trainer.train()
    trainer.compare().to_json(tmp_path / "results.json")
    assert UnlearningResult.from_json(tmp_path / "results.json").provenance["passes"] == trainer.unlearning_passes

    data = {f"{name}_dataset": part for name, part in parts.items() if name != "test"}
    args = UnlearningArguments(str(tmp_path / "all"), use_cpu=True, disable_tqdm=True, num_train_epochs=1)
    comparison = Comparison(tiny_model("vit"), args, **data, processing_class=processor)
    for _ in range(2):  # measured, and as it was kept
        details = comparison.run({"ours": Contender(Finetune()), "edit": Contender(SSD())}).provenance["details"]
        assert details["ours"]["passes"]["backward"] == {"forget": 0, "retain": 180, "other": 0}
        assert details["edit"]["passes"]["backward"] == {"forget": 120, "retain": 180, "other": 0}


class TestCounter:
    class Model(torch.nn.Linear):
        def forward(self, x):
            return SimpleNamespace(logits=super().forward(x))

    @pytest.fixture
    def models(self):
        return self.Model(3, 2), self.Model(3, 2).requires_grad_(False)

    def test_only_what_is_counted_is(self, models):
        counter, (student, teacher) = PassCounter(), models
        batch = torch.ones(5, 3)
        student(batch)
        with counter.counting(student, teacher):
            student(batch)
            teacher(batch)
            with counter.paused():
                student(batch).logits.sum().backward()
            with counter.showing(2, 3):
                student(batch).logits.sum().backward()
                teacher(batch[:3])
                teacher(batch[:2])
                teacher(batch[:1])
            with counter.split("retain"):
                teacher(batch)
            with counter.split("unseen"):
                teacher(batch)
        student(batch)
        assert counter.counts == {
            "student_forward": {"forget": 3, "retain": 2, "other": 5},
            "teacher_forward": {"forget": 3, "retain": 2 + 5, "other": 5 + 1 + 5},
            "backward": {"forget": 3, "retain": 2, "other": 0},
        }
        counter.begin()
        assert not any(samples for sides in counter.counts.values() for samples in sides.values())

    def test_a_copy_counts_as_another_model_and_in_the_same_place(self, models):
        counter, (student, teacher) = PassCounter(), models
        with counter.counting(student, teacher):
            copied = copy.deepcopy(student)
            copied(torch.ones(4, 3)).logits.sum().backward()
        assert counter.counts["teacher_forward"]["other"] == counter.counts["backward"]["other"] == 4
        assert counter.counts["student_forward"]["other"] == 0

    def test_what_a_method_has_made_is_watched_once(self, models):
        counter, (student, made) = PassCounter(), models
        with counter.counting(student):
            for state in (made, (0, made), student, None, 3):
                counter.watch(state)
            made(torch.ones(4, 3))
            student(torch.ones(2, 3))
        assert counter.counts["teacher_forward"]["other"] == 4 and counter.counts["student_forward"]["other"] == 2

    def test_the_backward_passes_of_one_forward_pass_are_each_counted(self, models):
        counter, (student, _) = PassCounter(), models
        with counter.counting(student):
            total = student(torch.ones(4, 3)).logits.sum()
            total.backward(retain_graph=True)
            total.backward()
        assert counter.counts["backward"]["other"] == 8 and counter.counts["student_forward"]["other"] == 4
