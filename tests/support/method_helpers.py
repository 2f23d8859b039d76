"""What the tests of several methods need: hand-made runs and batches, a trained model, arithmetic in float64."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from hf_lotus.methods import LossInputs
from tests.conftest import TINY_MODELS, divided, scans


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def class_wise_parts(digits, classes=(3,)):
    """The options of a trainer that forgets whole classes."""
    rows = {True: [], False: []}
    for row, label in enumerate(digits["label"]):
        rows[label in classes].append(row)
    parts = {"forget_dataset": digits.select(rows[True]), "retain_dataset": digits.select(rows[False])}
    return {**parts, "unseen_dataset": None, "eval_dataset": None}


def pixels_of(part, processor):
    """The model's input and the labels of a whole data set, by the processor itself."""
    pixels = processor(list(part["image"]), return_tensors="pt")["pixel_values"]
    return pixels, torch.tensor(part["label"])


def trained(family, processor):
    """A tiny model that has learned the forget and retain scans; always the same weights."""
    model = TINY_MODELS[family]()
    model.load_state_dict(_trained_weights(family, processor))
    return model


@functools.cache
def _trained_weights(family, processor):
    pixels, labels = (torch.cat(both) for both in zip(*_training_scans(processor), strict=True))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TINY_MODELS[family]().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(pixels).logits, labels).backward()
        optimizer.step()
    return weights(model)


def _training_scans(processor):
    parts = divided(scans())
    return [pixels_of(parts[name], processor) for name in ("forget", "retain")]


def record_batches(trainer, monkeypatch):
    """A list that fills, at every batch of training, with what `compute_loss` was given and the weights before it."""
    seen, compute = [], trainer.compute_loss

    def recorded(model, inputs, *args, **kwargs):
        kept = {name: value.clone() for name, value in inputs.items()}
        seen.append(SimpleNamespace(**kept, weights=weights(trainer.model)))
        return compute(model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer, "compute_loss", recorded)
    return seen


def loss_inputs(logits, labels, is_forget, **values):
    return LossInputs(
        logits=torch.as_tensor(logits, dtype=torch.float32),
        labels=torch.as_tensor(labels),
        is_forget=torch.as_tensor(is_forget),
        **values,
    )


def log_softmax(logits):
    """In float64."""
    logits = np.asarray(logits, dtype=np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def cross_entropy(logits, labels):
    """Of each row, in float64."""
    return -log_softmax(logits)[np.arange(len(labels)), labels]


def divergence(target_logits, logits, temperature=1.0):
    """KL(softmax(t/T) ‖ softmax(s/T)) of each row, in float64."""
    targets, given = (log_softmax(np.asarray(x, dtype=np.float64) / temperature) for x in (target_logits, logits))
    return (np.exp(targets) * (targets - given)).sum(axis=1)


class LinearScores(torch.nn.Module):
    """Two classes with logits (w·x, 0) from three weights, without a configuration."""

    def __init__(self, weight=(1.0, -1.0, 2.0)):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        scores = x @ self.w
        return SimpleNamespace(logits=torch.stack([scores, torch.zeros_like(scores)], dim=1))


# With w = (1, −1, 2) both samples have w·x = 0, so that each class has probability 1/2: the gradient of the
# cross-entropy is −x/2 for label 0 and x/2 for label 1.
FORGET_SAMPLE = ({"x": torch.tensor([[1.0, 1.0, 0.0]])}, torch.tensor([0]))  # gradient (−1/2, −1/2, 0)
RETAIN_SAMPLE = ({"x": torch.tensor([[2.0, 0.0, -1.0]])}, torch.tensor([1]))  # gradient (1, 0, −1/2)


class HandRun:
    """A run on one rank whose models and batches are given."""

    def __init__(self, student, teacher, batches, **values):
        self.student, self.teacher, self.given = student, teacher, batches
        vars(self).update(values)

    def batches(self, *splits):
        for split in splits:
            yield from self.given[split]

    def example(self, split):
        return self.given[split][0][0]

    def sum_over_ranks(self, values):
        return values
