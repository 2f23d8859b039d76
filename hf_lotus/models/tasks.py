"""The kinds of classifiers that can be unlearned, by the Hub's names for their tasks, and which one a model is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from torch import nn
from transformers import (
    MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
)

from hf_lotus.models.adapters import without_wrapper
from hf_lotus.models.architectures import register_architecture
from hf_lotus.utils.text import nearest

IMAGE, TEXT, AUDIO = "image-classification", "text-classification", "audio-classification"


@dataclass(frozen=True)
class ClassifierKind:
    """What loads the models of a task.

    Attributes:
        auto_model: transformers' auto class of the models.
        models: configuration class → model class or classes.
        auto_processor: transformers' auto class of what makes model inputs.
        ending: of the names of its model classes.
    """

    auto_model: Any
    models: Any
    auto_processor: Any
    ending: str


TASKS: Mapping[str, ClassifierKind] = {
    IMAGE: ClassifierKind(
        AutoModelForImageClassification,
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        AutoImageProcessor,
        "ForImageClassification",
    ),
    TEXT: ClassifierKind(
        AutoModelForSequenceClassification,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        AutoTokenizer,
        "ForSequenceClassification",
    ),
    AUDIO: ClassifierKind(
        AutoModelForAudioClassification,
        MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING,
        AutoFeatureExtractor,
        "ForAudioClassification",
    ),
}


def find_task(name: str | Path, revision: str | None = None, task: str | None = None) -> str:
    """The task of a model on the Hub or in a folder: what its configuration says, else the Hub's pipeline tag.

    Args:
        name: the Hub id or folder.
        revision: branch, tag or commit.
        task: the user's choice, which overrules both.

    Raises:
        ValueError: if there is no such task here, it cannot be told, or it is not one of the model's family.
        OSError: if there is no such model.
    """
    if task is not None:
        if task not in TASKS:
            raise ValueError(f"There is no task {task!r}. {nearest(task, list(TASKS))}")
        try:
            config, possible = _possible_tasks(name, revision)
        except (OSError, ValueError):  # a processor may stand alone; of a model, loading it says what is wrong
            return task
        if possible and task not in possible:
            known = " or ".join(possible)
            raise ValueError(f"{name} is a model for {known} ({config.model_type}), not for {task}.")
        return task
    config, possible = _possible_tasks(name, revision)
    if len(possible) > 1:  # a family that reads pictures and texts: the architecture tells
        written = set(config.architectures or ())
        possible = [each for each in possible if written & _classes(TASKS[each], type(config))] or possible
    if len(possible) > 1 and not Path(name).exists():
        tag = HfApi().model_info(str(name), revision=revision).pipeline_tag
        possible = [tag] if tag in possible else possible
    if len(possible) != 1:
        said = f"can be a model for {' or '.join(possible)}" if possible else f"is no classifier ({config.model_type})"
        raise ValueError(f"{name} {said}. Give task: one of {', '.join(TASKS)}.")
    return possible[0]


def _possible_tasks(name: str | Path, revision: str | None) -> tuple[PretrainedConfig, list[str]]:
    """A model's configuration, and the tasks that transformers has a model of its family for."""
    register_architecture(PretrainedConfig.get_config_dict(name, revision=revision)[0])
    config = AutoConfig.from_pretrained(name, revision=revision)
    return config, [each for each, kind in TASKS.items() if type(config) in kind.models]


def _classes(kind: ClassifierKind, config: type) -> set[str]:
    found = kind.models[config]
    return {each.__name__ for each in (found if isinstance(found, tuple) else (found,))}


def task_of(model: nn.Module) -> str | None:
    """The task of a model that is at hand; None where neither its configuration nor its class tells it."""
    model = without_wrapper(model)
    name, config = type(model).__name__, type(getattr(model, "config", None))
    for task, kind in TASKS.items():
        if config in kind.models and name in _classes(kind, config):
            return task
    # A speech model's class may end as one for texts: only what transformers does not know goes by its name.
    known = any(config in kind.models for kind in TASKS.values())
    return None if known else next((task for task, kind in TASKS.items() if name.endswith(kind.ending)), None)
