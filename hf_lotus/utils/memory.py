"""How much memory there is, and whether something may lie on a device for good."""

from __future__ import annotations

import psutil
import torch

# What is kept on a device takes no more than this share of what is free there: the rest is the step's.
_SHARE = 0.25
# On a CPU nothing is nearer than where it lies already: a copy is made only of what is small.
_SMALL_BYTES = 1 << 26


def fits(num_bytes: int, device: torch.device, asked: bool | None = None) -> bool:
    """Whether so much may be kept on a device for as long as a run lasts.

    Args:
        num_bytes: how much.
        device: where.
        asked: what the user says; None to let the device's free memory decide, of which a quarter may be taken.
    """
    if asked is not None:
        return asked
    if device.type == "cpu":
        return num_bytes <= _SMALL_BYTES
    free = free_bytes(device)
    return free is not None and num_bytes <= _SHARE * free


def unused_bytes(device: torch.device, processes: int = 1) -> int | None:
    """Memory of a device that is not in use; None where it does not tell.

    Args:
        device: the device.
        processes: of how many this one is that use the same memory, where the device is a CPU.
    """
    return psutil.virtual_memory().available // processes if device.type == "cpu" else free_bytes(device)


def free_bytes(device: torch.device) -> int | None:
    """Memory of an accelerator that neither this process nor another has taken; None where it does not tell."""
    if device.type != "cuda":
        return None
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held
