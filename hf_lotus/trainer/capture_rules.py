"""Whether the steps of a run may be recorded as a graph, and if not, why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from accelerate.utils import DistributedType

from hf_lotus.methods import name_of
from hf_lotus.methods.base import says_same_work
from hf_lotus.methods.rounds import Pass
from hf_lotus.utils.graphs import hooks_of

if TYPE_CHECKING:
    from hf_lotus.trainer.trainer import UnlearningTrainer

# What of a trainer is called within a step; a class of the user's may do there what a replay would not do again.
_STEP = ("step_on_device", "backward_pass", "compute_loss", "step_share", "compute_loss_context_manager")
_OURS = "hf_lotus.trainer."
# Optimizers that have a part in the backward pass, or another face in training than in evaluation.
_INVOLVED = ("lomo", "adalomo", "schedule_free")


def why_not_captured(trainer: UnlearningTrainer, device: torch.device | None = None) -> str | None:
    """Why no step of a run can be recorded, as a sentence without its full stop; None where steps can.

    Args:
        trainer: of the run.
        device: where it takes place; the trainer's if None.
    """
    args, accelerator = trainer.args, trainer.accelerator
    device = args.device if device is None else device
    student = trainer.run.student
    if device.type != "cuda":
        return f"the device is {device.type!r}, and graphs are of CUDA devices"
    if accelerator.num_processes > 1 or accelerator.distributed_type != DistributedType.NO or args.n_gpu > 1:
        return "several processes or devices have to meet in every step"
    if args.gradient_accumulation_steps > 1:
        return "gradients are accumulated over several batches, and a replay writes them anew"
    if accelerator.scaler is not None:
        return "fp16 has its gradients looked at in every step; bf16 does not"
    if args.gradient_checkpointing or any(getattr(m, "gradient_checkpointing", False) for m in student.modules()):
        return "gradient checkpointing keeps the state of the noise on the host"
    if args.torch_compile:
        return "torch.compile makes graphs of its own"
    if args.torch_empty_cache_steps is not None:
        return "torch_empty_cache_steps frees memory within steps"
    if any(name in str(args.optim).lower() for name in _INVOLVED):
        return f"the optimizer {args.optim} takes part in the step itself"
    if not says_same_work(trainer.method):
        return f"{name_of(trainer.method)} does not say that its batches are all the same work (`is_same_work`)"
    for name in _STEP:
        giver = next(kind for kind in type(trainer).__mro__ if name in vars(kind))
        if not giver.__module__.startswith((_OURS, "transformers.")):
            return f"{giver.__name__}.{name} is not the trainer's own"
    if any(not trainer.passes.owns(hook) for hook in hooks_of(student)):
        return "the model or a part of it has a hook, which a replay would not call"
    return None


def why_not_pass(current: Pass) -> str | None:
    """Why the steps of a pass cannot be recorded, as a sentence without its full stop; None where they can."""
    if current.bargain is not None:
        return "the two sides of a batch have backward passes of their own, and their sizes differ from step to step"
    if current.separate_forward:
        return "the two sides of a batch are passed apart, and their sizes differ from step to step"
    return None
