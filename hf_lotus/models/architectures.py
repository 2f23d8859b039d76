"""Architectures that transformers does not have: another distribution's, imported when a checkpoint is of one.

A distribution says in its `pyproject.toml` which module registers which `model_type`:

    [project.entry-points."hf_lotus.models"]
    my_net = "my_package.my_net"

Python code that registers one itself (`AutoConfig.register`, …) needs no entry point. Code that lies beside a
checkpoint is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING

from hf_lotus.utils.plugins import Registry


def _check(model_type: str, module: object) -> None:
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"importing it registers no model_type {model_type!r}. Call AutoConfig.register({model_type!r}, …) and an "
            "auto class's register there"
        )


ARCHITECTURES: Registry[object] = Registry("architecture", "hf_lotus.models", {}, _check)


def register_architecture(config: Mapping[str, Any]) -> None:
    """See to it that transformers knows the architecture of a checkpoint, if an installed distribution has it.

    Args:
        config: what its `config.json` holds.

    Raises:
        ValueError: if the distribution's module cannot be used.
    """
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type not in CONFIG_MAPPING and model_type in ARCHITECTURES:
        ARCHITECTURES[model_type]
