"""What must hold of a model and its data before anything is trained or measured."""

from __future__ import annotations

from collections.abc import Mapping

import datasets
import torch
from torch.utils.data import Dataset

from hf_lotus.data.batches import read_dataset_labels
from hf_lotus.data.columns import find_label_column, shared_base_rows


def require_unseen(dataset: Dataset | None, method: str) -> None:
    """Raise `ValueError` if a method that decides by unseen data was given none."""
    if dataset is None:
        raise ValueError(
            f"{method} needs unseen_dataset, data of the same kind that the model was never trained on (a validation "
            "split, on the command line --unseen_split): it sets how far to forget. Only where whole classes are "
            "forgotten can it be left out."
        )


def check_rows(splits: Mapping[str, Dataset | None]) -> None:
    """Raise `ValueError` for an empty set, and for rows that two sets share.

    Args:
        splits: name → data set as the user gave it, or None.
    """
    present = {name: dataset for name, dataset in splits.items() if dataset is not None}
    for name, dataset in present.items():
        if hasattr(dataset, "__len__") and len(dataset) == 0:
            raise ValueError(f"The {name} set is empty. Give at least one sample, or leave it out.")
    names = list(present)
    for position, first in enumerate(names):
        for second in names[position + 1 :]:
            shared = shared_base_rows(present[first], present[second])
            if shared:
                raise ValueError(
                    f"The {first} set and the {second} set share {len(shared)} rows (of the {first} set: "
                    f"{', '.join(map(str, shared[:5]))}{', …' if len(shared) > 5 else ''}). Take them out of one."
                )


def check_labels(splits: Mapping[str, Dataset | None], num_labels: int | None) -> bool:
    """Check labels against the model's classes; return whether whole classes are forgotten.

    Unlearning is *class-wise* where no retained sample has the class of a forgotten one.

    Args:
        splits: name → data set made ready, or None; "forget" and "retain" are there.
        num_labels: the model's number of classes, where it says so.

    Raises:
        ValueError: if a label lies outside the model's classes.
    """
    present = {name: read_dataset_labels(data).unique() for name, data in splits.items() if data is not None}
    for name, labels in present.items():
        if num_labels is None:
            continue
        outside = labels[(labels < 0) | (labels >= num_labels)]
        if len(outside):
            assert num_labels is not None
            raise ValueError(
                f"The {name} set has label {int(outside[0])}, and the model has {num_labels} classes "
                f"(0 to {num_labels - 1}). Use the label column that the model was trained on."
            )
    return not torch.isin(present["forget"], present["retain"]).any().item()


def check_label_names(dataset: Dataset | None, label_column: str | None, config: object | None) -> None:
    """Check that model and data set number their classes alike, where both name the same classes.

    Args:
        dataset: the data set as the user gave it, or None.
        label_column: the label column, where the user named it.
        config: the model's configuration.

    Raises:
        ValueError: if a class has another number in the data set than in the model.
    """
    names = getattr(config, "id2label", None)
    if not names or not isinstance(dataset, datasets.Dataset):
        return
    feature = dataset.features[find_label_column(dataset, label_column, len(names))]
    if not isinstance(feature, datasets.ClassLabel):
        return
    modelled, given = [str(names[number]) for number in sorted(names)], list(feature.names)
    if sorted(modelled) == sorted(given) and modelled != given:
        number = next(n for n, (a, b) in enumerate(zip(modelled, given, strict=True)) if a != b)
        raise ValueError(
            f"Class {number} is {modelled[number]!r} to the model and {given[number]!r} in the data set, whose "
            "classes are in another order. Renumber: dataset.align_labels_with_mapping(model.config.label2id, column)."
        )
