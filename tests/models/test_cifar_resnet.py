"""The ResNet for small images: its stem, and that it goes the way of any other model of transformers."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageClassification

from hf_lotus.functional.tensors import reinitialized
from hf_lotus.models.cifar_resnet import CifarResNetConfig, CifarResNetForImageClassification
from tests.support.hub_client import local_hub, repository

TINY = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 7}


def build(**options):
    config = AutoConfig.for_model("cifar_resnet", **{**TINY, **options})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForImageClassification.from_config(config).eval()


def test_by_default_it_is_a_resnet18_with_a_stem_of_three_by_three():
    with torch.device("meta"):
        model = CifarResNetForImageClassification(CifarResNetConfig(num_labels=10))
    # Stem 3·3·3·64; stages of two basic blocks; shortcuts of 1 × 1; BatchNorm's pairs; head 512·10 + 10.
    blocks = sum(9 * (a * b + 3 * b * b) + 8 * b for a, b in ((64, 64), (64, 128), (128, 256), (256, 512)))
    shortcuts = sum(a * b + 2 * b for a, b in ((64, 128), (128, 256), (256, 512)))
    assert sum(weight.numel() for weight in model.parameters()) == 3 * 9 * 64 + 2 * 64 + blocks + shortcuts + 5130


@pytest.mark.parametrize(("pooling", "side"), [(True, 16), (False, 32)])
def test_the_stem_keeps_the_size_and_pooling_halves_it(pooling, side):
    model = build(stem_pooling=pooling)
    assert model.resnet.embedder(torch.rand(2, 3, 32, 32)).shape == (2, 8, side, side)
    convolution = model.resnet.embedder.embedder.convolution
    assert convolution.kernel_size == (3, 3) and convolution.stride == (1, 1)
    # Initialised as the rest of the model is: variance 2 over the weights that leave a channel.
    assert convolution.weight.std().item() == pytest.approx((2 / (9 * 8)) ** 0.5, rel=0.25)


def test_it_saves_and_loads_by_the_auto_classes(tmp_path):
    model, images = build(stem_pooling=False), torch.rand(2, 3, 32, 32)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    assert type(loaded) is CifarResNetForImageClassification and loaded.config.stem_pooling is False
    assert torch.equal(loaded(images).logits, model(images).logits)
    assert not list(tmp_path.glob("*.py"))
    fresh = reinitialized(model, seed=1)
    assert fresh.resnet.embedder.embedder.convolution.weight.shape == (8, 3, 3, 3)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_it_is_pushed_and_loaded_from_a_hub(tmp_path, monkeypatch):
    model, images = build(), torch.rand(2, 3, 32, 32)
    with local_hub(tmp_path, monkeypatch) as hub:
        model.push_to_hub("me/small-images")
        assert "model.safetensors" in repository(hub, "me/small-images").files
        loaded = AutoModelForImageClassification.from_pretrained("me/small-images").eval()
    assert torch.equal(loaded(images).logits, model(images).logits)
