"""DELETE: the label's target is exactly zero, the rest of the original stays in proportion, no retain data is used."""

import math

import numpy as np
import pytest
import torch

from hf_lotus.methods import Delete, SalUn
from hf_lotus.methods.base import Task
from hf_lotus.methods.delete import without_label
from tests.support.method_helpers import (
    class_wise_parts,
    equal,
    log_softmax,
    loss_inputs,
    pixels_of,
    record_batches,
    trained,
    weights,
)


def random_logits(rows=32, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(rows, classes, generator=generator), torch.randint(classes, (rows,), generator=generator)


def test_targets_by_hand():
    # Probabilities 1/7, 2/7, 4/7: without the last class 1/3 and 2/3, without the first 1/3 and 2/3.
    logits = torch.tensor([[0.0, math.log(2), math.log(4)]]).expand(2, 3)
    targets = without_label(logits, torch.tensor([2, 0]))
    assert targets[0].tolist() == pytest.approx([1 / 3, 2 / 3, 0.0], rel=1e-6)
    assert targets[1].tolist() == pytest.approx([0.0, 1 / 3, 2 / 3], rel=1e-6)


def test_the_label_has_exactly_nothing_and_the_others_keep_their_proportions():
    logits, labels = random_logits()
    targets, before = without_label(logits, labels), logits.softmax(dim=1)
    rows = torch.arange(len(labels))
    assert (targets[rows, labels] == 0).all() and (targets.sum(dim=1) - 1).abs().max() < 1e-6
    others = torch.ones_like(targets, dtype=torch.bool)
    others[rows, labels] = False
    for row in rows:
        share = targets[row, others[row]] / before[row, others[row]]
        assert (share / share[0] - 1).abs().max() < 1e-5


def test_a_label_that_the_original_is_sure_of_leaves_what_it_says_of_the_others():
    """Its probability rounds to 1 and the others' to 0: their proportions are still those of their logits."""
    targets = without_label(torch.tensor([[200.0, 0.0, math.log(3)]]), torch.tensor([0]))
    assert targets[0].tolist() == pytest.approx([0.0, 0.25, 0.75], rel=1e-6)


def test_loss_by_hand():
    # Target (1/3, 2/3, 0) against a uniform student: ln 3 less the target's entropy.
    teacher = torch.tensor([[0.0, math.log(2), math.log(4)]])
    loss = Delete().loss(loss_inputs([[0.0, 0.0, 0.0]], [2], [True], teacher_logits=teacher))
    expected = math.log(3) + math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3
    assert loss.tolist() == pytest.approx([expected], rel=1e-5)


def test_loss_against_float64():
    (teacher, labels), (student, _) = random_logits(), random_logits(seed=1)
    struck = teacher.double().numpy().copy()
    struck[np.arange(len(labels)), labels] = -np.inf
    pairs = zip(np.exp(log_softmax(struck)), log_softmax(student), strict=True)
    terms = [[p * (np.log(p) - q) if p else 0.0 for p, q in zip(*pair, strict=True)] for pair in pairs]
    loss = Delete().loss(loss_inputs(student, labels, [True] * 32, teacher_logits=teacher))
    assert loss.numpy() == pytest.approx(np.sum(terms, axis=1), rel=1e-5)


def test_the_gradient_is_what_the_student_says_less_the_target():
    (teacher, labels), (student, _) = random_logits(), random_logits(seed=1)
    student.requires_grad_()
    Delete().loss(loss_inputs(student, labels, [True] * 32, teacher_logits=teacher)).sum().backward()
    expected = student.detach().softmax(dim=1) - without_label(teacher, labels)
    torch.testing.assert_close(student.grad, expected, rtol=1e-5, atol=1e-6)
    assert (student.grad[torch.arange(32), labels] > 0).all()  # the label's logit falls, whatever the student


def test_a_student_that_is_there_already_does_not_move():
    teacher, labels = random_logits()
    student = teacher.clone()
    student[torch.arange(32), labels] = -1e4
    student.requires_grad_()
    loss = Delete().loss(loss_inputs(student, labels, [True] * 32, teacher_logits=teacher))
    loss.sum().backward()
    assert loss.abs().max() < 1e-5 and student.grad.abs().max() < 1e-6


def test_a_single_class_leaves_no_other():
    with pytest.raises(ValueError, match="strikes the label out of the classes, and this model has no other"):
        without_label(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long))


def test_the_loss_is_for_every_batch_of_forget_samples_and_no_retained_one_is_shown(make, parts, monkeypatch):
    trainer = make("vit", Delete())
    seen = record_batches(trainer, monkeypatch)
    trainer.train()
    assert sum(len(batch.labels) for batch in seen) == 2 * 60
    assert all(batch.is_forget.all() for batch in seen)
    assert trainer.unlearning_passes["student_forward"] == {"forget": 120, "retain": 0, "other": 0}
    assert trainer.unlearning_passes["backward"] == {"forget": 120, "retain": 0, "other": 0}
    assert trainer.unlearning_passes["teacher_forward"]["retain"] == 0


def test_no_retained_sample_decides_anything(make, parts):
    """Another retain set, and none unseen: the same weights to the bit."""
    first = make("vit", Delete())
    first.train()
    again = make("vit", Delete(), retain_dataset=parts["retain"].select(range(20)), unseen_dataset=None)
    again.train()
    assert equal(weights(first.model), weights(again.model))


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_a_class_is_forgotten_and_what_is_said_of_the_others_stays(make, digits, processor, family):
    model = trained(family, processor)
    parts = class_wise_parts(digits)
    pixels, labels = pixels_of(parts["forget_dataset"], processor)
    before = model.eval()(pixels).logits.detach()
    arguments = {"num_train_epochs": 10, "learning_rate": 3e-3 if family == "vit" else 1e-2, "optim": "sgd"}
    trainer = make(model, Delete(), {**arguments, "optim_args": "momentum=0.9"}, **parts)
    known = trainer.run.student_accuracy("forget"), trainer.run.student_accuracy("retain")
    trainer.train()
    after = trainer.model.eval()(pixels).logits.detach()
    assert min(known) > 0.7 and (after.argmax(dim=1) == labels).float().mean() < 0.1
    assert (after.softmax(dim=1)[:, 3]).mean() < 0.2 * before.softmax(dim=1)[:, 3].mean()
    targets, start = without_label(before, labels), without_label(before, labels).argmax(dim=1)
    assert (after.argmax(dim=1) == start).float().mean() > 0.6
    apart = (without_label(after, labels) - targets).abs().sum(dim=1).mean()
    assert apart < 0.5  # of at most 2


def test_defaults_are_gentler_to_samples_than_to_classes(tiny_model):
    task = {"model": tiny_model("resnet"), "num_labels": 10}
    assert Delete().default_arguments(Task(class_wise=True, **task))["num_train_epochs"] == 10
    assert Delete().default_arguments(Task(class_wise=False, **task))["num_train_epochs"] == 2


def test_it_stands_within_salun_too(make):
    trainer = make("vit", SalUn(Delete(), saliency=0.2))
    before = weights(trainer.model)
    trainer.train()
    still = sum(int((before[n] == v).sum()) for n, v in trainer.model.named_parameters())
    assert 0.75 < still / sum(v.numel() for v in trainer.model.parameters()) <= 0.9
