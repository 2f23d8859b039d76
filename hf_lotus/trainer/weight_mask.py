"""Hold some weights still, to the bit, whatever the optimizer does."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class WeightMask:
    """Let only some of a model's weights move.

    Gradients of the others are set to zero as they are computed. Momentum from before and weight decay still move
    them, so `restore` is to be called after each optimizer step.

    Args:
        model: the model that is trained.
        mask: parameter name → True where it may move, of the parameter's shape; a parameter that is not named, and
            requires a gradient, does not move.
        original: a model of the same kind with the values to hold.

    Raises:
        ValueError: if the mask names a parameter that the model does not have, or in another shape.
    """

    def __init__(self, model: nn.Module, mask: Mapping[str, Tensor], original: nn.Module):
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for name, movable in mask.items():
            if name not in parameters or parameters[name].shape != movable.shape:
                raise ValueError(
                    f"The mask has {name!r} of shape {tuple(movable.shape)}, which the model has not. Masks do not "
                    "work with parameters that are sharded over devices (FSDP, DeepSpeed stage 3)."
                )
        held = {name: p for name, p in original.named_parameters()}
        self._parts: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._hooks: list[RemovableHandle] = []
        for name, parameter in parameters.items():
            movable = mask.get(name, torch.zeros_like(parameter, dtype=torch.bool)).to(parameter.device)
            self._parts.append((parameter, movable, held[name]))
            self._hooks.append(parameter.register_hook(movable.mul))

    @torch.no_grad()
    def restore(self) -> None:
        """Put the held weights back."""
        for parameter, movable, held in self._parts:
            parameter.copy_(torch.where(movable, parameter, held))

    def remove(self) -> None:
        """Let every weight move again."""
        for hook in self._hooks:
            hook.remove()
