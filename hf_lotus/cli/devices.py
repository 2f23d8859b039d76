"""Where a command that trains nothing runs its models."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass
class DeviceArguments:
    """Where models run; what trains takes `--use_cpu` too, of the training arguments."""

    use_cpu: bool = field(default=False, metadata={"help": "Use no GPU."})
    device: str | None = field(default=None, metadata={"help": "Device. Default: a GPU if there is one."})

    def __post_init__(self) -> None:
        if self.use_cpu and self.device not in (None, "cpu"):
            raise ValueError(f"--use_cpu and --device {self.device} exclude each other: leave one out.")

    @property
    def chosen(self) -> str:
        """The device's name, as torch has it."""
        if self.use_cpu:
            return "cpu"
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")
