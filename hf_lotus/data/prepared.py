"""The sets of a run: what the user gave, checked against the model and made ready for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeGuard

from torch import Tensor
from torch.utils.data import Dataset

from hf_lotus.data.checks import check_label_names, check_labels, check_rows
from hf_lotus.data.images import ReadyImages, ready
from hf_lotus.data.sized import sized


def ready_splits(
    given: Mapping[str, Dataset | None], config: object | None, processing_class: object | None, **columns: str | None
) -> tuple[dict[str, Dataset | None], bool]:
    """Check the sets of a run and make them ready for a model.

    Args:
        given: "forget", "retain", "unseen" and "test" → data set as the user gave it, or None.
        config: the model's configuration.
        processing_class: the model's image processor or tokenizer.
        **columns: `image_column` and `label_column`, where the user named them.

    Returns:
        the same names → ready data set or None, and whether whole classes are forgotten.

    Raises:
        TypeError: for a streamed set, or raw images on one side and model inputs on the other.
        ValueError: for an empty set, shared rows, labels or class names that are not the model's, or raw images
            without an image processor.
    """
    check_rows(given)
    num_labels = getattr(config, "num_labels", None)
    splits: dict[str, Dataset | None] = {
        name: ready(dataset, processing_class, f"{name} set", num_labels=num_labels, **columns)
        if dataset is not None
        else None
        for name, dataset in given.items()
    }
    if isinstance(splits["forget"], ReadyImages) != isinstance(splits["retain"], ReadyImages):
        raise TypeError("The forget and the retain set must both hold raw images, or both model inputs.")
    class_wise = check_labels(splits, num_labels)
    for dataset in given.values():
        check_label_names(dataset, columns.get("label_column"), config)
    return splits, class_wise


class BatchedDataset(Protocol):
    """A data set that gives whole batches, which become model inputs on the device, as `ReadyImages` does."""

    def __len__(self) -> int: ...

    def __getitems__(self, rows: Sequence[int] | Tensor) -> dict[str, Tensor]: ...

    def finish(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batch with its samples made model inputs, on the device that they are on."""


def num_samples(dataset: Dataset) -> int:
    """Samples of a data set; torch's `Dataset` does not declare the length that all but streamed ones have."""
    return len(sized(dataset))


def gives_batches(dataset: Dataset) -> TypeGuard[BatchedDataset]:
    """Whether a data set gives whole batches, which are finished on the device, as those of `images` do."""
    return hasattr(dataset, "finish")
