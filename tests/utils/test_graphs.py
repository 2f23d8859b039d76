"""What keeps work from being recorded: draws and waits of the host, and hooks."""

from __future__ import annotations

import random
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from hf_lotus.utils import graphs
from hf_lotus.utils.graphs import DeviceGraph, hooks_of, watching_host
from tests.support.recorded_graph import RecordedGraph

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    "draw",
    [random.random, np.random.rand, np.random.randn, lambda: np.random.permutation(3)],
    ids=["random", "rand", "randn", "permutation"],
)
def test_draws_of_the_host_are_seen(draw):
    np.random.seed(0)
    np.random.randn()  # the next one is at hand, and moves nothing but a flag
    with watching_host(CPU) as found:
        draw()
    (reason,) = found
    assert "draws random numbers on the host" in reason


def test_draws_of_the_device_are_not(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    with watching_host(CPU) as found:
        torch.rand(3)
        torch.rand(3, generator=generator)
    assert not found
    monkeypatch.setattr(graphs, "_waiting", lambda device: nullcontext([]))  # there is no GPU to tell
    with watching_host(GPU) as found:
        torch.rand(3)  # where the step is a GPU's, it is the host's draw
    assert len(found) == 1 and "draws random numbers on the host" in found[0]


class Mode:
    """torch's way to tell what the host waits for."""

    value = 0

    def get(self):
        return self.value

    def set(self, value):
        self.value = value


def test_waits_are_told_and_other_warnings_pass(monkeypatch):
    mode = Mode()
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", mode.get)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", mode.set)
    with pytest.warns(UserWarning, match="^another$") as passed, watching_host(GPU) as found:
        assert mode.value == "warn"
        warnings.warn("called a synchronizing CUDA operation (Triggered internally)", UserWarning, stacklevel=1)
        warnings.warn("Synchronization debug mode is a prototype feature", UserWarning, stacklevel=1)
        warnings.warn("another", UserWarning, stacklevel=1)
    assert mode.value == 0 and len(passed) == 1
    (reason,) = found
    assert "has the host wait for the device" in reason and "test_graphs.py" in reason


def test_the_mode_is_put_back_after_an_error(monkeypatch):
    mode = Mode()
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", mode.get)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", mode.set)
    with pytest.raises(ZeroDivisionError), watching_host(GPU):
        1 / 0  # noqa: B018
    assert mode.value == 0


def test_hooks_of_the_model_itself_and_of_its_parts():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert not hooks_of(model)
    on_top = model.register_forward_hook(print)
    assert hooks_of(model) == [print] and not hooks_of(model, besides_top=True)
    on_top.remove()
    model[1].register_forward_pre_hook(print)
    model[0].weight.register_hook(print)
    assert hooks_of(model) == hooks_of(model, besides_top=True) == [print, print]


class TestTheGraphThatStandsIn:
    """Else tests with it would prove nothing."""

    def test_recording_leaves_no_trace_and_a_replay_draws_anew(self):
        generator, total = torch.Generator(), torch.zeros(2)
        graph = RecordedGraph(CPU, [generator])

        def work():
            return total.add_(torch.rand(2, generator=generator)).clone()

        generator.manual_seed(3)
        result = graph.record(work)
        assert torch.equal(total, torch.zeros(2))
        draws = [torch.rand(2, generator=torch.Generator().manual_seed(seed)) for seed in (3, 5)]
        graph.replay()
        assert torch.equal(result, draws[0])
        generator.manual_seed(5)
        graph.replay()
        assert torch.equal(result, draws[0] + draws[1]) and torch.equal(total, result)

    def test_numbers_of_the_host_stay_what_they_were(self):
        scale, graph, given = [2.0], RecordedGraph(CPU), torch.ones(2)
        result = graph.record(lambda: given * scale[0])
        scale[0] = 3.0
        given.fill_(5.0)
        graph.replay()
        assert result.tolist() == [10.0, 10.0]

    def test_gradients_are_written_anew_in_their_place(self):
        weight, graph, given = nn.Parameter(torch.ones(2)), RecordedGraph(CPU), torch.ones(2)
        graph.record(lambda: (weight * given).sum().backward())
        gradient = weight.grad
        for value in (3.0, 7.0):
            given.fill_(value)
            graph.replay()
            assert weight.grad is gradient and gradient.tolist() == [value, value]

    @pytest.mark.parametrize("ask", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.nonzero()])
    def test_what_the_host_would_wait_for_is_refused(self, ask):
        with pytest.raises(RuntimeError, match="not permitted while a graph is recorded"):
            RecordedGraph(CPU).record(lambda: ask(torch.ones(2)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and there is none")
class TestTheRealGraph:
    def test_a_replay_draws_what_a_step_would(self):
        generator, total = torch.Generator(GPU), torch.zeros(1000, device=GPU)
        torch.empty_like(total).exponential_(generator=generator)  # as a step before it
        graph = DeviceGraph(GPU, [generator])

        def work():
            own = torch.empty_like(total).exponential_(generator=generator)
            return total.add_(own + torch.rand(1000, device=GPU)).clone()

        def seed(value):
            generator.manual_seed(value)
            torch.manual_seed(value)

        seed(3)
        result = graph.record(work)
        assert torch.equal(total, torch.zeros_like(total))
        found = []
        for value in (3, 5, 3):
            seed(value)
            graph.replay()
            found.append(result.clone())
        total.zero_()
        expected = []
        for value in (3, 5, 3):
            seed(value)
            expected.append(work())
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)

    def test_a_wait_is_told_and_an_ordinary_step_is_not(self):
        values = torch.ones(3, device=GPU)
        with watching_host(torch.device(GPU)) as found:
            (values * 2).sum()
        assert not found
        with watching_host(torch.device(GPU)) as found:
            values.sum().item()
        assert "has the host wait" in found[0]
