"""MUNBa: the step has one cosine with both gradients, and there is none where they oppose each other."""

import math

import pytest
import torch
import torch.nn.functional as F

from hf_lotus.methods import MUNBa
from hf_lotus.methods.munba import nash_weights
from tests.conftest import TINY_MODELS
from tests.support.method_helpers import equal, loss_inputs, record_batches, trained, weights

PLAIN_SGD = {"optim": "sgd", "learning_rate": 1.0, "weight_decay": 0.0}


def bargain(retain, forget):
    """The step of two gradients, float64, shape (weights,)."""
    norms, product = [retain.norm(), forget.norm()], retain.norm() * forget.norm()
    cosine = (retain @ forget / product) if product > 0 else torch.zeros((), dtype=torch.float64)
    first, second = nash_weights(*norms, cosine)
    return first * retain + second * forget


def vectors(*rows):
    return [torch.tensor(row, dtype=torch.float64) for row in rows]


def cosine_of(first, second):
    return float(first @ second / first.norm() / second.norm())


def test_weights_by_hand():
    # Orthogonal, of lengths 2 and 4: 1/2 and 1/4. Alike: 1/(2√2) and 1/(4√2). At 60 degrees: over √1.5.
    for cosine, root in ((0.0, 1.0), (1.0, math.sqrt(2)), (0.5, math.sqrt(1.5))):
        given = torch.tensor([2.0, 4.0, cosine], dtype=torch.float64)
        assert [float(w) for w in nash_weights(*given)] == pytest.approx([0.5 / root, 0.25 / root], rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_weights_solve_the_bargain(seed):
    """Nash: G'G α = 1/α, of which the closed form is the solution (paper, Theorem 3.2)."""
    generator = torch.Generator().manual_seed(seed)
    sides = torch.randn(2, 6, generator=generator, dtype=torch.float64) * torch.tensor([[3.0], [0.01]])
    retain, forget = sides.unbind()
    alpha = torch.stack(nash_weights(retain.norm(), forget.norm(), F.cosine_similarity(retain, forget, dim=0)))
    torch.testing.assert_close(sides @ sides.T @ alpha, 1 / alpha, rtol=1e-9, atol=0)


@pytest.mark.parametrize("angle", [1e-3, 0.5, math.pi / 2, 2.5, 3.1])
@pytest.mark.parametrize("lengths", [(1.0, 1.0), (1e-6, 1e4)])
def test_the_step_is_as_near_to_one_gradient_as_to_the_other_and_of_length_root_two(angle, lengths):
    retain, forget = vectors([lengths[0], 0.0], [lengths[1] * math.cos(angle), lengths[1] * math.sin(angle)])
    step = bargain(retain, forget)
    assert cosine_of(step, retain) == pytest.approx(cosine_of(step, forget), rel=1e-6)
    assert cosine_of(step, retain) == pytest.approx(math.sqrt((1 + math.cos(angle)) / 2), rel=1e-6)
    assert float(step.norm()) == pytest.approx(math.sqrt(2), rel=1e-6)


def test_where_the_gradients_oppose_each_other_no_step_is_taken():
    for length in (1.0, 1e-3, 1e3):
        assert bargain(*vectors([1.0, 2.0], [-length, -2 * length])).tolist() == [0.0, 0.0]
    # Not yet there: a step that gains a little for both.
    retain, forget = vectors([1.0, 0.0], [-1.0, 0.01])
    step = bargain(retain, forget)
    assert float(step @ retain) > 0 and float(step @ forget) > 0


def test_where_one_gradient_is_zero_the_step_is_along_the_other():
    assert bargain(*vectors([0.0, 0.0], [3.0, 4.0])).tolist() == pytest.approx([0.6, 0.8])
    assert bargain(*vectors([3.0, 4.0], [0.0, 0.0])).tolist() == pytest.approx([0.6, 0.8])
    assert bargain(*vectors([0.0, 0.0], [0.0, 0.0])).tolist() == [0.0, 0.0]


def test_orthogonal_gradients_are_no_edge():
    """The authors' own form divides by their inner product."""
    for product in (0.0, 1e-12, -1e-12):
        step = bargain(*vectors([1.0, 0.0], [product, 1.0]))
        assert step.tolist() == pytest.approx([1.0, 1.0], rel=1e-6)


def relabelled(method, batch, round_index=0):
    """The labels that the method gives the forget samples of a recorded batch: those of the least loss."""
    method_state = method.prepare(type("Run", (), {"seed": 1, "num_forget": 60}))
    found = torch.empty_like(batch.labels)
    for label in range(10):
        logits = 30.0 * F.one_hot(torch.full_like(batch.labels, label), 10)
        values = {"positions": batch.position, "state": method_state, "round_index": round_index}
        found[method.loss(loss_inputs(logits, batch.labels, batch.is_forget, **values)) < 1] = label
    return found


def gradients(values, batch, labels, family):
    """Of the mean cross-entropy on each side in a forward pass of its own, flat, float64."""
    model = TINY_MODELS[family]().train()
    model.load_state_dict(values)
    found = []
    for chosen in (~batch.is_forget, batch.is_forget):
        loss = F.cross_entropy(model(batch.pixel_values[chosen]).logits, labels[chosen])
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).double())
    return found


def flat_step(before, after, model):
    return torch.cat([(before[n] - after[n]).flatten() for n, _ in model.named_parameters()]).double()


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_a_training_step_is_the_bargain_of_the_two_sides_gradients(make, processor, monkeypatch, family):
    """Each side in a forward pass of its own, with BatchNorm's statistics of its own; the cosines are equal."""
    trainer = make(trained(family, processor), MUNBa(), {**PLAIN_SGD, "max_steps": 1})
    before, compute, shown = weights(trainer.model), trainer.compute_loss, []
    monkeypatch.setattr(trainer, "compute_loss", lambda model, inputs, *a, **k: (
        shown.append({n: v.clone() for n, v in inputs.items()}), compute(model, inputs, *a, **k))[1])  # fmt: skip
    trainer.train()
    assert [bool(each["is_forget"].any()) for each in shown] == [False, True]
    both = {name: torch.cat([each[name] for each in shown]) for name in shown[0]}
    batch = type("Batch", (), both)
    labels = relabelled(trainer.method, batch)
    assert torch.equal(labels[~batch.is_forget], batch.labels[~batch.is_forget])
    assert (labels[batch.is_forget] != batch.labels[batch.is_forget]).float().mean() > 0.5
    retain, forget = gradients(before, batch, labels, family)
    step = flat_step(before, weights(trainer.model), trainer.model)
    torch.testing.assert_close(step, bargain(retain, forget), rtol=0, atol=2e-6)
    assert cosine_of(step, retain) == pytest.approx(cosine_of(step, forget), abs=1e-4)
    assert float(step.norm()) == pytest.approx(math.sqrt(2), rel=1e-4)


def test_with_batch_norm_the_statistics_take_in_one_side_after_the_other(make, processor):
    from transformers import ResNetForImageClassification

    trainer = make(trained("resnet", processor), MUNBa(), {**PLAIN_SGD, "max_steps": 1})
    before = dict(trainer.model.named_buffers())
    counted = next(name for name in before if name.endswith("num_batches_tracked"))
    number = int(before[counted])
    trainer.train()
    assert isinstance(trainer.model, ResNetForImageClassification)
    assert int(dict(trainer.model.named_buffers())[counted]) == number + 2


def test_a_side_of_one_sample_does_not_break_batch_norm(make, parts):
    """Batches of 32 and one forget sample: it is shown beside the others, and its loss alone counts."""
    trainer = make("resnet", MUNBa(), {"max_steps": 2}, forget_dataset=parts["forget"].select(range(1)))
    before = weights(trainer.model)
    trainer.train()
    assert not equal(before, weights(trainer.model))
    assert all(torch.isfinite(value).all() for value in weights(trainer.model).values())


def test_forget_labels_are_those_of_random_labels_anew_every_round(make, monkeypatch):
    trainer = make("vit", MUNBa())
    seen = record_batches(trainer, monkeypatch)
    trainer.train()
    halves = [batch for batch in seen if batch.is_forget.all()]
    method = trainer.method
    per_round = len(halves) // 2
    first, second = {}, {}
    for index, batch in enumerate(halves):
        into = first if index < per_round else second
        into |= dict(zip(batch.position.tolist(), relabelled(method, batch, index // per_round).tolist(), strict=True))
    shared = first.keys() & second.keys()
    assert len(shared) > 30 and sum(first[p] != second[p] for p in shared) > len(shared) / 2


def test_opposed_sides_leave_the_model_as_it_is(make, parts, monkeypatch):
    """The forget set is retained too, and its loss turned round: g_f = −g_r."""
    from hf_lotus.methods.base import GradientMethod

    class Opposed(MUNBa):
        def loss(self, inputs):
            loss = F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")
            return torch.where(inputs.is_forget, -loss, loss)

    assert issubclass(Opposed, GradientMethod)
    arguments = {**PLAIN_SGD, "per_device_train_batch_size": 256, "max_steps": 1}
    trainer = make("vit", Opposed(), arguments)
    monkeypatch.setattr(trainer.train_dataset, "retain", trainer.train_dataset.forget)
    monkeypatch.setattr(trainer.train_dataset, "retain_rows", trainer.train_dataset.forget_rows)
    before = weights(trainer.model)
    trainer.train()
    assert trainer.state.global_step == 1
    assert equal(before, weights(trainer.model))
