"""The two sides of a batch, each in a forward pass of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers.modeling_outputs import ModelOutput

from hf_lotus.methods.base import rows_of_side


def forward_by_side(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    is_forget: Tensor,
    forgotten: int,
    showing: Callable[[int, int], AbstractContextManager] = lambda retained, forgotten: nullcontext(),
) -> ModelOutput:
    """The logits of a batch whose retained and forgotten samples never meet in one forward pass.

    Where BatchNorm normalises by the batch, a joint pass would mix the statistics of the two. Its running statistics
    take in first the retained samples, then the forgotten ones. Where a side has one sample or none, all are passed
    together: one sample has no statistics.

    Args:
        model: a classifier whose output has `logits`.
        inputs: the model's inputs by name; each tensor's first dimension is that of the batch.
        is_forget: True for forget samples, shape (batch,).
        forgotten: how many they are.
        showing: (retained, forgotten) samples of a forward pass → what it is made within.

    Returns:
        an output with `logits` alone, shape (batch, classes), in the order of the batch.
    """
    sides = [rows_of_side(is_forget, forgotten, forget) for forget in (False, True)]
    if min(len(rows) for rows in sides) < 2:
        return model(**inputs)
    with showing(len(sides[0]), 0):
        of_retained = model(**_rows(inputs, sides[0])).logits
    with _buffers_left(model), showing(0, len(sides[1])):
        of_forgotten = model(**_rows(inputs, sides[1])).logits
    # Where each sample of the batch lies in the two sides laid end to end.
    places = torch.empty_like(is_forget, dtype=torch.long)
    places.index_copy_(0, torch.cat(sides), torch.arange(len(is_forget), device=is_forget.device))
    return ModelOutput(logits=torch.cat([of_retained, of_forgotten])[places])


def _rows(inputs: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {name: value[rows] for name, value in inputs.items()}


@contextmanager
def _buffers_left(model: nn.Module) -> Iterator[None]:
    """Have DDP not copy the first rank's buffers again, in place of those that the first pass still needs."""
    if not isinstance(model, DistributedDataParallel):
        yield
        return
    before, model.broadcast_buffers = model.broadcast_buffers, False
    try:
        yield
    finally:
        model.broadcast_buffers = before
