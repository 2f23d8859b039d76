"""Work of a device that is recorded once and done again with one call, and what keeps it from being recorded."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

Result = TypeVar("Result")
# What torch says under `set_sync_debug_mode("warn")` of each operator that the host waits for, and once of the mode.
_WAITS, _NOTICE = "synchronizing CUDA operation", "Synchronization debug mode"
# transformers' own hooks do nothing but where hidden states or attentions are asked for, which nobody here does.
_IDLE = "transformers.utils.output_capturing"


class Graph(Protocol):
    """Work that is recorded once and then done again, on the same memory, as often as it is asked for."""

    def record(self, work: Callable[[], Result]) -> Result:
        """Record what the device would do in `work`, without doing it.

        Returns:
            what `work` returns; the tensors in it have values only after `replay`, which writes to them each time.
        """

    def replay(self) -> None:
        """Do it."""


class DeviceGraph:
    """A `torch.cuda.CUDAGraph`.

    Noise is what it would have been without it: a graph does not hold random numbers, but reads seed and offset from
    memory that a replay fills from its generators as they then are ("graphed execution is bitwise identical to eager
    execution", Note [CUDA Graph-safe RNG states] in ATen/cuda/CUDAGeneratorImpl.h). So a generator may be seeded anew
    before a replay, outside. The default generator is known to every graph; others have to be told.

    Args:
        device: of the work.
        generators: sources of noise on the device that the work draws from, besides the default one.
        beside: graphs whose memory this one may use for what it makes and needs no longer. None of them may run at
            the same time.
    """

    def __init__(
        self,
        device: torch.device,
        generators: Sequence[torch.Generator] = (),
        beside: Sequence[DeviceGraph] = (),
    ):
        self._device, self._graph = device, torch.cuda.CUDAGraph()
        for generator in generators:
            self._graph.register_generator_state(generator)
        self._pool = beside[0]._graph.pool() if beside else None

    def record(self, work: Callable[[], Result]) -> Result:
        """As in `Graph`."""
        # "thread_local": a loader's thread that pins memory meanwhile is none of the graph's business.
        with (
            torch.cuda.device(self._device),
            torch.cuda.graph(self._graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            return work()

    def replay(self) -> None:
        """As in `Graph`; on the current stream, after all that was called before."""
        self._graph.replay()


@contextmanager
def watching_host(device: torch.device) -> Iterator[list[str]]:
    """Tell, after the block, what the host did in it that a replay would leave out: draw numbers, or wait.

    Args:
        device: of the work.

    Yields:
        what speaks against recording the work, each as the end of "a step …"; empty until the block is over.
    """
    found: list[str] = []
    before = _host_states(device)
    with _waiting(device) as waits:
        yield found
    if before != _host_states(device):
        found.append("draws random numbers on the host, which a replay would not draw again")
    if waits:
        found.append(f"has the host wait for the device ({waits[0]})")


def _host_states(device: torch.device) -> list[object]:
    """The states of the sources that draw on the host, in a form that can be compared."""
    # In words, as arrays are not told apart by `==`; the place in the array, which every draw moves, is among them.
    states: list[object] = [random.getstate(), str(np.random.get_state(legacy=False))]
    if device.type != "cpu":  # else it is the device's own
        states.append(torch.default_generator.get_state().numpy().tobytes())
    return states


@contextmanager
def _waiting(device: torch.device) -> Iterator[list[str]]:
    """Catch what torch says of operators for which the host waits; other warnings pass."""
    if device.type != "cuda":
        yield []
        return
    waits: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for one in caught:
        if _WAITS in str(one.message):
            waits.append(f"{one.filename}:{one.lineno}")
        elif _NOTICE not in str(one.message):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def layout_of(batch: Mapping[str, Any]) -> Hashable | None:
    """What tells batches apart that one graph cannot take; None where something is no tensor."""
    if not all(isinstance(value, Tensor) for value in batch.values()):
        return None
    return tuple((name, value.shape, value.dtype, value.stride(), value.device) for name, value in batch.items())


def refill(held: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> None:
    """Put a batch where a graph reads its own."""
    for name, place in held.items():
        place.copy_(batch[name], non_blocking=True)


def hooks_of(model: nn.Module, besides_top: bool = False) -> list[object]:
    """The hooks on a model, its modules and its parameters that a replay would not call.

    Args:
        model: the model.
        besides_top: leave out those of the model itself on its forward pass, which are called where that pass alone
            is recorded.
    """
    found: list[object] = []
    for module in model.modules():
        kinds: list[Mapping[int, object]] = [module._backward_hooks, module._backward_pre_hooks]
        if module is not model or not besides_top:
            kinds += [module._forward_hooks, module._forward_pre_hooks]
        found += [hook for kind in kinds for hook in kind.values()]
    for parameter in model.parameters():
        for name in ("_backward_hooks", "_post_accumulate_grad_hooks"):
            found += (getattr(parameter, name, None) or {}).values()
    if _has_any_global_hook():
        found.append("a hook on all modules")
    return [hook for hook in found if getattr(hook, "__module__", None) != _IDLE]
