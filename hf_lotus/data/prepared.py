"""The sets of a run: what the user gave, checked against the model and made ready for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import datasets
from torch.utils.data import Dataset
from transformers import BaseImageProcessor, PreTrainedTokenizerBase, SequenceFeatureExtractor

from hf_lotus.data.audio import ReadyAudio
from hf_lotus.data.checks import check_label_names, check_labels, check_rows
from hf_lotus.data.columns import InputOptions, find_samples, has_plain_columns, require_map_style
from hf_lotus.data.images import ReadyImages
from hf_lotus.data.samples import ReadySamples, kind_of
from hf_lotus.data.sized import sized
from hf_lotus.data.text import ReadyText

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Kind:
    """How the raw samples of one kind are made ready.

    Attributes:
        ready: the class of samples made ready; takes data set, processor, and the options by name.
        processor: the class of processors that it needs.
        words: what to call raw samples, and their processor, in an error.
        load: how such a processor is loaded.
        options: which of `InputOptions` it takes.
    """

    ready: Callable[..., ReadySamples]
    processor: type
    words: tuple[str, str]
    load: str
    options: tuple[str, ...]


KINDS: Mapping[str, Kind] = {
    "image": Kind(
        ReadyImages,
        BaseImageProcessor,
        ("raw images", "an image processor"),
        "AutoImageProcessor",
        ("image_column", "label_column", "ready_images_dir", "decoding_workers"),
    ),
    "text": Kind(
        ReadyText,
        PreTrainedTokenizerBase,
        ("raw texts", "a tokenizer"),
        "AutoTokenizer",
        ("text_column", "label_column", "max_length"),
    ),
    "audio": Kind(
        ReadyAudio,
        SequenceFeatureExtractor,
        ("raw clips", "a feature extractor"),
        "AutoFeatureExtractor",
        ("audio_column", "label_column", "max_length"),
    ),
}


def ready(
    dataset: Dataset,
    processor: object,
    what: str = "data set",
    *,
    num_labels: int | None = None,
    **options: Unpack[InputOptions],
) -> Dataset:
    """Make a data set ready for a model: raw images, texts and clips become `ReadySamples`, others are left alone.

    Args:
        dataset: a `datasets.Dataset` with raw samples, or a data set that already yields model inputs and labels, such
            as one with a transform of the user's.
        processor: the processing class of the model (image processor, tokenizer, feature extractor, or None).
        what: how to call the data set in an error.
        num_labels: the model's number of classes, to choose between several label columns.
        **options: columns and lengths, where the user named them.

    Raises:
        TypeError: for a streamed data set.
        ValueError: if there are raw samples and no processor for their kind.
    """
    require_map_style(dataset, what)
    if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] == "custom":
        return dataset
    found = find_samples(dataset, **options)
    tokenizer = isinstance(processor, PreTrainedTokenizerBase)
    name = found[0] if found is not None else "text" if tokenizer and has_plain_columns(dataset) else None
    inputs = getattr(processor, "model_input_names", None) or ["pixel_values"]
    if (
        name in (None, "text")
        and isinstance(processor, BaseImageProcessor)
        and not set(inputs) & set(dataset.column_names)
    ):
        raise ValueError(
            f"The {what} has no image column, and the model is an image classifier; its columns are "
            f"{', '.join(dataset.column_names)}. Give the images that it was trained on."
        )
    if name is None or (name == "text" and not tokenizer and not options.get("text_column")):
        return dataset  # a text by its name alone may stand beside inputs that only the user knows
    kind = KINDS[name]
    if not isinstance(processor, kind.processor):
        raise ValueError(
            f"The {what} has {kind.words[0]}, which only {kind.words[1]} turns into model inputs. "
            f"Pass processing_class={kind.load}.from_pretrained(…), got {type(processor).__name__}."
        )
    taken = {name: value for name, value in options.items() if name in kind.options}
    return kind.ready(dataset, processor, num_labels=num_labels, **taken)


def ready_splits(
    given: Mapping[str, Dataset | None],
    config: object | None,
    processing_class: object | None,
    **options: Unpack[InputOptions],
) -> tuple[dict[str, Dataset | None], bool]:
    """Check the sets of a run and make them ready for a model.

    Args:
        given: "forget", "retain", "unseen" and "test" → data set as the user gave it, or None.
        config: the model's configuration.
        processing_class: the model's image processor, tokenizer or feature extractor.
        **options: columns and lengths, where the user named them.

    Returns:
        the same names → ready data set or None, and whether whole classes are forgotten.

    Raises:
        TypeError: for a streamed set, or raw samples on one side and others on the other.
        ValueError: for an empty set, shared rows, labels or class names that are not the model's, raw samples without
            their processor, or texts that are longer than the model takes.
    """
    check_rows(given)
    num_labels = getattr(config, "num_labels", None)
    unkept: InputOptions = {**options, "ready_images_dir": None}
    splits: dict[str, Dataset | None] = {
        name: ready(
            dataset,
            processing_class,
            f"{name} set",
            num_labels=num_labels,
            **(options if name != "forget" or options.get("keep_forgotten", True) else unkept),
        )
        if dataset is not None
        else None
        for name, dataset in given.items()
    }
    if kind_of(splits["forget"]) != kind_of(splits["retain"]):
        raise TypeError("The forget and the retain set must hold raw samples of one kind, or both model inputs.")
    class_wise = check_labels(splits, num_labels)
    for name, dataset in given.items():
        check_label_names(dataset, options.get("label_column"), config)
        _check_length(splits[name], name, config)
    return splits, class_wise


def _check_length(dataset: Any, name: str, config: object | None) -> None:
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(dataset, ReadyText) and isinstance(positions, int) and dataset.longest > positions > 0:
        raise ValueError(
            f"The {name} set has a text of {dataset.longest} tokens, the model takes {positions}, and the tokenizer "
            f"does not say so. Give max_length={positions}, or as many as the model was trained with."
        )


def num_samples(dataset: Dataset) -> int:
    """Samples of a data set; torch's `Dataset` does not declare the length that all but streamed ones have."""
    return len(sized(dataset))
