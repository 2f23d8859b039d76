"""What a host waits for its device for: counted on a CPU, where the same operators are called and nobody waits."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Operators whose result, or its shape, the host has to know before it can go on.
ASKING = {
    "_local_scalar_dense", "is_nonzero", "nonzero", "nonzero_numpy", "masked_select", "equal", "bincount", "histc",
    "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave",
}  # fmt: skip
# Of these an index that is a mask.
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
# What copies between host and device; on a CPU it is no operator. `to` only where it names a device, and waits.
_FETCHING = {"cpu", "numpy", "tolist", "__array__", "pin_memory"}
_SENDING = {"tensor", "as_tensor", "from_numpy"}
# Who works on the host alone: the loader's workers, the sampler, and an optimizer's count of its steps.
_HOST = ("torch/utils/data/", "torch/optim/", "hf_lotus/trainer/sampler.py")
# What comes between steps: logging, the borders of rounds, and the one question before a figure is told.
_BETWEEN = {"_maybe_log_save_evaluate", "on_epoch_begin", "on_epoch_end", "ask"}


def _on_the_host() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename.replace("\\", "/")
        if any(part in name for part in _HOST) or frame.f_code.co_name in _BETWEEN:
            return True
        frame = frame.f_back
    return False


def _place() -> str:
    """The file and line that called, the first outside of torch."""
    frame = sys._getframe(1)
    while frame is not None and ("/torch/" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    return "nowhere" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


class _Operators(TorchDispatchMode):
    def __init__(self, found: Counter):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        asks = name in ASKING
        if name in INDEXING:
            asks = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        if name == "_to_copy" and (device := (kwargs or {}).get("device")) is not None:
            asks = torch.device(device) != args[0].device and not kwargs.get("non_blocking")
        if asks and not _on_the_host():
            self.found[f"{name} at {_place()}"] += 1
        return func(*args, **(kwargs or {}))


class _Copies(TorchFunctionMode):
    def __init__(self, found: Counter):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        copies = name in _FETCHING or name in _SENDING
        if name == "to" and not kwargs.get("non_blocking"):
            targets = [*args[1:], kwargs.get("device"), kwargs.get("other")]
            copies = any(isinstance(target, torch.device | str | torch.Tensor) for target in targets)
            # Trainer, and torch's own clipping, send once more what is there already.
            copies = copies and "/hf_lotus/" in sys._getframe(1).f_code.co_filename
        if copies and not _on_the_host():
            self.found[f"{name} at {_place()}"] += 1
        return func(*args, **kwargs)


@contextmanager
def host_reads() -> Iterator[Counter]:
    """Count, in the block, what a host would wait for its device for: "operator at file:line" → times."""
    found: Counter = Counter()
    with _Copies(found), _Operators(found):
        yield found
