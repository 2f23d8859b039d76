"""Random labels: uniform over the wrong classes and drawn once, or over all and drawn anew."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
import torch
from scipy.stats import chisquare

from hf_lotus.methods import RandomLabels
from tests.support.method_helpers import cross_entropy, loss_inputs

CLASSES = 5


def labels_used(method, inputs):
    """The labels of a batch, read off the gradient: ∂CE/∂s = softmax(s) − onehot(y'), at s = 0 least at y'."""
    logits = torch.zeros_like(inputs.logits, requires_grad=True)
    method.loss(replace(inputs, logits=logits)).sum().backward()
    return logits.grad.argmin(dim=1)


def drawn(method, labels, round_index=0, seed=0, forget=None):
    """The labels that a run of one batch uses, all of it forget samples unless said otherwise."""
    forget = torch.ones(len(labels), dtype=torch.bool) if forget is None else forget
    state = method.prepare(SimpleNamespace(seed=seed, num_forget=len(labels)))
    values = {"positions": torch.arange(len(labels)), "state": state, "round_index": round_index}
    return labels_used(method, loss_inputs(torch.zeros(len(labels), CLASSES), labels, forget, **values))


@dataclass(frozen=True)
class Recorded(RandomLabels):
    """Random labels that notes which it used: (round, position) → label."""

    used: dict = field(default_factory=dict)

    def loss(self, inputs):
        labels = labels_used(RandomLabels(self.allow_true, self.redraw), inputs)
        for position, label in zip(inputs.positions.tolist(), labels.tolist(), strict=True):
            self.used[inputs.round_index, position] = label
        return super().loss(inputs)


TRUE = torch.arange(20_000) % CLASSES


def test_the_label_is_never_the_true_one_and_every_wrong_one_alike():
    used = drawn(RandomLabels(), TRUE)
    assert not (used == TRUE).any()
    for label in range(CLASSES):
        counts = used[TRUE == label].bincount(minlength=CLASSES)
        counts = counts[torch.arange(CLASSES) != label].numpy()
        assert chisquare(counts).pvalue > 0.001


def test_with_allow_true_every_class_alike_the_true_one_too():
    used = drawn(RandomLabels(allow_true=True), TRUE)
    for label in range(CLASSES):
        assert chisquare(used[TRUE == label].bincount(minlength=CLASSES).numpy()).pvalue > 0.001


def test_with_two_classes_the_label_is_the_other_one():
    labels = torch.arange(50) % 2
    state = RandomLabels().prepare(SimpleNamespace(seed=0, num_forget=50))
    values = {"positions": torch.arange(50), "state": state}
    inputs = loss_inputs(torch.zeros(50, 2), labels, torch.ones(50, dtype=torch.bool), **values)
    assert torch.equal(labels_used(RandomLabels(), inputs), 1 - labels)


@pytest.mark.parametrize("allow_true", [False, True])
def test_labels_are_drawn_once_or_anew_every_round_always_from_the_seed(allow_true):
    once, anew = RandomLabels(allow_true), RandomLabels(allow_true, redraw=True)
    assert torch.equal(drawn(once, TRUE, 0), drawn(once, TRUE, 3))
    assert not torch.equal(drawn(once, TRUE, 0), drawn(once, TRUE, 0, seed=1))
    first, fourth = drawn(anew, TRUE, 0), drawn(anew, TRUE, 3)
    assert torch.equal(fourth, drawn(anew, TRUE, 3))
    # Independent draws agree by chance: one in as many as there are classes to choose from.
    assert (first == fourth).float().mean().item() == pytest.approx(1 / (CLASSES - 1 + allow_true), abs=0.02)


def test_loss_against_float64_and_retain_labels_are_the_true_ones():
    generator = torch.Generator().manual_seed(0)
    labels, logits = torch.arange(40) % CLASSES, torch.randn(40, CLASSES, generator=generator)
    forget = torch.arange(40) < 10
    # Of 3 draws, position p takes the (p mod 3)rd; label + 1 + draw mod 4, round the circle of five.
    draws = torch.tensor([0, 6, 11])
    values = {"positions": torch.arange(40), "state": lambda index, device: draws}
    steps = [(1, 3, 4)[position % 3] for position in range(10)]
    expected_labels = [(p % 5 + steps[p]) % 5 if p < 10 else p % 5 for p in range(40)]
    loss = RandomLabels().loss(loss_inputs(logits, labels, forget, **values))
    assert loss.numpy() == pytest.approx(cross_entropy(logits, expected_labels), rel=1e-5)
    # The label given is not changed in place: the next round starts from the true one.
    assert torch.equal(labels, torch.arange(40) % CLASSES)


@pytest.mark.parametrize("redraw", [False, True])
def test_a_run_uses_the_same_labels_in_each_round_and_after_a_resume(make, tmp_path, redraw):
    arguments = {"num_train_epochs": 3, "save_strategy": "epoch", "save_total_limit": 5}
    whole, resumed = Recorded(allow_true=redraw, redraw=redraw), Recorded(allow_true=redraw, redraw=redraw)
    trainer = make("resnet", whole, arguments)
    trainer.train()
    true = [trainer.train_dataset[position]["labels"].item() for position in range(240)]
    assert len(whole.used) == 3 * 240
    rounds = [[whole.used[index, position] for position in range(240)] for index in range(3)]
    assert all(used[60:] == true[60:] for used in rounds)
    if redraw:
        assert len({tuple(used) for used in rounds}) == 3
        assert any(used == label for used, label in zip(rounds[0][:60], true[:60], strict=True))
    else:
        assert rounds[0] == rounds[1] == rounds[2]
        assert all(used != label for used, label in zip(rounds[0][:60], true[:60], strict=True))
    first_steps = trainer.state.global_step // 3
    make("resnet", resumed, arguments).train(str(tmp_path / "out" / f"checkpoint-{first_steps}"))
    assert resumed.used == {key: label for key, label in whole.used.items() if key[0] > 0}


def test_forget_and_retain_are_shuffled_together(make):
    trainer = make("vit", RandomLabels())
    shares = [batch["is_forget"].float().mean().item() for batch in trainer.get_train_dataloader()]
    assert len(shares) == 8 and all(0 < share < 1 for share in shares)
    half = make("vit", RandomLabels(retain_fraction=0.5))
    assert sum(len(batch["labels"]) for batch in half.get_train_dataloader()) == 60 + 90


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
def test_a_retain_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match="retain_fraction must lie between 0 and 1"):
        RandomLabels(retain_fraction=fraction)


@pytest.mark.parametrize(("family", "batch_size"), [("resnet", 128), ("vit", 32)])
def test_default_arguments_are_the_papers(make, family, batch_size):
    open_arguments = ("learning_rate", "num_train_epochs", "per_device_train_batch_size")
    args = make(family, RandomLabels(), dict.fromkeys(open_arguments)).args
    assert (args.learning_rate, args.weight_decay, args.num_train_epochs) == (1e-4, 0.0, 3)
    assert args.optim.startswith("adamw") and args.per_device_train_batch_size == batch_size
    assert RandomLabels() == RandomLabels(allow_true=False, redraw=False, retain_fraction=1.0)
