"""The ResNet for small images: LoTUS's ResNet18, which `transformers`' ResNet cannot be configured to be.

Importing this module registers it, so that `AutoModelForImageClassification` builds, saves, loads and pushes it like
any other model. Whoever loads a checkpoint elsewhere imports this module first; the weights are plain safetensors, and
no code travels with them.
"""

from __future__ import annotations

from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification, ResNetConfig, ResNetForImageClassification
from transformers.models.resnet.modeling_resnet import ResNetConvLayer


class CifarResNetConfig(ResNetConfig):
    """A `ResNetConfig` whose stem is a 3 × 3 convolution of stride 1, in place of one of 7 × 7 and stride 2.

    By default a ResNet18: basic blocks, two in each of four stages of 64, 128, 256 and 512 channels.

    Attributes:
        stem_pooling: halve the height and width after the stem, as the code of LoTUS (arXiv:2503.18314) does; the
            CIFAR variant of other authors does not, and costs four times as much.
    """

    model_type = "cifar_resnet"

    embedding_size: int = 64
    hidden_sizes: list[int] | tuple[int, ...] | None = (64, 128, 256, 512)
    depths: list[int] | tuple[int, ...] | None = (2, 2, 2, 2)
    layer_type: str = "basic"
    stem_pooling: bool = True


class CifarResNetForImageClassification(ResNetForImageClassification):
    """A ResNet with the stem of `CifarResNetConfig`; in all else that of `transformers`.

    Args:
        config: a `CifarResNetConfig`.
    """

    config_class = CifarResNetConfig

    def __init__(self, config: CifarResNetConfig):
        super().__init__(config)
        stem: nn.Module = self.resnet.embedder
        stem.embedder = ResNetConvLayer(
            config.num_channels, config.embedding_size, kernel_size=3, stride=1, activation=config.hidden_act
        )
        if not config.stem_pooling:
            stem.pooler = nn.Identity()
        self.post_init()  # for the new convolution: the rest keeps what it has


AutoConfig.register("cifar_resnet", CifarResNetConfig, exist_ok=True)
AutoModelForImageClassification.register(CifarResNetConfig, CifarResNetForImageClassification, exist_ok=True)
