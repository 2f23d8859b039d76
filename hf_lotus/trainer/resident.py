"""The samples of a round on the device for good: a batch is its positions, and the rest is gathered there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from hf_lotus.data.batches import FORGET_FLAG, POSITION
from hf_lotus.data.samples import are_ready
from hf_lotus.trainer.round_data import RoundDataset
from hf_lotus.utils.memory import fits

# Rows that are read and sent at once.
_BLOCK = 512


def may_reside(samples: RoundDataset, device: torch.device, asked: bool | None = None) -> bool:
    """Whether the samples of a round may lie on the device.

    They must be rows of one size each, which pictures are and padded texts are not. On a CPU they are where they would
    be, so that they are moved only where the user asks for it.

    Args:
        samples: of the round.
        device: where.
        asked: what the user says; None to let the device's free memory decide (`fits`).
    """
    sides = samples.forget, samples.retain
    if asked is None and device.type == "cpu":
        return False
    sizes = {side.row_bytes if are_ready(side) else None for side in sides}
    size = sizes.pop()
    return not sizes and size is not None and fits(size * len(samples), device, asked)


class ResidentRound(Dataset):
    """The samples of a round, read once and held on the device; to a loader, their positions alone.

    Args:
        samples: of the round.
        device: where they are to be held.
        num_workers: processes that decode what is not decoded yet.
        progress: whether to show a bar.
    """

    def __init__(self, samples: RoundDataset, device: torch.device, num_workers: int = 0, progress: bool = False):
        self.size, self.num_forget = len(samples), samples.num_forget
        self._held: dict[str, Tensor] = {}
        blocks = list(torch.arange(self.size).split(_BLOCK))
        loader = DataLoader(
            samples,
            batch_sampler=[block.tolist() for block in blocks],
            collate_fn=dict,
            num_workers=num_workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # not the global state, which a resumed run must find the same
        )
        bar = tqdm(loader, desc="Samples to the device", unit="block", leave=False, disable=not progress)
        for block, batch in zip(blocks, bar, strict=True):
            for name in batch.keys() - {FORGET_FLAG, POSITION}:
                values = batch[name]
                if name not in self._held:
                    self._held[name] = torch.empty((self.size, *values.shape[1:]), dtype=values.dtype, device=device)
                self._held[name][int(block[0]) : int(block[-1]) + 1].copy_(values, non_blocking=True)

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, positions: Sequence[int]) -> dict[str, Tensor]:
        return {POSITION: torch.as_tensor(positions)}

    def batch(self, positions: Tensor) -> dict[str, Tensor]:
        """What `RoundDataset.__getitems__` gives of these positions, gathered where they are."""
        places = positions % self.size
        gathered = {name: values.index_select(0, places) for name, values in self._held.items()}
        return {**gathered, FORGET_FLAG: places < self.num_forget, POSITION: positions}
