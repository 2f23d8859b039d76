"""Passes by a graph leave behind what passes one by one do."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from hf_lotus.data.images import ReadyImages
from hf_lotus.evaluation import captured_forward, predictions
from hf_lotus.evaluation.captured_forward import replayed_forward, why_not_replayed
from hf_lotus.evaluation.features import predicted_with_features
from hf_lotus.evaluation.predictions import predict
from tests.trainer.test_captured_step import Graphs

GPU = torch.device("cuda")


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that are made while passes are recorded as if their device were a GPU."""
    made = Graphs()
    monkeypatch.setattr(captured_forward, "why_not_replayed", lambda model, _, n: why_not_replayed(model, GPU, n))
    monkeypatch.setattr(predictions, "replayed_forward", partial(replayed_forward, make=made.make))
    return made


@pytest.fixture
def samples(parts, processor):
    return ReadyImages(parts["retain"], processor)


def same(first, second):
    assert np.array_equal(first.logits, second.logits) and np.array_equal(first.entropy, second.entropy)
    assert np.array_equal(first.predicted, second.predicted) and np.array_equal(first.labels, second.labels)


@pytest.mark.parametrize("family", ["vit with dropout", "resnet"])
def test_a_pass_by_a_graph_says_the_same_of_every_sample(tiny_model, samples, graphs, family):
    model, size = tiny_model(family), len(samples)
    plain = predict(model, samples, batch_size=11, progress=False, capture=False)
    assert not graphs
    passed = []
    model.register_forward_hook(lambda module, given, output: passed.append(len(output.logits)))
    same(predict(model, samples, batch_size=11, progress=False), plain)
    (graph,) = graphs
    whole, rest = divmod(size, 11)
    assert rest and graph.replays == whole - 2
    assert passed == [11] * whole + [rest]  # hooks on the model see every batch
    assert "forward" not in vars(model)


def test_a_forward_of_the_models_own_is_put_back(tiny_model, samples, graphs):
    model = tiny_model("resnet")
    model.forward = wrapped = partial(model.forward)  # as accelerate wraps it
    plain = predict(model, samples, batch_size=11, progress=False, capture=False)
    same(predict(model, samples, batch_size=11, progress=False), plain)
    assert graphs.replays and model.forward is wrapped


class AsksTheHost(nn.Module):
    """Adds noise that is too small to change a number, from a source of the host's."""

    def forward(self, x):
        return x * (1 + 0 * np.random.rand())


def test_a_model_that_asks_the_host_and_one_that_is_listened_to_pass_as_ever(tiny_model, samples, graphs):
    model = tiny_model("resnet")
    plain = predict(model, samples, batch_size=11, progress=False, capture=False)
    features = predicted_with_features(model, samples, 10, batch_size=11, progress=False)[1]
    assert len(features) == len(samples) and len(np.unique(features, axis=0)) > 100 and not graphs
    model.classifier.insert(0, AsksTheHost())
    same(predict(model, samples, batch_size=11, progress=False), plain)
    assert not graphs


def test_where_it_is_done(tiny_model):
    model = tiny_model("resnet")
    assert why_not_replayed(model, GPU, 8) is None
    assert "CUDA" in why_not_replayed(model, torch.device("cpu"), 8)
    assert "7 whole batches" in why_not_replayed(model, GPU, 7)
    model.classifier.register_forward_hook(lambda *_: None)
    assert "hook" in why_not_replayed(model, GPU, 8)
    with replayed_forward(model, torch.device("cpu"), 100) as is_overwritten:
        assert not is_overwritten


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and there is none")
@pytest.mark.parametrize("family", ["vit with dropout", "resnet"])
def test_a_real_graph_says_the_same(tiny_model, samples, family):
    model = tiny_model(family).to("cuda")
    plain, replayed = (
        predict(model, samples, batch_size=11, progress=False, device=GPU, capture=on) for on in (False, True)
    )
    np.testing.assert_allclose(replayed.logits, plain.logits, rtol=1e-6, atol=1e-6)
    assert np.array_equal(replayed.labels, plain.labels)
