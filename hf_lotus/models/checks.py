"""What must hold of a model before it is trained or measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hf_lotus.utils.text import one_line

# Parts of names in a configuration → the most that a model may have of it, in all its stages. The deepest ResNet that
# was published has 333 blocks.
_MOST = {"num_labels": 1_000_000, "layers": 1000, "depths": 1000, "blocks": 1000}


def require_single_label(model: nn.Module) -> None:
    """Raise `ValueError` if the model's head is for regression or several labels a sample."""
    problem_type = getattr(getattr(model, "config", None), "problem_type", None)
    if problem_type not in (None, "single_label_classification"):
        raise ValueError(
            f"The model's problem_type is {problem_type!r}; unlearning needs a single-label classifier "
            "('single_label_classification' or None)."
        )


def require_full_precision(model: nn.Module) -> None:
    """Raise `ValueError` for weights in half precision, in which unlearning's small steps would round away."""
    half = {p.dtype for p in model.parameters() if p.dtype in (torch.float16, torch.bfloat16)}
    if half:
        raise ValueError(
            f"The model's weights are {half.pop()}, in which unlearning's small steps round away. Load it with "
            "dtype=torch.float32; with bf16=True it still computes in half precision."
        )


def check_same_classes(model: nn.Module, other: nn.Module, what: str) -> None:
    """Raise `ValueError` unless two models have the same classes under the same numbers.

    Args:
        model: the model to unlearn.
        other: a model that is compared with it.
        what: what to call the other in an error.
    """
    first, second = getattr(model, "config", None), getattr(other, "config", None)
    if first is None or second is None:
        return
    if first.num_labels != second.num_labels:
        raise ValueError(f"The {what} has {second.num_labels} classes, and the model to unlearn {first.num_labels}.")
    names = [[str(config.id2label[number]) for number in sorted(config.id2label)] for config in (first, second)]
    if sorted(names[0]) == sorted(names[1]) and names[0] != names[1]:
        raise ValueError(f"The {what} has the classes of the model to unlearn in another order: {names[1][:5]} …")


def check_models(model: nn.Module, retrained: nn.Module | None) -> None:
    """Raise `ValueError` unless a model can be unlearned, and the retrained one, if any, has the same classes."""
    require_single_label(model)
    require_full_precision(model)
    if retrained is not None:
        check_same_classes(model, retrained, "retrained model")


def require_possible(config: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a configuration that asks for more layers or classes than any model has.

    A repository's configuration is anybody's, and each layer that it asks for is built before a weight is read: one
    number is enough to keep a machine busy for ever.

    Args:
        config: what `config.json` holds.
    """
    for name, value in config.items():
        limit = next((most for part, most in _MOST.items() if part in str(name)), None)
        numbers = value if isinstance(value, (list, tuple)) else [value]
        asked = sum(number for number in numbers if isinstance(number, int))
        if limit is not None and asked > limit:
            raise ValueError(f"its configuration asks for {one_line(asked, 30)} of {name}, and no model has {limit:,}")
