"""Load the models that a command names."""

from __future__ import annotations

import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel
from transformers.utils import is_torchvision_available


def load_model(name: str, revision: str | None = None) -> PreTrainedModel:
    """An image classifier from the Hub or a folder: float32, weights from safetensors alone, no code from there."""
    return AutoModelForImageClassification.from_pretrained(
        name, revision=revision, use_safetensors=True, dtype=torch.float32
    )


def load_processor(name: str, revision: str | None = None) -> object:
    """The image processor of a model, in the variant that the installed libraries can run."""
    backend = "torchvision" if is_torchvision_available() else "pil"
    return AutoImageProcessor.from_pretrained(name, revision=revision, backend=backend)
