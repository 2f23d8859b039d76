"""The gradients of two sides, summed apart over batches, and the one that they agree on."""

import pytest
import torch
from accelerate import Accelerator

from hf_lotus.methods.munba import nash_weights
from hf_lotus.trainer.side_gradients import SideGradients


@pytest.fixture
def parameters():
    return [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(3))]


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


def give(parameters, *values):
    for parameter, value in zip(parameters, values, strict=False):
        parameter.grad = None if value is None else torch.tensor(value)


def test_what_a_bargain_is_told_by_hand(parameters, accelerator):
    """Retain (3, 0 | 4), in two batches; forget (0, 0 | 2), in one; the third is in neither."""
    told = []
    sides = SideGradients(iter(parameters))
    give(parameters, [1.0, 0.0], [4.0])
    sides.take("retain")
    assert all(parameter.grad is None for parameter in parameters)
    give(parameters, [0.0, 0.0], [2.0])
    sides.take("forget")
    give(parameters, [2.0, 0.0], None)
    sides.take("retain")

    def bargain(retain, forget, cosine):
        told.extend(float(value) for value in (retain, forget, cosine))
        return torch.tensor(2.0, dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)

    sides.agree(bargain, accelerator)
    assert told == pytest.approx([5.0, 2.0, 0.8])
    assert [parameter.grad.tolist() for parameter in parameters] == [[6.0, 0.0], [6.0], [0.0, 0.0, 0.0]]
    assert parameters[0].grad.dtype == torch.float32


def test_the_next_step_begins_anew(parameters, accelerator):
    sides = SideGradients(iter(parameters))
    for _ in range(2):
        for side, value in (("retain", [1.0, 0.0]), ("forget", [0.0, 1.0])):
            give(parameters, value)
            sides.take(side)
        sides.agree(nash_weights, accelerator)
        assert parameters[0].grad.tolist() == pytest.approx([1.0, 1.0])


def test_a_side_without_a_batch_has_no_gradient(parameters, accelerator):
    sides = SideGradients(iter(parameters))
    give(parameters, [0.0, 4.0])
    sides.take("retain")
    sides.agree(nash_weights, accelerator)
    assert parameters[0].grad.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("scale", [1.0, 1024.0, 65536.0])
def test_scaled_gradients_agree_on_the_scaled_step(parameters, accelerator, scale):
    """As half precision has them, whose scaler divides by its factor afterwards."""
    sides = SideGradients(iter(parameters))
    for side, value in (("retain", [3.0, 0.0]), ("forget", [0.0, 0.1])):
        give(parameters, [scale * one for one in value])
        sides.take(side)
    sides.agree(nash_weights, accelerator, scale)
    assert (parameters[0].grad / scale).tolist() == pytest.approx([1.0, 1.0])


def test_gradients_that_are_not_finite_do_not_become_so(parameters, accelerator):
    """The scaler of half precision then leaves the step out."""
    sides = SideGradients(iter(parameters))
    for side, value in (("retain", [float("inf"), 0.0]), ("forget", [0.0, 1.0])):
        give(parameters, value)
        sides.take(side)
    sides.agree(nash_weights, accelerator, 1024.0)
    assert not torch.isfinite(parameters[0].grad).all()
