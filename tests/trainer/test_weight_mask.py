"""Weights that are held still: against momentum, weight decay and Adam's state."""

import copy

import pytest
import torch

from hf_lotus.trainer.weight_mask import WeightMask

MASK = {"weight": torch.tensor([[True, False, True], [False, False, True]])}


def model_of(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Linear(3, 2)


def take_steps(model, optimizer, steps=5, mask=None, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, generator=generator)).square().sum().backward()
        if mask is not None:
            mask.still()
        optimizer.step()
        if mask is not None:
            mask.restore()


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=0.1),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1),
}


def test_gradients_of_held_weights_are_zero_and_the_others_as_they_were():
    free, model = model_of(), model_of()
    mask = WeightMask(model, MASK, copy.deepcopy(model))
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    for each in (free, model):
        each(inputs).square().sum().backward()
    mask.still()
    assert torch.equal(model.weight.grad, torch.where(MASK["weight"], free.weight.grad, 0.0))
    assert free.weight.grad.count_nonzero() == 6 and free.bias.grad.count_nonzero() == 2
    assert model.bias.grad.tolist() == [0.0, 0.0]  # not named: held whole


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_held_weights_stay_bit_identical_and_the_others_move(name):
    model = model_of()
    original = copy.deepcopy(model)
    optimizer = OPTIMIZERS[name](model.parameters())
    take_steps(model, optimizer, mask=WeightMask(model, MASK, original))
    assert torch.equal(model.weight != original.weight, MASK["weight"])
    assert torch.equal(model.bias, original.bias)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zero_gradients_alone_would_not_hold_them(name):
    """Weight decay moves what has no gradient, which is why `restore` follows every step."""
    model = model_of()
    original = copy.deepcopy(model)
    mask = WeightMask(model, MASK, original)
    take_steps(model, OPTIMIZERS[name](model.parameters()))
    assert (model.weight != original.weight).all()
    mask.restore()
    assert torch.equal(model.weight != original.weight, MASK["weight"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizers_memory_from_before_does_not_move_them(name):
    model = model_of()
    optimizer = OPTIMIZERS[name](model.parameters())
    take_steps(model, optimizer)
    original = copy.deepcopy(model)
    take_steps(model, optimizer, mask=WeightMask(model, MASK, original))
    assert torch.equal(model.weight != original.weight, MASK["weight"])


def test_the_movable_weights_move_as_they_would_alone():
    """Plain descent on the movable weights by hand: w ← w − lr · gradient, the held ones constant."""
    model, original = model_of(), model_of()
    inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    mask = WeightMask(model, MASK, original)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected, bias = original.weight.detach().double(), original.bias.detach().double()
    for _ in range(3):
        gradient = 2 * (inputs.double() @ expected.T + bias).T @ inputs.double()
        expected = torch.where(MASK["weight"], expected - 0.1 * gradient, expected)
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()
        mask.restore()
    torch.testing.assert_close(model.weight.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_it_holds_the_bits_of_what_is_no_number_or_minus_zero_in_any_precision(dtype):
    model = torch.nn.Linear(4, 1, bias=False, dtype=dtype)
    given = torch.tensor([[-0.0, 1.5, -0.0, 2.5]], dtype=dtype)
    original = copy.deepcopy(model)
    for each in (model, original):
        each.weight.data = given.clone()
    mask = WeightMask(model, {"weight": torch.tensor([[False, False, True, True]])}, original)
    model.weight.data = torch.tensor([[3.0, float("nan"), -0.0, float("inf")]], dtype=dtype)
    model.weight.grad = torch.tensor([[float("nan"), -1.0, -0.0, -1.0]], dtype=dtype)
    mask.still()
    mask.restore()
    assert model.weight.detach().tolist() == [[-0.0, 1.5, -0.0, float("inf")]]
    assert model.weight.detach().signbit().tolist() == [[True, False, True, False]]
    assert model.weight.grad.tolist() == [[0.0, 0.0, -0.0, -1.0]]


def test_let_go_every_weight_moves_again():
    model, free = model_of(), model_of()
    mask = WeightMask(model, MASK, copy.deepcopy(model))
    mask.hold(False)
    for each in (model, free):
        take_steps(each, OPTIMIZERS["sgd"](each.parameters()), mask=mask if each is model else None)
    assert torch.equal(model.weight, free.weight) and torch.equal(model.bias, free.bias)


@pytest.mark.parametrize(
    "mask", [{"head": torch.ones(2, dtype=torch.bool)}, {"weight": torch.ones(6, dtype=torch.bool)}]
)
def test_a_mask_of_another_name_or_shape_is_refused(mask):
    with pytest.raises(ValueError, match=f"{next(iter(mask))!r} of shape .* which the model has not"):
        WeightMask(model_of(), mask, model_of())


def test_a_mask_of_a_frozen_parameter_is_refused_and_without_it_nothing_of_it_is_held():
    model = model_of()
    model.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="'weight' of shape"):
        WeightMask(model, MASK, model_of())
    mask = WeightMask(model, {"bias": torch.tensor([True, False])}, model_of(seed=3))
    frozen = model.weight.clone()
    mask.restore()
    assert torch.equal(model.weight, frozen)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_can_be_held_for_some_steps_at_what_they_are_then(name):
    model = model_of()
    mask = WeightMask(model, MASK, None)
    optimizer = OPTIMIZERS[name](model.parameters())
    for masked in (False, True, True, False, True):
        before = copy.deepcopy(model)
        mask.hold(masked)
        take_steps(model, optimizer, steps=1, mask=mask)
        moved = model.weight != before.weight
        assert torch.equal(moved, MASK["weight"]) if masked else moved.all()
        assert torch.equal(model.bias, before.bias) == masked


def test_gradients_are_whole_while_nothing_is_held():
    free, model = model_of(), model_of()
    mask = WeightMask(model, MASK, None)
    assert not mask.holds
    for each in (free, model):
        each(torch.ones(1, 3)).square().sum().backward()
    mask.still()
    assert torch.equal(model.weight.grad, free.weight.grad) and torch.equal(model.bias.grad, free.bias.grad)
