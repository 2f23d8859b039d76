"""The gradient of each side of a step on its own, and the one step that they agree on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hf_lotus.methods.rounds import Bargain

SIDES = ("retain", "forget")


class SideGradients:
    """Gradients of the two sides, summed over the accumulated batches of an optimizer step.

    Args:
        parameters: what is trained.
    """

    def __init__(self, parameters: Iterator[nn.Parameter]):
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._sums: dict[str, list[Tensor | None]] = {}

    def take(self, side: str) -> None:
        """Move the gradients that the parameters hold to the sums of a side."""
        sums = self._sums.setdefault(side, [None] * len(self._parameters))
        for number, parameter in enumerate(self._parameters):
            taken, before = parameter.grad, sums[number]
            sums[number] = before if taken is None else taken if before is None else before.add_(taken)
            parameter.grad = None

    def agree(self, bargain: Bargain, accelerator: Accelerator, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Average each side over the ranks, give the parameters the gradient that is agreed on, and begin anew.

        Args:
            bargain: norms of the retain and the forget gradient and their cosine → their weights.
            accelerator: of the run.
            scale: factor of all gradients, which the one agreed on is to have too.

        Returns:
            the two weights.
        """
        retain, forget = (self._over_ranks(side, accelerator) for side in SIDES)
        squares = [_inner(retain, retain), _inner(forget, forget)]
        norms = [square.sqrt() / scale for square in squares]
        product = (squares[0] * squares[1]).sqrt()
        cosine = torch.where(product > 0, _inner(retain, forget) / product, 0.0).clamp(-1, 1)
        weights = bargain(norms[0], norms[1], cosine)
        for parameter, first, second in zip(self._parameters, retain, forget, strict=True):
            parameter.grad = (weights[0] * first + weights[1] * second).to(parameter.dtype)
        self._sums = {}
        return weights

    def _over_ranks(self, side: str, accelerator: Accelerator) -> list[Tensor]:
        sums = self._sums.get(side) or [None] * len(self._parameters)
        own = [torch.zeros_like(p) if g is None else g for p, g in zip(self._parameters, sums, strict=True)]
        return [accelerator.reduce(one, "mean") for one in own] if accelerator.num_processes > 1 else own


def _inner(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """The inner product of two gradients, summed in float64 where the device has it."""
    wide = torch.float32 if first[0].device.type == "mps" else torch.float64
    return torch.stack([(a.to(wide) * b.to(wide)).sum() for a, b in zip(first, second, strict=True)]).sum()
