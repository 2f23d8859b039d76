"""Which models a run is of, and loading what is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    BaseImageProcessor,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SequenceFeatureExtractor,
)
from transformers.utils import CONFIG_NAME, is_torchvision_available

import hf_lotus.models.cifar_resnet  # noqa: F401 - registers a model
from hf_lotus.models.adapters import AdapterArguments, adapter_of, with_adapter
from hf_lotus.models.tasks import IMAGE, TASKS, find_task

# What makes model inputs of a kind of samples.
Processor = BaseImageProcessor | PreTrainedTokenizerBase | SequenceFeatureExtractor


@dataclass
class _NamedModel:
    model_name_or_path: str = field(metadata={"help": "The trained model: a Hub id or a local folder."})


@dataclass
class ModelArguments(AdapterArguments, _NamedModel):
    """Which model to unlearn."""

    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the model."})
    task: str | None = field(
        default=None,
        metadata={"choices": list(TASKS), "help": "What the model classifies. Default: what its configuration says."},
    )
    retrain_model: str | None = field(
        default=None,
        metadata={"help": "A model trained without the forget set, where there is one; only measured against."},
    )
    retrain_models: list[str] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "help": "Several such models, of different seeds: gaps are then from their mean, and what two of them lie "
            "apart is the floor of every gap.",
        },
    )

    @property
    def retrained(self) -> list[str]:
        """Every model trained without the forget set that is given."""
        return all_retrained(self.retrain_model, self.retrain_models)


def load_student(arguments: ModelArguments) -> PreTrainedModel:
    """The model to unlearn: as it was published, or with a fresh adapter on it."""
    found = load_model(arguments.model_name_or_path, arguments.model_revision, arguments.task)
    return arguments.adapted(found)


def all_retrained(one: str | None, several: Sequence[str] | None) -> list[str]:
    """The models of `--retrain_model` and `--retrain_models`, none of them twice."""
    return list(dict.fromkeys([*([one] if one else []), *(several or [])]))


def load_model(name: str, revision: str | None = None, task: str | None = None) -> PreTrainedModel:
    """A classifier from the Hub or a folder: float32, weights from safetensors alone, no code from there.

    Args:
        name: the Hub id or folder, of whole weights or of an adapter, which is then put on the model that it names.
        revision: branch, tag or commit.
        task: what it classifies, by the Hub's name; by default what its configuration says.
    """
    adapter, options = adapter_of(name, revision), {"use_safetensors": True, "dtype": torch.float32}
    if adapter is None:
        auto_model = TASKS[find_task(name, revision, task)].auto_model
        return auto_model.from_pretrained(name, revision=revision, **options)
    base, at = adapter.base_model_name_or_path, adapter.revision
    if (Path(name) / CONFIG_NAME).is_file():  # what it says of classes goes before what the base says
        options["config"] = AutoConfig.from_pretrained(name)
    auto_model = TASKS[find_task(base, at, task)].auto_model
    return with_adapter(auto_model.from_pretrained(base, revision=at, **options), name, revision)


def on_device(model: PreTrainedModel, device: str | torch.device) -> PreTrainedModel:
    """The model, moved to a device: `model.to(device)`, which transformers wraps so that a type checker loses it."""
    module: nn.Module = model
    return cast(PreTrainedModel, module.to(device))


def load_processor(name: str | Path, revision: str | None = None, task: str | None = None) -> Processor:
    """The image processor, tokenizer or feature extractor of a model, in the variant that can be run here."""
    task, options = find_task(name, revision, task), {}
    if task == IMAGE:
        options["backend"] = "torchvision" if is_torchvision_available() else "pil"
    return TASKS[task].auto_processor.from_pretrained(name, revision=revision, **options)
