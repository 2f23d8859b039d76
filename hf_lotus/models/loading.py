"""Which models a run is of, and loading what is named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import AutoImageProcessor, AutoModelForImageClassification, BaseImageProcessor, PreTrainedModel
from transformers.utils.import_utils import is_torchvision_available

import hf_lotus.models.cifar_resnet  # noqa: F401 - registers a model
from hf_lotus.utils.names import nearby, require_name
from hf_lotus.utils.text import counted, one_line


@dataclass
class ModelArguments:
    """Which model to unlearn."""

    model_name_or_path: str = field(metadata={"help": "The trained model: a Hub id or a local folder."})
    model_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the model."})
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


def all_retrained(one: str | None, several: Sequence[str] | None) -> list[str]:
    """The models of `--retrain_model` and `--retrain_models`, none of them twice."""
    return list(dict.fromkeys([*([one] if one else []), *(several or [])]))


def load_model(name: str, revision: str | None = None) -> PreTrainedModel:
    """An image classifier from the Hub or a folder: float32, weights from safetensors alone, no code from there.

    Raises:
        ValueError: if it cannot be had, its weights lack a part of the model (a head that is drawn at random would be
            unlearned, and measured), or it is no image classifier.
    """
    with loading("model", name):
        model, found = AutoModelForImageClassification.from_pretrained(
            name,
            revision=revision,
            use_safetensors=True,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
        )
        missing = sorted(found["missing_keys"])
        if missing:
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


def load_processor(name: str | Path, revision: str | None = None) -> BaseImageProcessor:
    """The image processor of a model, in the variant that the installed libraries can run.

    Raises:
        ValueError: if it cannot be had.
    """
    backend = "torchvision" if is_torchvision_available() else "pil"
    with loading("image processor", str(name)):
        return AutoImageProcessor.from_pretrained(name, revision=revision, backend=backend, trust_remote_code=False)


@contextmanager
def loading(what: str, name: str) -> Iterator[None]:
    """Say of which model an error is: a repository's files are anybody's, and whatever is in them may raise anything.

    Args:
        what: "model", or "image processor".
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
        return "transformers has no image classifier of its kind"
    said = one_line(error, 400).rstrip(".") or type(error).__name__
    return said if type(error) in (ValueError, OSError) else f"{type(error).__name__}: {said}"
