"""The model whole on every device (DDP), where a division was asked for that the method cannot have.

Decided before an `Accelerator` is made. accelerate is asked to divide by variables of the launcher or by the training
arguments, and keeps in one state for all runs of a process what it made of that: all of it is put in agreement here.
"""

from __future__ import annotations

import os

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import nn
from transformers.utils import logging

from hf_lotus.methods import METHODS, UnlearningMethod, WeightEdit, name_of
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.sharding import check_fsdp, check_zero_stage, needs_whole
from hf_lotus.utils.memory import unused_bytes

logger = logging.get_logger(__name__)

# What is known in advance may take so much of the unused memory; the rest is for what a batch leaves behind.
_SHARE = 0.8
# Values that an optimizer keeps for each that it trains; two where its name does not tell.
_STATES = {"sgd": 1, "adafactor": 1, "lion": 1, "rmsprop": 1}


def settle_division(model: nn.Module, args: UnlearningArguments, method: UnlearningMethod) -> bool:
    """Have accelerate divide the model as it is asked to, or leave it whole where the method needs that and it fits.

    The Accelerator of a run that is to be whole must then be made `unasked`, and so must the run be.

    Args:
        model: to unlearn, whole.
        args: of the run alone; what asks to divide is taken out of them where the model is to be whole.
        method: the unlearning method.

    Returns:
        whether the model is whole where it was asked to be divided.

    Raises:
        ValueError: if the method needs the model whole and it does not fit, or the rank has not all of it.
    """
    asked = _asked(args)
    if asked is None:
        return False
    why = needs_whole(method)
    if why is None:
        _agree(asked)
        return False
    what = _check_loaded(asked, args)
    needed, unused = whole_bytes(model, args, method), _unused(model, args.device)
    if unused is None or needed > _SHARE * unused:
        raise ValueError(_refusal(method, what, why, needed, unused))
    if args.process_index == 0:
        logger.warning(
            f"{name_of(method)} does not go with {what}: it {why}. In its place every device has the model whole, as "
            f"by --accelerate_config ddp: about {_gib(needed)} beside what a batch takes, of {_gib(unused)} unused."
        )
    args.fsdp, args.fsdp_plugin_args, args.deepspeed, args.deepspeed_plugin = False, None, None, None
    _agree(_whole_on(args.device))
    return True


def whole_bytes(model: nn.Module, args: UnlearningArguments, method: UnlearningMethod) -> int:
    """What a run takes on each device for the weights, in bytes; not what a batch takes.

    Student and original; gradients and what they are averaged in; the optimizer's states, or the importances of all
    weights twice, of a method that takes no steps.

    Args:
        model: to unlearn.
        args: with the optimizer.
        method: the unlearning method.
    """
    everything = sum(value.nbytes for value in (*model.parameters(), *model.buffers()))
    trained = sum(value.nbytes for value in model.parameters() if value.requires_grad)
    optim = str(getattr(args.optim, "value", args.optim))
    states = next((count for name, count in _STATES.items() if name in optim), 2)
    return 2 * everything + (2 + (2 if isinstance(method, WeightEdit) else states)) * trained


def _asked(args: UnlearningArguments) -> DistributedType | None:
    """How accelerate would divide the model; None where it would not, as on CPUs."""
    kind = args.distributed_state.distributed_type if args.distributed_state is not None else DistributedType.NO
    if kind in (DistributedType.NO, DistributedType.MULTI_CPU):
        return None
    if kind == DistributedType.DEEPSPEED or args.deepspeed_plugin is not None:
        return DistributedType.DEEPSPEED
    launched = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return DistributedType.FSDP if launched or args.fsdp_plugin_args is not None else None


def _check_loaded(asked: DistributedType, args: UnlearningArguments) -> str:
    """What would divide the model, in words; raises where the weights are not all there to begin with."""
    if asked == DistributedType.DEEPSPEED:
        check_zero_stage(args.deepspeed_plugin)
        return "DeepSpeed"
    check_fsdp(FullyShardedDataParallelPlugin(**(args.fsdp_plugin_args or {})))
    return "FSDP"


def _agree(wanted: DistributedType) -> None:
    """Have accelerate's state made anew where an earlier run of this process left another kind."""
    if AcceleratorState._shared_state.get("distributed_type", wanted) != wanted:
        AcceleratorState._reset_state()
    if not AcceleratorState._shared_state:
        state = PartialState()
        # FSDP is what an Accelerator makes of several devices, by the variables and arguments.
        kind = _whole_on(state.device) if wanted == DistributedType.FSDP else wanted
        PartialState._shared_state["distributed_type"] = kind


def _whole_on(device: torch.device) -> DistributedType:
    """Several devices of a kind, each with the whole model. What looks like a CPU is one that was said to be a GPU."""
    kind = "gpu" if device.type in ("cuda", "cpu") else device.type
    return DistributedType[f"MULTI_{kind.upper()}"]


def _unused(model: nn.Module, device: torch.device) -> int | None:
    """Memory for each rank, of the rank that has least; what the model takes there already counts as unused."""
    unused = unused_bytes(device, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    there = sum(value.nbytes for value in (*model.parameters(), *model.buffers()) if value.device == device)
    least = torch.tensor(-1 if unused is None else unused + there, device=device)
    if torch.distributed.is_initialized():  # all ranks decide the same
        torch.distributed.all_reduce(least, torch.distributed.ReduceOp.MIN)
    return None if least < 0 else int(least)


def _refusal(method: UnlearningMethod, what: str, why: str, needed: int, unused: int | None) -> str:
    divisible = [name for name, kind in METHODS.items() if needs_whole(kind()) is None]
    free = f"{_gib(unused)} are unused" if unused is not None else "nothing tells how much is unused"
    return (
        f"{name_of(method)} does not go with {what}: it {why}. Whole on each device the run takes about "
        f"{_gib(needed)} beside what a batch takes, and {free}. Take a method that can be divided "
        f"({', '.join(divisible)}), fewer processes on each machine, an optimizer with less to keep (optim='sgd'), or "
        "larger devices. If you know that it fits: --accelerate_config ddp, or torchrun alone."
    )


def _gib(number: int) -> str:
    return f"{number / 2**30:.3g} GiB"
