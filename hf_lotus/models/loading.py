"""Which models a run is of, and loading what is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    BaseImageProcessor,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SequenceFeatureExtractor,
)
from transformers.utils import CONFIG_NAME, is_torchvision_available

import hf_lotus.models.cifar_resnet  # noqa: F401 - registers a model
from hf_lotus.models.adapters import AdapterArguments, adapter_of, with_adapter
from hf_lotus.models.architectures import register_architecture
from hf_lotus.models.checks import require_possible
from hf_lotus.models.tasks import IMAGE, TASKS, find_task
from hf_lotus.utils.names import nearby, require_name
from hf_lotus.utils.text import counted, one_line

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

    Raises:
        ValueError: if it cannot be had, its weights lack a part of the model (a head that is drawn at random would be
            unlearned, and measured), or it is no classifier.
    """
    with loading("model", name):
        adapter, options = adapter_of(name, revision), {}
        if adapter is None:
            return _whole(name, revision, task)
        base, at = adapter.base_model_name_or_path, adapter.revision
        if (Path(name) / CONFIG_NAME).is_file():  # what it says of classes goes before what the base says
            options["config"] = AutoConfig.from_pretrained(name)
        # The head may be the adapter's.
        return with_adapter(_whole(base, at, task, may_lack_head=True, **options), name, revision)


def _whole(
    name: str, revision: str | None, task: str | None, may_lack_head: bool = False, **options: Any
) -> PreTrainedModel:
    config = PretrainedConfig.get_config_dict(name, revision=revision)[0]
    require_possible(config)
    register_architecture(config)
    model, found = TASKS[find_task(name, revision, task)].auto_model.from_pretrained(
        name,
        revision=revision,
        use_safetensors=True,
        dtype=torch.float32,
        trust_remote_code=False,
        output_loading_info=True,
        **options,
    )
    missing = sorted(found["missing_keys"])
    if missing and not may_lack_head:
        raise ValueError(
            f"its weights lack {counted(len(missing), 'tensor')} that the model has ({', '.join(missing[:4])}"
            f"{', …' if len(missing) > 4 else ''}), so that these would be random. Give the checkpoint of a model "
            "that was trained to the end, with its head"
        )
    return model


def on_device(model: PreTrainedModel, device: str | torch.device) -> PreTrainedModel:
    """The model, moved to a device: `model.to(device)`, which transformers wraps so that a type checker loses it.

    Raises:
        ValueError: if there is no such device here.
    """
    module: nn.Module = model
    try:
        return cast(PreTrainedModel, module.to(device))
    except (RuntimeError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(
            f"There is no device {str(device)!r} here: {one_line(error, 120)}. Take cpu, or cuda where there is a GPU."
        ) from error


def load_processor(name: str | Path, revision: str | None = None, task: str | None = None) -> Processor:
    """The image processor, tokenizer or feature extractor of a model, in the variant that can be run here.

    Raises:
        ValueError: if it cannot be had.
    """
    with loading("processor", str(name)):
        with suppress(OSError):  # a processor may stand alone
            require_possible(PretrainedConfig.get_config_dict(name, revision=revision)[0])
        task, options = find_task(name, revision, task), dict[str, Any](trust_remote_code=False)
        if task == IMAGE:
            options["backend"] = "torchvision" if is_torchvision_available() else "pil"
        return TASKS[task].auto_processor.from_pretrained(name, revision=revision, **options)


@contextmanager
def loading(what: str, name: str) -> Iterator[None]:
    """Say of which model an error is: a repository's files are anybody's, and whatever is in them may raise anything.

    Args:
        what: "model" or "processor".
        name: the Hub id or folder.

    Raises:
        ValueError: for whatever is raised in the block, but for a full memory; with the name and what may help.
    """
    require_name(name, "model_name_or_path", "a model")
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        near = "" if Path(name).is_dir() else f" {nearby(name)}"
        raise ValueError(f"The {what} {name!r} cannot be loaded: {_why(error)}.{near.rstrip()}") from error


def _why(error: Exception) -> str:
    """What an error of loading says, in fewer words where it is a usual one."""
    said = str(error)
    if "trust_remote_code" in said:
        return "it is written in code of its own, which hf-lotus does not run. Take a model that transformers has"
    if "Unrecognized configuration class" in said:
        return "transformers has no classifier of its kind"
    said = one_line(error, 400).rstrip(".") or type(error).__name__
    return said if type(error) in (ValueError, OSError) else f"{type(error).__name__}: {said}"
