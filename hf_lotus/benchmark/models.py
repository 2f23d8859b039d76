"""The models that a recipe starts from, and their image processors."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    BaseImageProcessor,
    PreTrainedModel,
    ViTImageProcessorPil,
)

from hf_lotus.benchmark.recipe import Recipe
from hf_lotus.models.loading import load_model, load_processor, loading
from hf_lotus.models.tasks import IMAGE


def initial_model(recipe: Recipe, names: list[str], seed: int) -> PreTrainedModel:
    """The model that training starts from: random weights, or a new head on weights that were trained before.

    Args:
        recipe: the settings.
        names: the classes, by number.
        seed: seed of the random weights.
    """
    numbers = dict(enumerate(names))
    labels: dict[str, Any] = {"id2label": numbers, "label2id": {name: number for number, name in numbers.items()}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if "config" in recipe.model:
            config = AutoConfig.for_model(**recipe.model["config"], **labels)
            return AutoModelForImageClassification.from_config(config)
        if recipe.training is None:
            return load_model(recipe.model["name_or_path"])  # the published classifier, as it is
        with loading("model", recipe.model["name_or_path"]):
            return AutoModelForImageClassification.from_pretrained(
                recipe.model["name_or_path"],
                use_safetensors=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
                **labels,
            )


def image_processor(recipe: Recipe) -> BaseImageProcessor:
    """The image processor that the recipe describes, or that of the model it names."""
    model = recipe.model
    if "image_size" not in model:
        return cast(BaseImageProcessor, load_processor(model["name_or_path"], task=IMAGE))
    size = model["image_size"]
    given = {name: model[name] for name in ("image_mean", "image_std") if name in model}
    return ViTImageProcessorPil(size={"height": size, "width": size}, **given)
