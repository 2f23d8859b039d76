"""A graph for machines without CUDA: it records the operators that are called, and calls them on the same memory.

Like a CUDA graph it leaves no trace of the recording, runs none of the Python in between again, keeps numbers that the
host had as they were, draws anew from generators, and refuses what the host would have to wait for.
"""

from __future__ import annotations

import torch
from host_reads import ASKING, INDEXING
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


class RecordedGraph:
    """As `hf_lotus.utils.graphs.DeviceGraph`, on a CPU; it counts its replays.

    Args:
        device: of the work.
        generators: sources of noise that the work draws from, besides the default one.
        beside: of no use here.
    """

    def __init__(self, device, generators=(), beside=()):
        self.generators, self.replays = [torch.default_generator, *generators], 0
        self.calls: list[tuple] = []

    def record(self, work):
        states = [generator.get_state() for generator in self.generators]
        with _Recorder(self.calls) as recorder:
            result = work()
        recorder.leave_no_trace()
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)
        return result

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for operator, args, kwargs, outputs in self.calls:
            made = operator(*args, **kwargs)
            given = {_storage(tensor) for tensor in _tensors((args, kwargs))}
            for held, value in zip(_tensors(outputs), _tensors(made), strict=True):
                if _storage(held) not in given:  # else it was written to in place, or is a view
                    held.copy_(value)


class _Recorder(TorchDispatchMode):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls
        # Memory from outside → what it held before; memory that the work made itself.
        self.before: dict[int, tuple] = {}
        self.own: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = name in INDEXING and any(one is not None and one.dtype == torch.bool for one in args[1])
        if name in ASKING or masks:
            raise RuntimeError(f"{name} is not permitted while a graph is recorded: the host would have to wait.")
        given = _held((args, kwargs or {}))
        for tensor in _tensors(given):
            place = _storage(tensor)
            if place not in self.own and place not in self.before:
                self.before[place] = tensor.untyped_storage(), tensor.untyped_storage().clone()
        made = func(*args, **(kwargs or {}))
        self.own |= {_storage(tensor) for tensor in _tensors(made)} - self.before.keys()
        self.calls.append((func, *given, _held(made)))
        return made

    def leave_no_trace(self):
        for storage, content in self.before.values():
            storage.copy_(content)


def _held(values):
    """The same memory, without what autograd knows of it."""
    return tree_map_only(torch.Tensor, torch.Tensor.detach, values)


def _tensors(values):
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def _storage(tensor):
    return tensor.untyped_storage().data_ptr()
