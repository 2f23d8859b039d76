"""What an original model makes of a data set that is not divided yet: by it, what to forget may be chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from hf_lotus.data.columns import InputOptions
from hf_lotus.data.prepared import ready
from hf_lotus.evaluation.predictions import predict

if TYPE_CHECKING:
    from typing_extensions import Unpack

# One batch size for all who choose: logits, and so the choice, may differ in their last bits with another.
_BATCH_SIZE = 256


def logits_on(
    model: nn.Module, processor: object, device: str | torch.device, **options: Unpack[InputOptions]
) -> Callable[[Dataset, str], np.ndarray]:
    """A function: data set and label column → the model's logits, shape (rows, classes), in eval mode.

        load_splits(DataArguments("photos", forget_hardest=0.1), logits_of=logits_on(model, processor, "cpu"))

    The choice is the same wherever the logits are: on one kind of device with one version of PyTorch to the bit, and
    otherwise but for rows that are as hard as each other to the last digits.

    Args:
        model: the original; taken to the device, and back.
        processor: its image processor or tokenizer.
        device: where to compute.
        **options: columns and lengths, where they cannot be told from the features; the label column is told later.
    """

    def logits(dataset: Dataset, label_column: str) -> np.ndarray:
        given: InputOptions = {**options, "label_column": label_column}
        samples = ready(dataset, processor, "train split", **given)
        return predict(
            model, samples, batch_size=_BATCH_SIZE, description="original on train", device=torch.device(device)
        ).kept_logits

    return logits
