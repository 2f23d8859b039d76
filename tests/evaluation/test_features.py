"""The features are what the head is given: its weights make the logits of them."""

import numpy as np
import pytest
import torch
from torch import nn

from hf_lotus.data.images import ReadyImages
from hf_lotus.evaluation.features import classifier_head, penultimate_features
from hf_lotus.evaluation.predictions import predict
from tests.conftest import TINY_MODELS


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_the_head_makes_the_logits_of_them(name, parts, processor):
    model, images = TINY_MODELS[name](), ReadyImages(parts["forget"], processor, num_labels=10)
    features = penultimate_features(model, images, 10, batch_size=16, progress=False)
    head = classifier_head(model, 10)
    logits = nn.functional.linear(torch.from_numpy(features), head.weight, head.bias).detach().numpy()
    assert np.allclose(logits, predict(model, images, progress=False).logits, atol=1e-5)
    assert features.shape == (len(images), head.in_features) and not head._forward_pre_hooks


def test_a_model_without_a_linear_head_is_refused():
    with pytest.raises(ValueError, match="has no linear layer of 10 outputs"):
        classifier_head(nn.Sequential(nn.Conv2d(3, 10, 1)), 10)
