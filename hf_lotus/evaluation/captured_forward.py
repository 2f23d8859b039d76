"""A model's forward passes over a split by one graph: what is of no use to the host is not called by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_lotus.utils.graphs import DeviceGraph, Graph, hooks_of, layout_of, refill, watching_host

# To record a pass takes as long as a few passes do: with fewer whole batches than these it is not worth it.
_WORTH = 8


def why_not_replayed(model: nn.Module, device: torch.device, batches: int) -> str | None:
    """Why a model's passes over a split are not recorded, as a sentence without its full stop; None where they are.

    Args:
        model: in eval mode.
        device: where it is.
        batches: whole batches of one shape.
    """
    if device.type != "cuda":
        return f"the device is {device.type!r}, and graphs are of CUDA devices"
    if batches < _WORTH:
        return f"there are {batches} whole batches, and from {_WORTH} on it is worth it"
    if hasattr(model, "_orig_mod"):
        return "torch.compile makes graphs of its own"
    if hooks_of(model, besides_top=True):
        return "a part of the model has a hook, which a replay would not call"
    return None


@contextmanager
def replayed_forward(
    model: nn.Module, device: torch.device, batches: int, asked: bool = True, make: Callable[..., Graph] | None = None
) -> Iterator[bool]:
    """Have `model` pass whole batches by a graph within the block, where it can be.

    Its `forward` alone is recorded: hooks on the model itself, which count what passes, are called as ever. The first
    batch passes as ever, as does the second, in which it is watched whether the host draws or waits; and so does a
    last batch of another shape.

    Args:
        model: in eval mode, and without gradient.
        device: where it is.
        batches: whole batches of one shape.
        asked: False to leave the model as it is.
        make: makes a `Graph`; `DeviceGraph` if None.

    Yields:
        whether outputs may lie where the next pass writes its own: they are then to be copied before it.
    """
    if not asked or why_not_replayed(model, device, batches) is not None:
        yield False
        return
    plain, is_own = model.forward, "forward" in vars(model)
    model.forward = _Replayed(plain, device, make or DeviceGraph)
    try:
        yield True
    finally:
        if is_own:
            model.forward = plain
        else:
            del model.forward


class _Replayed:
    """A `forward`: replayed from the third batch of the first one's shape on."""

    def __init__(self, plain: Callable[..., Any], device: torch.device, make: Callable[..., Graph]):
        self._plain, self._device, self._make = plain, device, make
        self._kind: object = None
        self._taken, self._may = 0, True
        self._graph: Graph | None = None
        self._inputs: dict[str, Tensor] = {}
        self._output: object = None

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        kind = layout_of(inputs)
        self._kind = kind if self._kind is None else self._kind
        if args or not self._may or kind is None or kind != self._kind:
            return self._plain(*args, **inputs)
        self._taken += 1
        if self._taken == 1:
            return self._plain(**inputs)
        if self._taken == 2:
            with watching_host(self._device) as found:
                output = self._plain(**inputs)
            self._may = not found
            return output
        if self._graph is None:
            self._inputs = {name: value.clone() for name, value in inputs.items()}
            self._graph = self._make(self._device)
            self._output = self._graph.record(lambda: self._plain(**self._inputs))
        refill(self._inputs, inputs)
        self._graph.replay()
        return self._output
