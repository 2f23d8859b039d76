"""The tensor pieces that methods share, each a pure function of tensors (and a generator where it draws)."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gumbel_perturbed(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """`logits` plus fresh standard Gumbel noise, in float32.

    The argmax of the result is an exact sample from ``softmax(logits)``; its tempered softmax is a Gumbel-softmax
    sample (Jang et al., arXiv:1611.01144).

    Args:
        logits: shape (batch, classes).
        generator: on the device of `logits`; the global one if None.
    """
    logits = logits.float()
    # −log of an Exponential(1) variate is a standard Gumbel variate.
    return logits - torch.empty_like(logits).exponential_(generator=generator).log()


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with target distributions, ``−Σ_k target_k · log softmax(logits)_k``, one value a sample.

    Args:
        logits: shape (batch, classes).
        targets: distributions, shape (batch, classes).

    Returns:
        shape (batch,), float32.
    """
    return -(targets * F.log_softmax(logits.float(), dim=1)).sum(dim=1)


def reinitialized(model: nn.Module, seed: int) -> nn.Module:
    """A model of the same architecture with freshly drawn weights, on the same device.

    The weights are drawn by the model's own initialisation from `seed`, without touching the global random state.

    Args:
        model: a transformers model, or anything that `type(model)(model.config)` rebuilds.
        seed: seed of the initialisation.

    Raises:
        TypeError: if the model has no `config` to rebuild it from.
    """
    if not hasattr(model, "config"):
        raise TypeError(
            f"{type(model).__name__} has no `config` to rebuild it from with random weights. Pass one of transformers."
        )
    parameter = next(model.parameters())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = type(model)(copy.deepcopy(model.config))
    return fresh.to(device=parameter.device, dtype=parameter.dtype)
