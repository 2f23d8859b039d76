"""Models with adapters (PEFT): the adapter is trained, and the weights below it stay as they are, to the bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import find_adapter_config_file, is_peft_available

ADAPTER_CONFIG = "adapter_config.json"


@dataclass
class AdapterArguments:
    """Whether to train an adapter in place of the model's weights; the flags are those of TRL."""

    use_peft: bool = field(
        default=False,
        metadata={"help": "Put a LoRA adapter on the model and train that alone. A model that has one needs no flag."},
    )
    lora_r: int = field(default=16, metadata={"help": "Rank of the adapter."})
    lora_alpha: int = field(default=32, metadata={"help": "Its scale, times its rank."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout before it."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={"nargs": "+", "help": "Layers that get one, by the ends of their names. Default: all linear ones."},
    )

    def adapted(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model with a fresh adapter, which changes nothing until it is trained; or as it is, if none was asked.

        The classifier's head is frozen like all other weights, and has an adapter only where it is named.

        Raises:
            ValueError: if peft is not installed, the model has an adapter already, or no layer can take one.
        """
        if not self.use_peft:
            return model
        _require_peft()
        if is_adapted(model):
            raise ValueError("The model has an adapter already, which is trained alone: leave use_peft out.")
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=self.lora_r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=self.lora_target_modules or "all-linear",
        )
        made: Any = get_peft_model(model, config)
        return made


def is_adapted(model: nn.Module) -> bool:
    """Whether a model has adapters of PEFT."""
    return hasattr(model, "peft_config")


def without_wrapper(model: nn.Module) -> nn.Module:
    """The classifier that PEFT has wrapped, its adapters within it; any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def weights_below(model: nn.Module) -> dict[str, Tensor]:
    """What a model with adapters has below them, by the names that the weights have without; of others, all."""
    state = without_wrapper(model).state_dict()
    if not is_adapted(model):
        return state
    below = {}
    for name, value in state.items():
        plain = name.replace(".base_layer.", ".").replace(".original_module.", ".")
        if "lora_" not in name and ".modules_to_save." not in name:
            below[plain] = value
    return below


def adapter_of(name: str | Path, revision: str | None = None) -> Any:
    """The configuration of the adapter that a repository or folder holds; None where it holds whole weights.

    Raises:
        ValueError: if it holds an adapter, and peft is not installed.
    """
    if not is_peft_available() and not (Path(name) / ADAPTER_CONFIG).is_file():
        return None
    if find_adapter_config_file(str(name), revision=revision) is None:
        return None
    _require_peft()
    from peft import PeftConfig

    return PeftConfig.from_pretrained(str(name), revision=revision)


def with_adapter(base: PreTrainedModel, name: str, revision: str | None = None) -> PreTrainedModel:
    """A model with the adapter of a repository or folder, ready to be trained."""
    from peft import PeftModel

    loaded: Any = PeftModel.from_pretrained(base, name, revision=revision, is_trainable=True)
    return loaded


def save_config(model: nn.Module, folder: str | Path) -> None:
    """Write the classifier's configuration beside its adapter, which alone does not name the classes."""
    config = getattr(without_wrapper(model), "config", None)
    if is_adapted(model) and isinstance(config, PretrainedConfig):
        config.save_pretrained(folder)


def _require_peft() -> None:
    if not is_peft_available():
        raise ValueError("Adapters need peft, which is not installed here. pip install 'hf-lotus[peft]'.")
