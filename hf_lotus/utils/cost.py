"""What a process has cost so far: time, processor time and memory."""

from __future__ import annotations

import sys
import time

import psutil
import torch

_MIB = 1 << 20


def process_cost() -> dict[str, float]:
    """What this process has taken since it was started, as JSON values.

    Returns:
        `seconds`: wall time; `cpu_seconds`: user and system time, that of its ended children (loader workers)
        included; `peak_memory_mib`: the most memory that it had resident, theirs left out; and on a GPU
        `device_peak_memory_mib`: the most that torch had taken there for tensors.
    """
    process = psutil.Process()
    times = process.cpu_times()
    cpu = times.user + times.system + getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    cost = {
        "seconds": round(time.time() - process.create_time(), 1),
        "cpu_seconds": round(cpu, 1),
        "peak_memory_mib": round(peak_memory() / _MIB, 1),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        cost["device_peak_memory_mib"] = round(torch.cuda.max_memory_allocated() / _MIB, 1)
    return cost


def peak_memory() -> int:
    """The most bytes that this process has had resident."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
