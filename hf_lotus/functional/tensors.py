"""The tensor pieces that methods share, each a pure function of tensors (and a generator where it draws)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

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


def one_hot(labels: Tensor, like: Tensor) -> Tensor:
    """1 for the label and 0 for other classes, of the shape and type of `like`, (batch, classes).

    `F.one_hot` first looks at the labels, for which the host would wait.
    """
    return torch.zeros_like(like).scatter_(1, labels[:, None], 1)


def rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a tensor, on the device of `rows`; where the tensor lies elsewhere the host waits for them."""
    if values.device == rows.device:
        return values[rows]
    return values[rows.cpu()].to(rows.device, non_blocking=True)


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with target distributions, ``−Σ_k target_k · log softmax(logits)_k``, one value a sample.

    Args:
        logits: shape (batch, classes).
        targets: distributions, shape (batch, classes).

    Returns:
        shape (batch,), float32.
    """
    return -(targets * F.log_softmax(logits.float(), dim=1)).sum(dim=1)


def tempered_divergence(target_logits: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``KL(softmax(t/T) ‖ softmax(s/T))`` of each sample, summed over the classes, without a factor T².

    Args:
        target_logits: t, shape (batch, classes).
        logits: s, the same shape.
        temperature: T.

    Returns:
        shape (batch,), float32.
    """
    targets = F.log_softmax(target_logits.float() / temperature, dim=1)
    log_probabilities = F.log_softmax(logits.float() / temperature, dim=1)
    return (targets.exp() * (targets - log_probabilities)).sum(dim=1)


def summed_gradients(
    model: nn.Module, batches: Iterable[tuple[Mapping[str, Tensor], Tensor]], power: int = 1, by_sample: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """The sum over batches of the gradient of each batch's mean cross-entropy, each entry to a power.

    With power 2, over the number of batches, it is the diagonal of the empirical Fisher information in the form that
    SSD uses (arXiv:2308.07707). The gradients that the model may hold are neither used nor changed.

    Args:
        model: the model; its mode is left as it is.
        batches: (model inputs, labels of shape (batch,)).
        power: 1 or 2.
        by_sample: take the sum of each batch's cross-entropy instead of the mean. With power 1 the result then does
            not depend on how the samples are dealt out to batches.

    Returns:
        the sums by parameter name, for every parameter that requires a gradient, and the number of batches.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    sums = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    count = 0
    for inputs, labels in batches:
        reduction = "sum" if by_sample else "mean"
        loss = F.cross_entropy(model(**inputs).logits.float(), labels, reduction=reduction)
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                sums[name] += gradient**power
        count += 1
    device = next(model.parameters()).device
    return sums, torch.tensor(count, device=device)


def reinitialized(model: nn.Module, seed: int) -> nn.Module:
    """A model of the same architecture with freshly drawn weights, on the same device; of one with adapters, without.

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
    if hasattr(model, "get_base_model"):  # PEFT's wrapper
        model = model.get_base_model()  # type: ignore[operator]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = type(model)(copy.deepcopy(model.config))
    return fresh.to(device=parameter.device, dtype=parameter.dtype)


def shares_frozen_weights(model: nn.Module) -> bool:
    """Whether `frozen_copy` of a model shares weights with it: whether it has adapters (PEFT)."""
    return hasattr(model, "peft_config")


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy of a model as it is, in eval mode, without gradients.

    Of a model with adapters the weights that are not trained are shared with it, not copied: they never change. What
    is trained, and all buffers, are the copy's own.
    """
    kept = [p for p in model.parameters() if not p.requires_grad] if shares_frozen_weights(model) else []
    return copy.deepcopy(model, {id(parameter): parameter for parameter in kept}).eval().requires_grad_(False)


def trainable_copy(model: nn.Module, like: nn.Module) -> nn.Module:
    """A copy of a frozen model whose parameters require a gradient where those of `like`, of the same kind, do."""
    copied = copy.deepcopy(model)
    for parameter, given in zip(copied.parameters(), like.parameters(), strict=True):
        parameter.requires_grad_(given.requires_grad)
    return copied


def equal_weights(first: nn.Module, second: nn.Module) -> bool:
    """Whether two models have the same parameters and buffers, to the bit."""
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=False)
    return len(first.state_dict()) == len(second.state_dict()) and all(
        name == other and type(a) is type(b) and a.shape == b.shape and torch.equal(a, b.to(a.device))
        for (name, a), (other, b) in pairs
    )


class Draws:
    """Large random integers, whose remainders are uniform over any number of classes; those of one round are kept.

    Args:
        seed_of: round → seed of its draws.
        size: integers of a round.
    """

    def __init__(self, seed_of: Callable[[int], int], size: int):
        self.seed_of, self.size, self.kept = seed_of, size, (-1, torch.empty(0, dtype=torch.long))

    def __call__(self, index: int, device: torch.device | None = None) -> Tensor:
        """The draws of a round, int64, shape (size,); on a device, the same on any, where one is given."""
        if self.kept[0] != index:
            generator = torch.Generator().manual_seed(self.seed_of(index))
            self.kept = index, torch.randint(2**62, (self.size,), generator=generator)
        if device is not None and self.kept[1].device != device:
            self.kept = index, self.kept[1].to(device, non_blocking=True)
        return self.kept[1]


def relabelled(labels: Tensor, chosen: Tensor, drawn: Tensor, num_classes: int, allow_true: bool) -> Tensor:
    """Labels of which some are replaced by random ones.

    Args:
        labels: true classes, shape (batch,).
        chosen: True where the label is replaced, shape (batch,).
        drawn: a large random integer for each sample, shape (batch,).
        num_classes: number of classes.
        allow_true: whether the random label may be the true one.
    """
    # Never the true one: one to K − 1 classes further round the circle, every wrong class alike.
    wrong = drawn % num_classes if allow_true else (labels + 1 + drawn % (num_classes - 1)) % num_classes
    return torch.where(chosen, wrong, labels)
