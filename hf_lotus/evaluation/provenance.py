"""Where figures come from: library versions, hardware and the command, without secrets."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

from hf_lotus.utils.cost import process_cost

LIBRARIES = ("hf-lotus", "torch", "transformers", "accelerate", "datasets", "numpy", "scikit-learn")
# Flags whose values are nobody else's: secrets, and the people whose data is to be forgotten.
_SECRET_FLAGS = (
    *("token", "secret", "password", "api_key", "api-key"),
    *("forget_values", "forget-values", "forget_rows", "forget-rows"),
)
_HUB_TOKEN = re.compile(r"hf_[A-Za-z0-9]{30,}")


def provenance(**run: object) -> dict[str, object]:
    """Where figures come from: library versions, hardware, command, cost, and what the caller adds (`run`).

    The cost is that of this process until now (`process_cost`), whatever it did: of a command, all of it but its end.

    Values of command-line flags that name a secret ("token", "password", …) or people to forget are left out, and so
    are tokens of the Hub.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "versions": {name: _version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "hardware": {
            "device": device,
            "cpus": os.cpu_count(),
            "platform": f"{platform.system()} {platform.machine()}",
        },
        "cost": process_cost(),
        "command": " ".join(_without_secrets([Path(sys.argv[0]).name, *sys.argv[1:]])),
        **run,
    }


def _processor() -> str:
    """The CPU's name; `platform` does not know it on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    clean, hide = [], False
    for argument in arguments:
        is_flag = argument.startswith("--")
        flag, has_value, _ = argument.partition("=")
        secret = is_flag and any(word in flag.lower() for word in _SECRET_FLAGS)
        if hide and not is_flag:
            argument = "***"
        elif secret and has_value:
            argument = f"{flag}=***"
        clean.append(_HUB_TOKEN.sub("***", argument))
        if is_flag:
            hide = secret and not has_value
    return clean
