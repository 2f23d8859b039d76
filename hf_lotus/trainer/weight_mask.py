"""Hold some weights still, to the bit, whatever the optimizer does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

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
        original: a model of the same kind with the values to hold; None to hold, in each stretch of steps for which
            `hold` is called, those that the model then has.

    Attributes:
        holds: whether the mask is on; from the start where there is an `original`.

    Raises:
        ValueError: if the mask names a parameter that the model does not have, or in another shape.
    """

    def __init__(self, model: nn.Module, mask: Mapping[str, Tensor], original: nn.Module | None):
        parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for name, movable in mask.items():
            if name not in parameters or parameters[name].shape != movable.shape:
                raise ValueError(
                    f"The mask has {name!r} of shape {tuple(movable.shape)}, which the model has not. Masks do not "
                    "work with parameters that are sharded over devices (FSDP, DeepSpeed stage 3)."
                )
        held = dict(model.named_parameters() if original is None else original.named_parameters())
        self.holds = original is not None
        self._parts: list[tuple[nn.Parameter, Tensor, Tensor]] = []
        self._hooks: list[RemovableHandle] = []
        for name, parameter in parameters.items():
            movable = mask.get(name, torch.zeros_like(parameter, dtype=torch.bool)).to(parameter.device)
            self._parts.append((parameter, movable, held[name]))
            self._hooks.append(parameter.register_hook(partial(self._still, movable)))

    def _still(self, movable: Tensor, gradient: Tensor) -> Tensor:
        return gradient * movable if self.holds else gradient

    def hold(self, on: bool) -> None:
        """Hold the weights from now on, at what they are where they were not held before; or let all of them move."""
        if on and not self.holds:
            self._parts = [(parameter, movable, parameter.detach().clone()) for parameter, movable, _ in self._parts]
        self.holds = on

    @torch.no_grad()
    def restore(self) -> None:
        """Put the held weights back, while they are held."""
        if not self.holds:
            return
        for parameter, movable, held in self._parts:
            parameter.copy_(torch.where(movable, parameter, held))

    def remove(self) -> None:
        """Let every weight move again."""
        for hook in self._hooks:
            hook.remove()
