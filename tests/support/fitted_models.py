"""Small models that know some data by heart, and data that can only be known so."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset

from tests.conftest import TINY_MODELS
from tests.support.method_helpers import pixels_of


def fitted(given, processor, *names, start=None, steps=150, seed=0):
    """A tiny ResNet that has learned some parts by heart."""
    pixels, labels = (torch.cat(x) for x in zip(*(pixels_of(given[n], processor) for n in names), strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = TINY_MODELS["resnet"]() if start is None else start
    optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-2 if start is None else 1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(pixels).logits, labels).backward()
        optimizer.step()
    return model.eval()


def with_wrong_labels(parts: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The parts with a third of the labels wrong: to get them right is to have seen them."""
    generator, given = np.random.default_rng(0), {}
    for name, part in parts.items():
        wrong = generator.random(len(part)) < 0.33
        labels = (np.array(part["label"]) + wrong * generator.integers(1, 10, len(part))) % 10
        given[name] = part.remove_columns("label").add_column("label", labels, feature=part.features["label"])
    return given
