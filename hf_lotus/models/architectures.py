"""Architectures that transformers does not have: another distribution's, imported when a checkpoint is of one.

A distribution says in its `pyproject.toml` which module registers which `model_type`:

    [project.entry-points."hf_lotus.models"]
    my_net = "my_package.my_net"

Python code that registers one itself (`AutoConfig.register`, …) needs no entry point. Code that lies beside a
checkpoint is never run.
"""

from __future__ import annotations

from pathlib import Path

from transformers import CONFIG_MAPPING, PretrainedConfig

from hf_lotus.utils.plugins import Registry


def _check(model_type: str, module: object) -> None:
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"importing it registers no model_type {model_type!r}. Call AutoConfig.register({model_type!r}, …) and an "
            "auto class's register there"
        )


ARCHITECTURES: Registry[object] = Registry("architecture", "hf_lotus.models", {}, _check)


def register_architecture(name: str | Path, revision: str | None = None) -> None:
    """See to it that transformers knows the architecture of a checkpoint, if an installed distribution has it.

    Args:
        name: the Hub id or folder.
        revision: branch, tag or commit.

    Raises:
        ValueError: if the distribution's module cannot be used.
        OSError: if there is no such model.
    """
    model_type = PretrainedConfig.get_config_dict(name, revision=revision)[0].get("model_type")
    if isinstance(model_type, str) and model_type not in CONFIG_MAPPING and model_type in ARCHITECTURES:
        ARCHITECTURES[model_type]
