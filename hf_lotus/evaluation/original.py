"""What an original model makes of a data set that is not divided yet: by it, what to forget may be chosen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from hf_lotus.data.images import ready
from hf_lotus.evaluation.predictions import predict

# One batch size for all who choose: logits, and so the choice, may differ in their last bits with another.
_BATCH_SIZE = 256


def logits_on(
    model: nn.Module, processor: object, device: str | torch.device, image_column: str | None = None
) -> Callable[[Dataset, str], np.ndarray]:
    """A function: data set and label column → the model's logits, shape (rows, classes), in eval mode.

        load_splits(DataArguments("photos", forget_hardest=0.1), logits_of=logits_on(model, processor, "cpu"))

    The choice is the same wherever the logits are: on one kind of device with one version of PyTorch to the bit, and
    otherwise but for rows that are as hard as each other to the last digits.

    Args:
        model: the original; taken to the device, and back.
        processor: its image processor.
        device: where to compute.
        image_column: name of the image column, where it cannot be told from the features.
    """

    def logits(dataset: Dataset, label_column: str) -> np.ndarray:
        samples = ready(dataset, processor, "train split", image_column=image_column, label_column=label_column)
        return predict(
            model, samples, batch_size=_BATCH_SIZE, description="original on train", device=torch.device(device)
        ).kept_logits

    return logits
