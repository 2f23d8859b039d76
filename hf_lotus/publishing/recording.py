"""The record of a run's forget set: what of it is told, and how its data set was loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hf_lotus.data.loading import DatasetArguments
from hf_lotus.data.splits import ForgetRetainSplit
from hf_lotus.publishing.digests import Salt
from hf_lotus.publishing.record import ForgetSetRecord, salt_path

# What of the data arguments a verification needs again to cut the data set in the same way.
LOADING = (
    *("dataset_config", "train_split", "unseen_split", "test_split", "unseen_fraction", "split_seed"),
    *("image_column", "text_column", "audio_column", "label_column", "max_length", "duplicates"),
)


@dataclass
class RecordArguments:
    """What the record of the forget set tells."""

    salt_file: str | None = field(
        default=None,
        metadata={
            "help": "File of the salt of the record's digests: used if it is there, else made. Keep it, and to "
            "yourself. Default: beside the output folder, named after it."
        },
    )
    record_rows: bool = field(default=False, metadata={"help": "Publish the row numbers of the forget set, openly."})
    record_classes: bool = field(default=True, metadata={"help": "Publish how many samples of each class it has."})


def record_split(
    split: ForgetRetainSplit,
    data: DatasetArguments,
    arguments: RecordArguments,
    output_dir: str,
    num_labels: int,
    **what: Any,
) -> ForgetSetRecord:
    """The record of what is to be forgotten, before it is forgotten: one pass of hashing over the forget set.

    Args:
        split: what is to be forgotten.
        data: what the data set was loaded by.
        arguments: what the record tells.
        output_dir: the run's folder; the salt is kept beside it.
        num_labels: the model's number of classes.
        **what: further attributes of the record, such as `base_model`, `requests` and `previous`.

    Raises:
        OSError: if the salt cannot be read or written.
        ValueError: if the salt's file is not a salt's.
    """
    return ForgetSetRecord.of_split(
        split,
        Salt.read_or_create(arguments.salt_file or salt_path(output_dir)),
        name=data.dataset_name,
        revision=data.dataset_revision,
        image_column=data.image_column,
        text_column=data.text_column,
        audio_column=data.audio_column,
        label_column=data.label_column,
        num_labels=num_labels,
        open_rows=arguments.record_rows,
        class_histogram=arguments.record_classes,
        loading={name: getattr(data, name) for name in LOADING},
        **what,
    )
