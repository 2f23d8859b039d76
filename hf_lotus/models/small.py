"""Two small classifiers of random weights, which train in seconds on a processor."""

from __future__ import annotations

from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

SMALL_SIZE = 32  # the height and width of the images that they take


def small_vit(num_labels: int = 10) -> ViTForImageClassification:
    """A ViT of 0.2 M parameters."""
    config = ViTConfig(  # type: ignore[call-arg]  # num_labels: every configuration takes it, none declares it
        image_size=SMALL_SIZE, patch_size=8, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=128, num_labels=num_labels,
    )  # fmt: skip
    return ViTForImageClassification(config)


def small_resnet(num_labels: int = 10) -> ResNetForImageClassification:
    """A ResNet of basic blocks, 80,000 parameters."""
    config = ResNetConfig(  # type: ignore[call-arg]  # the same
        embedding_size=16, hidden_sizes=[16, 32, 64], depths=[1, 1, 1], layer_type="basic", num_labels=num_labels
    )
    return ResNetForImageClassification(config)
