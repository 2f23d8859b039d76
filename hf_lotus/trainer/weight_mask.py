"""Hold some weights still, to the bit, whatever the optimizer does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

# Integers of as many bytes as a float: multiplied by 0 or 1 and added to 0 they stay the same bits, as floats do not
# (−0, NaN).
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class WeightMask:
    """Let only some of a model's weights move.

    `still` sets the gradients of the others to zero; momentum from before and weight decay still move them, so
    `restore` is to be called after each optimizer step. Both take all weights at once, and the host never waits.

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
        self.holds = original is not None
        self._parameters = list(parameters.values())
        self._movable = [
            mask[name].to(p.device, _BITS[p.element_size()]) if name in mask else _bits(torch.zeros_like(p))
            for name, p in parameters.items()
        ]
        held = dict((model if original is None else original).named_parameters())
        self._held = self._still_bits([held[name].to(p.device) for name, p in parameters.items()])

    def _still_bits(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The bits of the parameters' values where they must not move, and 0 elsewhere."""
        bits = [_bits(value) for value in values]
        return list(torch._foreach_sub(bits, torch._foreach_mul(bits, self._movable)))

    def hold(self, on: bool) -> None:
        """Hold the weights from now on, at what they are where they were not held before; or let all of them move."""
        if on and not self.holds:
            self._held = self._still_bits(self._parameters)
        self.holds = on

    @torch.no_grad()
    def still(self) -> None:
        """Set the gradients of what must not move to zero, while it is held."""
        if not self.holds:
            return
        given = [
            (_bits(p.grad), movable)
            for p, movable in zip(self._parameters, self._movable, strict=True)
            if p.grad is not None
        ]
        if given:
            torch._foreach_mul_(*(list(side) for side in zip(*given, strict=True)))

    @torch.no_grad()
    def restore(self) -> None:
        """Put the held weights back, while they are held."""
        if not self.holds:
            return
        bits = [_bits(parameter) for parameter in self._parameters]
        torch._foreach_mul_(bits, self._movable)
        torch._foreach_add_(bits, self._held)


def _bits(values: Tensor) -> Tensor:
    """A view of floats as the integers of the same bits."""
    return values.detach().view(_BITS[values.element_size()])
