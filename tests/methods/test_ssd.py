"""SSD: importances and dampening by hand, one edit and no step, the rest of the weights untouched."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import TrainerCallback

from hf_lotus.methods import SSD, Task
from tests.support.method_helpers import (
    FORGET_SAMPLE,
    RETAIN_SAMPLE,
    HandRun,
    LinearScores,
    class_wise_parts,
    equal,
    pixels_of,
    trained,
    weights,
)


class CountSteps(TrainerCallback):
    def __init__(self):
        self.steps = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1


def hand_run(**given):
    teacher = LinearScores().requires_grad_(False)
    batches = {"forget": [FORGET_SAMPLE], "retain": [RETAIN_SAMPLE]}
    return HandRun(LinearScores(), teacher, batches, **given)


# I_f = (1/4, 1/4, 0); I, the mean over two batches, = ((1/4 + 1)/2, (1/4)/2, (1/4)/2) = (5/8, 1/8, 1/8).
# I_f / I = (0.4, 2, 0); the weights are (1, −1, 2).
@pytest.mark.parametrize(
    ("alpha", "lam", "expected", "share"),
    [
        (1.0, 1.0, [1.0, -0.5, 2.0], 1 / 3),  # the second is dampened by I / I_f = 1/2
        (1.0, 0.5, [1.0, -0.25, 2.0], 1 / 3),
        (1.0, 4.0, [1.0, -1.0, 2.0], 1 / 3),  # never made larger: min(2, 1)
        (2.0, 1.0, [1.0, -1.0, 2.0], 0.0),  # I_f = α · I is not above it
        (0.3, 0.1, [0.25, -0.05, 2.0], 2 / 3),  # the first by 0.1 · 2.5
        (0.0, 0.0, [0.0, 0.0, 2.0], 2 / 3),  # what has no importance to the forget set is never touched
    ],
)
def test_an_edit_by_hand(alpha, lam, expected, share):
    run = hand_run()
    logged = SSD(alpha, lam).edit(run)
    assert run.student.w.tolist() == pytest.approx(expected, rel=1e-6)
    assert logged == {"dampened_share": pytest.approx(share)}
    assert run.teacher.w.tolist() == [1.0, -1.0, 2.0]
    assert run.student.w.requires_grad and run.student.w.grad is None


def test_importances_are_of_the_original_and_a_frozen_parameter_is_left_alone():
    run = hand_run()
    run.student.head = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    run.teacher.head = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    with torch.no_grad():
        run.student.w.copy_(torch.tensor([3.0, 3.0, 3.0]))  # w·x is no longer 0, but it is the teacher's that counts
    assert SSD(alpha=1.0).edit(run) == {"dampened_share": pytest.approx(1 / 3)}
    assert run.student.w.tolist() == pytest.approx([3.0, 1.5, 3.0])
    assert run.student.head.tolist() == [1.0, 1.0]


def test_importances_are_summed_over_ranks_before_they_are_divided():
    """A second rank with the same sums leaves the mean as it is; a division before the sum would double it."""
    run = hand_run()
    run.sum_over_ranks = lambda values: {name: 2 * value for name, value in values.items()}
    assert SSD(alpha=1.0).edit(run) == {"dampened_share": pytest.approx(1 / 3)}
    assert run.student.w.tolist() == pytest.approx([1.0, -0.5, 2.0])


def plain_importance(model, batches):
    """The mean over batches of the squared gradient, by backward passes alone."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    total, count = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in model.named_parameters()}, 0
    for inputs, labels in batches:
        model.zero_grad()
        F.cross_entropy(model(**inputs).logits, labels).backward()
        for name, parameter in model.named_parameters():
            total[name] += parameter.grad.double().square() if parameter.grad is not None else 0.0
        count += 1
    return {name: value / count for name, value in total.items()}


@pytest.mark.parametrize("family", ["resnet", "vit"])
@pytest.mark.parametrize("batch_size", [32, 256])
def test_a_run_edits_as_a_plain_loop_says_and_no_other_weight(make, parts, processor, family, batch_size):
    method = SSD(alpha=1.5, lam=1.0)
    trainer = make(trained(family, processor), method, {"per_device_train_batch_size": batch_size})
    before = weights(trainer.model)
    if batch_size == 256:  # one batch each: the data are read and processed apart from the trainer
        read = [pixels_of(parts[name], processor) for name in ("forget", "retain")]
        pixels, labels = (torch.cat(both) for both in zip(*read, strict=True))
        batches = [({"pixel_values": read[0][0]}, read[0][1])], [({"pixel_values": pixels}, labels)]
    else:
        batches = list(trainer.run.batches("forget")), list(trainer.run.batches("forget", "retain"))
        assert [len(given) for given in batches] == [2, 8]
    forget, whole = (plain_importance(trainer.teacher, given) for given in batches)
    trainer.train()
    after, dampened, total, skipped = weights(trainer.model), 0, 0, 0
    for name, _ in trainer.model.named_parameters():
        ratio = forget[name] / whole[name].clamp_min(1e-300)
        factor = torch.where(ratio > 1.5, (1 / ratio).clamp_max(1), 1.0)
        # Another order of the sums moves a squared gradient by about 1e-4; that of an attention's key bias, which
        # changes no output, is rounding alone.
        near = ((ratio - 1.5).abs() < 1e-3) | (forget[name] < 1e-12)
        skipped += int(near.sum())
        torch.testing.assert_close(after[name][~near], (before[name] * factor).float()[~near], rtol=1e-3, atol=1e-8)
        untouched = (ratio <= 1.5) & ~near
        assert torch.equal(after[name][untouched], before[name][untouched])
        assert (after[name].abs() <= before[name].abs()).all() and (after[name] * before[name] >= 0).all()
        dampened, total = dampened + int((ratio > 1.5).sum()), total + ratio.numel()
    assert skipped < 0.05 * total
    # Buffers, BatchNorm's statistics among them, are as they were.
    assert all(torch.equal(after[name], value) for name, value in trainer.teacher.named_buffers())
    (logged,) = [e["dampened_share"] for e in trainer.state.log_history if "dampened_share" in e]
    assert logged == pytest.approx(dampened / total, abs=1e-3) and 0.005 < logged < 0.9


def test_the_gradients_are_taken_in_eval_mode(make, processor):
    trainer = make(trained("resnet", processor), SSD())
    asked = []
    hook = register_module_forward_pre_hook(lambda module, _: asked.append(module.training))
    try:
        trainer.train()
    finally:
        hook.remove()
    assert asked and not any(asked)


def test_it_edits_once_takes_no_step_and_not_again_on_a_resume(make, processor, tmp_path, monkeypatch):
    edits, edit = [], SSD.edit
    monkeypatch.setattr(SSD, "edit", lambda self, run: edits.append(run) or edit(self, run))
    counter = CountSteps()
    arguments = {"save_strategy": "epoch", "num_train_epochs": 5}
    model = trained("resnet", processor)
    original = weights(model)
    trainer = make(model, SSD(alpha=1.5), arguments, callbacks=[counter])
    output = trainer.train()
    edited = weights(trainer.model)
    assert len(edits) == 1 and counter.steps == output.global_step == trainer.state.global_step == 0
    assert trainer.optimizer is None and not equal(edited, original)
    assert equal(weights(trainer.teacher), original)
    resumed = make(trained("resnet", processor), SSD(alpha=1.5), arguments)
    resumed.train(resume_from_checkpoint=True)
    assert len(edits) == 1 and equal(weights(resumed.model), edited)


def test_forgetting_lowers_the_accuracy_on_what_is_forgotten_most(make, digits, processor):
    """A whole class, on a model that knows it: its accuracy falls by more than that of the rest."""
    trainer = make(trained("resnet", processor), SSD(alpha=3.0), **class_wise_parts(digits, (3,)))
    trainer.train()
    before, after = trainer.evaluator.yardstick.original, trainer.student_predictions()
    lost = {split: before[split].accuracy - after[split].accuracy for split in ("forget", "retain")}
    assert lost["forget"] > 0.2 and lost["forget"] > lost["retain"] + 0.1


@pytest.mark.parametrize("fields", [{"alpha": -0.1}, {"alpha": math.nan}, {"lam": -1.0}, {"lam": math.nan}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        SSD(**fields)


@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_defaults_are_the_papers_with_small_batches(tiny_model, family):
    assert (SSD().alpha, SSD().lam) == (10.0, 1.0)
    arguments = SSD().default_arguments(Task(tiny_model(family), False, 10, ()))
    assert arguments == {"per_device_train_batch_size": 8}
