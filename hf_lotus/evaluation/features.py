"""Penultimate features: what a classifier's last layer is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from hf_lotus.evaluation.predictions import Predictions, predict


def classifier_head(model: nn.Module, num_classes: int) -> nn.Linear:
    """The last linear layer with as many outputs as there are classes.

    Raises:
        ValueError: if there is none.
    """
    heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == num_classes]
    if not heads:
        raise ValueError(
            f"{type(model).__name__} has no linear layer of {num_classes} outputs: its features cannot be found. "
            "Leave the linear probe out."
        )
    return heads[-1]


def penultimate_features(model: nn.Module, dataset: Dataset, num_classes: int, **options: Any) -> np.ndarray:
    """What the classifier's head is given for each sample, in eval mode.

    Args:
        model: the classifier.
        dataset: the samples, made ready.
        num_classes: of the model.
        **options: of `predict`, on one process.

    Returns:
        shape (samples, dimensions), float32.

    Raises:
        ValueError: if the model has no linear head, or the data set is empty.
    """
    return predicted_with_features(model, dataset, num_classes, keep_logits=False, **options)[1]


def predicted_with_features(
    model: nn.Module, dataset: Dataset, num_classes: int, **options: Any
) -> tuple[Predictions, np.ndarray]:
    """What `predict` gives and `penultimate_features` too, of one pass.

    Args:
        model: as in `penultimate_features`.
        dataset: likewise.
        num_classes: likewise.
        **options: likewise.

    Raises:
        ValueError: likewise.
    """
    found: list[np.ndarray] = []

    def keep(module: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        found.append(given[0].detach().flatten(1).float().cpu().numpy())

    handle = classifier_head(model, num_classes).register_forward_pre_hook(keep)
    try:
        predictions = predict(model, dataset, **options)
    finally:
        handle.remove()
    return predictions, np.concatenate(found)
