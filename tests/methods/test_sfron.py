"""SFRon: ascent on exactly the stated steps, by weights of CE to the −λ, with the unmasked weights bit-frozen."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from hf_lotus.methods import SalUn, SFRon
from hf_lotus.methods.options import inner_names
from tests.conftest import TINY_MODELS
from tests.support.every_method import build, checkered
from tests.support.method_helpers import (
    FORGET_SAMPLE,
    RETAIN_SAMPLE,
    HandRun,
    LinearScores,
    cross_entropy,
    equal,
    loss_inputs,
    record_batches,
    weights,
)

PLAIN_SGD = {"optim": "sgd", "learning_rate": 1.0, "weight_decay": 0.0}
HARSH = {
    "sgd": {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.05, "weight_decay": 0.1},
    "adamw": {"optim": "adamw_torch", "learning_rate": 1e-2, "weight_decay": 0.1},
}


def run_of(rounds):
    return SimpleNamespace(num_rounds=rounds)


def test_the_strength_falls_by_a_cosine():
    method = SFRon(alpha=4.0)
    assert method.strength(0, 0.0, 4) == 4.0
    assert method.strength(2, 0.0, 4) == pytest.approx(2.0)
    assert method.strength(1, 0.0, 4) == pytest.approx(2 * (1 + math.sqrt(0.5)))
    assert method.strength(0, 0.5, 2) == method.strength(1, 0.0, 4)
    assert method.strength(4, 0.0, 4) == pytest.approx(0.0)


def test_loss_by_hand():
    # Logits (0, 0): CE ln 2. Logits (0, ln 3): ln 4 for the first class. Half of the run is over: α_t = 3/2.
    logits = [[0.0, 0.0], [0.0, 0.0], [0.0, math.log(3)]]
    given = {"state": 2, "round_index": 1}
    loss = SFRon(alpha=3.0, lam=0.5).loss(loss_inputs(logits, [0, 0, 0], [False, True, True], **given))
    expected = [math.log(2), -1.5 * math.sqrt(math.log(2)), -1.5 * math.sqrt(math.log(4))]
    assert loss.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_the_gradient_is_weighted_by_the_loss_to_minus_lambda(lam):
    """The weight is held constant: no gradient flows through it."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(32, 5, generator=generator), torch.randint(5, (32,), generator=generator)
    logits.requires_grad_()
    inputs = loss_inputs(logits.detach(), labels, [True] * 32, state=1)
    inputs = type(inputs)(**{**vars(inputs), "logits": logits})
    SFRon(alpha=2.0, lam=lam).loss(inputs).sum().backward()
    losses = torch.as_tensor(cross_entropy(logits.detach(), labels.numpy()))
    plain = logits.detach().double().softmax(dim=1) - F.one_hot(labels, 5)
    torch.testing.assert_close(logits.grad.double(), -2.0 * (losses**-lam)[:, None] * plain, rtol=1e-4, atol=1e-6)


def test_a_sample_of_no_loss_stays_finite():
    loss = SFRon().loss(loss_inputs([[200.0, 0.0]], [0], [True], state=1))
    assert loss.tolist() == [-0.0]


def test_the_mask_by_hand():
    """F_f = (1/4, 1/4, 0) and F_r = (1, 0, 1/4): the second weight alone matters more to the forget set."""
    batches = {"forget": [FORGET_SAMPLE], "retain": [RETAIN_SAMPLE]}
    run = HandRun(LinearScores(), LinearScores(), batches)
    assert SFRon().mask(run)["w"].tolist() == [False, True, False]
    assert SFRon(gamma=0.25).mask(run)["w"].tolist() == [True, True, False]
    assert SFRon(gamma=0.0).mask(run)["w"].tolist() == [True, True, True]


def test_a_weight_that_matters_to_neither_may_move():
    nothing = ({"x": torch.zeros(1, 3)}, torch.tensor([0]))
    run = HandRun(LinearScores(), LinearScores(), {"forget": [nothing], "retain": [nothing]})
    assert SFRon().mask(run)["w"].all()


def test_the_mask_is_of_means_over_batches():
    batches = {"forget": [FORGET_SAMPLE] * 3, "retain": [RETAIN_SAMPLE] * 5}
    run = HandRun(LinearScores(), LinearScores(), batches)
    assert SFRon().mask(run)["w"].tolist() == [False, True, False]
    assert SFRon(gamma=0.25).mask(run)["w"].tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("every", "steps"), [(5, "fr rrrr fr"), (1, "fr fr fr fr fr fr"), (4, "frrrr frr"), (10, "frrrrrr")]
)
def test_ascent_is_on_exactly_the_stated_steps(make, monkeypatch, every, steps):
    """180 retain samples in steps of 32 are six steps; each round begins with one on forget samples."""
    trainer = make("vit", SFRon(forget_every=every))
    seen = record_batches(trainer, monkeypatch)
    trainer.train()
    assert all(batch.is_forget.all() or not batch.is_forget.any() for batch in seen)
    assert "".join("f" if batch.is_forget.all() else "r" for batch in seen) == 2 * steps.replace(" ", "")
    assert trainer.state.global_step == 2 * len(steps.replace(" ", ""))
    retained = [p for batch in seen if not batch.is_forget.any() for p in batch.position.tolist()]
    assert sorted(retained) == sorted(2 * list(range(60, 240)))  # each once a round


def after_each(seen, trainer):
    return zip(seen, [*(batch.weights for batch in seen[1:]), weights(trainer.model)], strict=True)


@pytest.mark.parametrize("optimizer", HARSH)
@pytest.mark.parametrize("mask_retain", [False, True])
def test_unmasked_weights_are_bit_frozen_in_forget_steps_and_move_in_retain_steps(
    make, monkeypatch, optimizer, mask_retain
):
    """Against momentum from before, weight decay and Adam's state."""
    trainer = make("vit", SFRon(mask_retain=mask_retain), {**HARSH[optimizer], "max_grad_norm": 0.0})
    mask = trainer.method.mask(trainer.run)
    assert 0.05 < sum(int(m.sum()) for m in mask.values()) / sum(m.numel() for m in mask.values()) < 0.95
    seen, start = record_batches(trainer, monkeypatch), weights(trainer.model)
    trainer.train()
    for batch, after in after_each(seen, trainer):
        moved = {name: batch.weights[name] != after[name] for name in mask}
        masked_moved = sum(int((moved[n] & mask[n]).sum()) for n in mask)
        others_moved = sum(int((moved[n] & ~mask[n]).sum()) for n in mask)
        assert masked_moved > 0
        assert (others_moved == 0) == (bool(batch.is_forget.all()) or mask_retain)
    if mask_retain:
        assert all(torch.equal(weights(trainer.model)[n][~mask[n]], start[n][~mask[n]]) for n in mask)


def test_a_forget_step_is_the_masked_clipped_ascent(make, monkeypatch):
    for max_norm, clips in ((1e6, False), (0.05, True)):
        arguments = {**PLAIN_SGD, "max_steps": 1}
        trainer = make("vit", SFRon(alpha=2.0, max_norm=max_norm), arguments)
        monkeypatch.setattr(SFRon, "mask", checkered)
        seen, mask = record_batches(trainer, monkeypatch), checkered(None, trainer.run)
        trainer.train()
        (batch,) = seen
        model = TINY_MODELS["vit"]()
        model.load_state_dict(batch.weights)
        losses = F.cross_entropy(model(batch.pixel_values).logits, batch.labels, reduction="none")
        (-2.0 * (losses.detach() ** -0.5) * losses).mean().backward()
        expected = {name: p.grad * mask[name] for name, p in model.named_parameters()}
        norm = torch.cat([value.flatten() for value in expected.values()]).norm()
        assert (norm > max_norm) == clips
        after = weights(trainer.model)
        for name, value in expected.items():
            step = value * min(1.0, max_norm / float(norm))
            torch.testing.assert_close(batch.weights[name] - after[name], step, rtol=1e-4, atol=1e-6)


def test_a_retain_step_is_neither_masked_nor_clipped(make, monkeypatch):
    arguments = {**PLAIN_SGD, "max_steps": 2}
    trainer = make("vit", SFRon(max_norm=1e-3), arguments)
    seen = record_batches(trainer, monkeypatch)
    trainer.train()
    batch, after = seen[1], weights(trainer.model)
    model = TINY_MODELS["vit"]()
    model.load_state_dict(batch.weights)
    F.cross_entropy(model(batch.pixel_values).logits, batch.labels).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(batch.weights[name] - after[name], parameter.grad, rtol=0, atol=1e-6)


def test_a_run_broken_off_before_a_forget_step_holds_the_weights_of_then_and_not_the_originals(tmp_path):
    """Step 7 of a round of eight is the second on forget samples."""
    from tests.support.every_method import SaveAt

    arguments = {**HARSH["adamw"]}
    whole = build(tmp_path, SFRon(), callbacks=[SaveAt(6)], **arguments)
    whole.train()
    again = build(tmp_path, SFRon(), **arguments)
    again.train(str(tmp_path / "checkpoint-6"))
    assert equal(weights(whole.model), weights(again.model))


def test_it_stands_in_no_other_method_that_masks():
    assert "sfron" not in inner_names()
    with pytest.raises(TypeError, match="without a mask of its own as SalUn and SFRon have"):
        SalUn(SFRon())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha": -1.0}, "alpha must be 0 or more"),
        ({"lam": math.inf}, "lam must be 0 or more and finite"),
        ({"forget_every": 0}, "forget_every must be 1 or more retain steps, got 0"),
        ({"max_norm": 0.0}, "max_norm must be above 0"),
    ],
)
def test_bad_values(values, message):
    with pytest.raises(ValueError, match=message):
        SFRon(**values)
