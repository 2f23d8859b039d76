"""Training with weights or optimizer states that are divided over devices: what works there, and what it needs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.utils import DistributedType, fsdp2_prepare_model
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_lotus.methods import GradientMethod, UnlearningMethod, WeightEdit, name_of

if TYPE_CHECKING:
    from hf_lotus.trainer.trainer import UnlearningTrainer

# What a launcher asks accelerate to divide by.
_ASKING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
_OTHERWISE = "Run it with the whole model on each device: --accelerate_config ddp, or torchrun alone."


class Sharding(TrainerCallback):
    """What a trainer does for FSDP2 and DeepSpeed, which divide a model between the devices.

    Args:
        trainer: the trainer, whose accelerator is made.

    Attributes:
        is_whole: whether each device has the model whole, though it was asked to be divided.
    """

    is_whole = False

    def __init__(self, trainer: UnlearningTrainer):
        self._trainer = trainer
        self._hidden = ExitStack()

    def as_settled(self) -> AbstractContextManager:
        """Within it accelerate finds what asks it to divide, or does not where the model is whole all the same."""
        return unasked() if self.is_whole else nullcontext()

    def place_student(self) -> None:
        """Put the model on its device, whole, as it is measured before `Trainer` divides it."""
        if self._trainer.is_fsdp_enabled or self._trainer.is_deepspeed_enabled:
            self._trainer.model.to(self._trainer.args.device)

    @contextmanager
    def dividing(self) -> Iterator[None]:
        """Divide the teacher as the student will be, and have the student divided whole; around `Trainer.train`.

        DeepSpeed's stages 1 and 2 leave weights whole, so that a plain copy is all that a frozen model needs there. A
        teacher that has left the device, as its logits are kept, is left where it is.
        """
        trainer = self._trainer
        if trainer.is_fsdp_enabled:
            if next(trainer.teacher.parameters()).device == trainer.args.device:
                with no_embeddings_apart(trainer.teacher):
                    fsdp2_prepare_model(trainer.accelerator, trainer.teacher)
            self._hidden.enter_context(no_embeddings_apart(trainer.model))
        try:
            with self.as_settled():
                yield
        finally:
            self._hidden.close()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The student is divided by now."""
        self._hidden.close()


@contextmanager
def unasked() -> Iterator[None]:
    """Have accelerate not find, within the block, that a launcher asks it to divide models."""
    hidden = {name: os.environ.pop(name) for name in _ASKING if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def check_launch(world_size: int) -> None:
    """Refuse processes that were started together and do not know of each other, as without a GPU they may be.

    Args:
        world_size: number of processes that this one knows of.

    Raises:
        ValueError: if the launcher started more.
    """
    started = int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else world_size
    if started != world_size:
        raise ValueError(
            f"{started} processes were started, and each would run alone and write into the same folder. On a machine "
            "without GPUs give use_cpu=True (--use_cpu), by which they find each other."
        )


def check_sharding(accelerator: Accelerator, method: UnlearningMethod) -> None:
    """Refuse what cannot be right, or was never seen to be, where weights or optimizer states are divided.

    Args:
        accelerator: of the run.
        method: the unlearning method.

    Raises:
        ValueError: for FSDP1, DeepSpeed's stage 3, weights loaded on the first rank alone, half precision with
            DeepSpeed, and methods that edit or mask weights.
    """
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP:
        what = "FSDP"
        check_fsdp(accelerator.state.fsdp_plugin)
    elif kind == DistributedType.DEEPSPEED:
        what = "DeepSpeed"
        check_zero_stage(accelerator.state.deepspeed_plugin)
        if accelerator.mixed_precision != "no":
            raise ValueError(
                f"DeepSpeed with mixed_precision={accelerator.mixed_precision!r} keeps the model in half precision, "
                "in which unlearning's small steps round away. Use mixed_precision 'no', or DDP or FSDP2."
            )
    else:
        return
    if (why := needs_whole(method)) is not None:
        raise ValueError(f"{name_of(method)} does not go with {what}: it {why}. {_OTHERWISE}")


def check_fsdp(plugin: Any) -> None:
    """Refuse FSDP whose ranks have not all weights to begin with, or flattened ones.

    Args:
        plugin: accelerate's, of FSDP.

    Raises:
        ValueError: for version 1, or weights loaded on the first rank alone.
    """
    if plugin.fsdp_version != 2:
        raise ValueError(
            f"fsdp_version is {plugin.fsdp_version}, whose flattened weights the student cannot be measured with "
            "between rounds. Use fsdp_version 2, as --accelerate_config fsdp2 does."
        )
    if plugin.cpu_ram_efficient_loading:
        raise ValueError(
            "fsdp_cpu_ram_efficient_loading loads the weights on the first rank alone, and every rank needs them "
            "for its copy of the original. Set it to false, as --accelerate_config fsdp2 does."
        )


def check_zero_stage(plugin: Any) -> None:
    """Refuse DeepSpeed whose ranks have not all weights to begin with.

    Args:
        plugin: accelerate's, of DeepSpeed.

    Raises:
        ValueError: for stage 3.
    """
    if plugin.zero_stage > 2:
        raise ValueError(
            f"DeepSpeed's zero_stage is {plugin.zero_stage}, which divides the weights when they are loaded, so "
            "that no copy of the original can be taken. Use stage 2 (--accelerate_config deepspeed_zero2) or, to "
            "divide weights, --accelerate_config fsdp2."
        )


def needs_whole(method: UnlearningMethod) -> str | None:
    """Why a method needs all weights on each device: the end of "it …"; None where it does not.

    It takes hold of single weights, or asks the student for more than the batch's logits.
    """
    hooks = {
        "mask": "holds single weights still, which it cannot find again once they are divided",
        "transform": "asks the student while a batch is made, on some ranks and perhaps not on others",
        "renews_teacher": "takes a whole copy of the student amid the run",
    }
    why = "edits the weights of the whole model" if isinstance(method, WeightEdit) else method.needs_whole_weights
    if isinstance(method, GradientMethod) and not method.transform_asks_student:
        hooks.pop("transform")
    for hook, reason in hooks.items():
        if why is None and getattr(type(method), hook) is not getattr(GradientMethod, hook):
            why = reason
    return why


@contextmanager
def no_embeddings_apart(model: nn.Module) -> Iterator[None]:
    """Have accelerate find no input embeddings to divide on their own, which is for language models.

    Where a layer holds them that is divided as one (ViT's), accelerate 1.15 fails on dividing them again; and asking
    a model that has none (ResNet) raises.
    """
    model.get_input_embeddings = _none  # type: ignore[assignment]  # a method for a while, and no module
    try:
        yield
    finally:
        del model.get_input_embeddings


def _none() -> None:
    return None


def load_whole(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load whole weights into a model, be its own divided over devices or not.

    Args:
        model: the model.
        weights: its state dictionary, the same on every rank.
    """
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.reshard()  # what an evaluation has left gathered would hide the weights that are loaded
    if parts:
        set_model_state_dict(model, dict(weights), options=StateDictOptions(full_state_dict=True))
    else:
        model.load_state_dict(weights)
