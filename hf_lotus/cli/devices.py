"""Where a command that trains nothing runs its models, and who reads its data."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass
class DeviceArguments:
    """Where models run; what trains takes `--use_cpu` and the loader's processes too, of the training arguments."""

    use_cpu: bool = field(default=False, metadata={"help": "Use no GPU."})
    device: str | None = field(default=None, metadata={"help": "Device. Default: a GPU if there is one."})
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "Processes that decode the images which --ready_images_dir lacks, where it pays."}
    )

    def __post_init__(self) -> None:
        if self.use_cpu and self.device not in (None, "cpu"):
            raise ValueError(f"--use_cpu and --device {self.device} exclude each other: leave one out.")
        if self.dataloader_num_workers < 0:
            raise ValueError(f"dataloader_num_workers must be 0 or more, got {self.dataloader_num_workers}.")

    @property
    def chosen(self) -> str:
        """The device's name, as torch has it."""
        if self.use_cpu:
            return "cpu"
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")
