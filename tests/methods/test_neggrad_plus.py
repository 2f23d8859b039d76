"""NegGrad+: one step is descent on retain and ascent on forget, and its gradient that of the paper."""

import math

import pytest
import torch
import torch.nn.functional as F

from hf_lotus.methods import NegGradPlus
from tests.conftest import TINY_MODELS
from tests.support.method_helpers import cross_entropy, loss_inputs, pixels_of, record_batches, trained, weights

PLAIN_SGD = {"optim": "sgd", "learning_rate": 1.0, "weight_decay": 0.0}


def side_gradients(values, batch):
    """The gradients of the mean cross-entropy on each side of a batch, of a model with the given weights."""
    model = TINY_MODELS["vit"]()
    model.load_state_dict(values)
    gradients = {}
    for side, chosen in (("retain", ~batch.is_forget), ("forget", batch.is_forget)):
        loss = F.cross_entropy(model(batch.pixel_values[chosen]).logits, batch.labels[chosen])
        names, parameters = zip(*model.named_parameters(), strict=True)
        gradients[side] = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
    return gradients


def assert_step_is_the_papers(alpha, batch, after):
    gradients = side_gradients(batch.weights, batch)
    for name, retain in gradients["retain"].items():
        expected = alpha * retain - (1 - alpha) * gradients["forget"][name]
        torch.testing.assert_close(batch.weights[name] - after[name], expected, rtol=0, atol=1e-6)


def test_loss_by_hand():
    # Logits (0, 0): cross-entropy ln 2. Logits (0, ln 3): ln 4 for the first class, ln 4/3 for the second.
    logits = [[0.0, 0.0], [0.0, math.log(3)], [0.0, math.log(3)]]
    loss = NegGradPlus(alpha=0.75).loss(loss_inputs(logits, [0, 0, 1], [False, True, False]))
    expected = [0.75 * math.log(2), -0.25 * math.log(4), 0.75 * math.log(4 / 3)]
    assert loss.tolist() == pytest.approx(expected, rel=1e-6)


def test_loss_against_float64():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(32, 5, generator=generator), torch.randint(5, (32,), generator=generator)
    forget = torch.arange(32) % 3 == 0
    expected = cross_entropy(logits, labels.numpy())
    expected[forget] *= -(1 - 0.9999)
    expected[~forget] *= 0.9999
    loss = NegGradPlus(alpha=0.9999).loss(loss_inputs(logits, labels, forget))
    assert loss.numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("alpha", [0.95, 0.5, 0.0])
def test_a_whole_batch_step_is_the_weighted_difference_of_the_gradients(make, parts, processor, alpha):
    """Against all of both sets, read and processed apart from the trainer."""
    arguments = {**PLAIN_SGD, "per_device_train_batch_size": 256, "max_steps": 1}
    trainer = make("vit", NegGradPlus(alpha), arguments)
    model, expected = TINY_MODELS["vit"](), {}
    model.load_state_dict(weights(trainer.model))
    for split, weight in (("retain", alpha), ("forget", alpha - 1)):
        pixels, labels = pixels_of(parts[split], processor)
        model.zero_grad()
        F.cross_entropy(model(pixels).logits, labels).backward()
        for name, parameter in model.named_parameters():
            expected[name] = expected.get(name, 0) + weight * parameter.grad
    before = weights(trainer.model)
    trainer.train()
    assert trainer.state.global_step == 1
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(before[name] - parameter.detach(), expected[name], rtol=0, atol=1e-6)


def test_every_step_is_so_with_an_uneven_tail_and_a_forget_set_that_starts_over(make, parts, monkeypatch):
    """180 retain samples in steps of 50, 50, 50 and 30, each joined by all of 25 forget samples: means, not sums."""
    forget = parts["forget"].select(range(25))
    arguments = {**PLAIN_SGD, "per_device_train_batch_size": 50, "num_train_epochs": 1}
    trainer = make("vit", NegGradPlus(0.8), arguments, forget_dataset=forget)
    seen = record_batches(trainer, monkeypatch)
    trainer.train()
    assert [int((~batch.is_forget).sum()) for batch in seen] == [50, 50, 50, 30]
    assert [int(batch.is_forget.sum()) for batch in seen] == [25] * 4
    for batch, after in zip(seen, [*(batch.weights for batch in seen[1:]), weights(trainer.model)], strict=True):
        assert_step_is_the_papers(0.8, batch, after)


def authors_gradient(batch, alpha):
    """In train mode, each side by itself: α∇L_r − (1 − α)∇L_f, of a ResNet with the given weights."""
    model = TINY_MODELS["resnet"]().train()
    model.load_state_dict(batch.weights)
    for chosen, weight in ((~batch.is_forget, alpha), (batch.is_forget, alpha - 1)):
        loss = F.cross_entropy(model(batch.pixel_values[chosen]).logits, batch.labels[chosen])
        (weight * loss).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]), dict(model.named_buffers())


@pytest.mark.parametrize("alpha", [0.95, 0.5])
def test_with_batch_norm_the_gradient_and_the_statistics_are_those_of_the_authors_two_passes(
    make, processor, monkeypatch, alpha
):
    """Cosine 1; one pass over both sides together has another gradient."""
    arguments = {**PLAIN_SGD, "max_steps": 1}
    trainer = make(trained("resnet", processor), NegGradPlus(alpha), arguments)
    seen = record_batches(trainer, monkeypatch)
    trainer.train()
    expected, buffers = authors_gradient(seen[0], alpha)
    step = [seen[0].weights[name] - parameter.detach() for name, parameter in trainer.model.named_parameters()]
    taken = torch.cat([part.flatten() for part in step])
    assert F.cosine_similarity(taken, expected, dim=0) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(taken, expected, rtol=1e-4, atol=1e-6)
    for name, value in trainer.model.named_buffers():
        torch.testing.assert_close(value, buffers[name])

    joint = TINY_MODELS["resnet"]().train()
    joint.load_state_dict(seen[0].weights)
    losses = F.cross_entropy(joint(seen[0].pixel_values).logits, seen[0].labels, reduction="none")
    forget = seen[0].is_forget
    (alpha * losses[~forget].mean() - (1 - alpha) * losses[forget].mean()).backward()
    mixed = torch.cat([parameter.grad.flatten() for parameter in joint.parameters()])
    assert F.cosine_similarity(mixed, expected, dim=0) < 0.99


def test_each_retain_batch_is_joined_by_one_forget_batch_and_the_forget_set_cycles(make, parts, monkeypatch):
    """Five batches of 16 forget samples from 25: no sample comes back before all have been shown."""
    forget, retain = parts["forget"].select(range(25)), parts["retain"].select(range(70))
    arguments = {"per_device_train_batch_size": 16, "num_train_epochs": 1}
    trainer = make("vit", NegGradPlus(), arguments, forget_dataset=forget, retain_dataset=retain)
    seen = record_batches(trainer, monkeypatch)
    trainer.train()
    assert [int((~batch.is_forget).sum()) for batch in seen] == [16, 16, 16, 16, 6]
    assert [int(batch.is_forget.sum()) for batch in seen] == [16] * 5
    shown = torch.cat([batch.position[batch.is_forget] for batch in seen]).tolist()
    cycles = [shown[start : start + 25] for start in range(0, 75, 25)]
    assert [sorted(cycle) for cycle in cycles] == [list(range(25))] * 3
    retained = torch.cat([batch.position[~batch.is_forget] for batch in seen]).tolist()
    assert sorted(retained) == list(range(25, 95))


def test_the_loss_on_forget_rises_under_ascent_and_falls_without(make, parts, processor):
    pixels, labels = pixels_of(parts["forget"], processor)

    def forget_loss_after(alpha):
        trainer = make(trained("vit", processor), NegGradPlus(alpha), {"optim": "sgd", "learning_rate": 3e-3})
        trainer.train()
        with torch.no_grad():
            return [F.cross_entropy(m.eval()(pixels).logits, labels).item() for m in (trainer.teacher, trainer.model)]

    before, after = forget_loss_after(0.3)
    assert after > before + 0.05
    before, after = forget_loss_after(1.0)
    assert after < before


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_an_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must lie between 0 and 1"):
        NegGradPlus(alpha)


@pytest.mark.parametrize(("family", "batch_size"), [("resnet", 128), ("vit", 32)])
def test_default_arguments_are_the_papers_at_small_scale(make, tmp_path, family, batch_size):
    open_arguments = ("learning_rate", "num_train_epochs", "per_device_train_batch_size")
    args = make(family, NegGradPlus(), dict.fromkeys(open_arguments)).args
    given = (args.optim, args.optim_args, args.learning_rate, args.weight_decay, args.num_train_epochs)
    assert given == ("sgd", None, 0.01, 0.0, 10)
    assert (args.per_device_train_batch_size, NegGradPlus().alpha) == (batch_size, 0.95)
