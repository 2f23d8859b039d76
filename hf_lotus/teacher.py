"""The teacher: a frozen copy of the original model, asked once a run where its inputs never change."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hf_lotus.predictions import predict

# The logits on a round's samples are kept up to this size, four bytes a sample and class.
KEPT_LOGITS_BYTES = 1 << 30


class FrozenTeacher:
    """A copy of a model that shares no storage with it, in eval mode, without gradients.

    Args:
        model: the model to copy.
        device: where the copy is to be.

    Attributes:
        model: the copy.
    """

    def __init__(self, model: nn.Module, device: torch.device):
        self.model = copy.deepcopy(model).to(device).eval().requires_grad_(False)
        self._kept: Tensor | None = None

    def keep_logits(self, dataset: Dataset, **options) -> None:
        """Run over the samples of a round once and keep the logits, unless they would take too much memory.

        The order and the batches are always the same, so that a resumed run keeps the same logits to the bit.

        Args:
            dataset: the round's samples; they must be the same in every round, not augmented.
            **options: passed to `predict`.
        """
        num_labels = getattr(getattr(self.model, "config", None), "num_labels", None)
        if self._kept is None and num_labels and len(dataset) * num_labels * 4 <= KEPT_LOGITS_BYTES:
            self._kept = torch.from_numpy(predict(self.model, dataset, description="teacher", **options).logits)

    @torch.no_grad()
    def logits(self, inputs: dict[str, Tensor], positions: Tensor, autocast: AbstractContextManager) -> Tensor:
        """The logits on a batch, kept or computed; float32, shape (batch, classes).

        Args:
            inputs: the model's inputs.
            positions: the samples' places in the data set given to `keep_logits`, shape (batch,).
            autocast: the precision to compute in.
        """
        if self._kept is not None:
            return self._kept[positions.cpu() % len(self._kept)].to(positions.device)
        with autocast:
            return self.model(**inputs).logits.float()
