"""What to unlearn from: which data, and loading it into the four sets of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from hf_lotus.data.columns import InputOptions, SampleColumns, find_label_column, find_samples, read_labels
from hf_lotus.data.duplicates import content_digests, find_duplicates, shared_rows
from hf_lotus.data.forget_choice import ForgetArguments
from hf_lotus.data.mufac import clean_mufac, is_mufac, load_mufac
from hf_lotus.data.selections import split_by_confusion, split_by_memorisation
from hf_lotus.data.splits import ForgetRetainSplit, check_fraction, stratified_rows
from hf_lotus.functional.memorisation import PROXIES
from hf_lotus.utils.names import nearby, require_name
from hf_lotus.utils.seeds import require_seed
from hf_lotus.utils.text import nearest, one_line

VALIDATION_NAMES = ("validation", "valid", "val", "dev")


@dataclass
class DatasetArguments:
    """Which data the model was trained on, and how it is cut into parts."""

    dataset_name: str = field(metadata={"help": "Data set: a Hub id or a local folder."})
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of the data set."})
    dataset_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the data set."})
    train_split: str = field(default="train", metadata={"help": "Split that the model was trained on."})
    unseen_split: str | None = field(
        default=None,
        metadata={
            "help": "Split that was never trained on and is not the test split. Default: the validation split, or, "
            "where there is none, a part of the test split that is then no longer tested on."
        },
    )
    test_split: str = field(default="test", metadata={"help": "Split to test on."})
    unseen_fraction: float = field(
        default=0.5, metadata={"help": "Part of the test split to use as unseen data where there is no other."}
    )
    image_column: str | None = field(default=None, metadata={"help": "Image column. Default: the only one."})
    text_column: list[str] | None = field(
        default=None,
        metadata={"nargs": "+", "help": "Text column, or two whose texts belong together. Default: the usual names."},
    )
    audio_column: str | None = field(default=None, metadata={"help": "Column of clips. Default: the only one."})
    label_column: str | None = field(default=None, metadata={"help": "Label column. Default: the one that fits."})
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Tokens after which a text is cut off, or samples of a clip. Default: as many as the model takes."
        },
    )
    ready_images_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder where decoded and resized images are kept for other runs and commands to take; what it "
            "lacks is decoded by --dataloader_num_workers processes, where that pays. It then holds the images "
            "themselves, the forgotten ones too. Default: they are decoded by every run."
        },
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of random splits."})
    duplicates: str = field(
        default="report",
        metadata={
            "choices": ["report", "move", "drop", "ignore"],
            "help": "Retained samples identical to a forgotten one: report them, move them to the forget set, or drop "
            "them. Move and drop also take such samples out of the unseen and test sets. Ignore does not look.",
        },
    )

    @property
    def columns(self) -> SampleColumns:
        """Which columns hold the samples, as far as that was said."""
        return SampleColumns(
            image_column=self.image_column, text_column=self.text_column, audio_column=self.audio_column
        )

    @property
    def inputs(self) -> InputOptions:
        """How rows become model inputs, as far as that was said."""
        return {
            **self.columns,
            "label_column": self.label_column,
            "max_length": self.max_length,
            "ready_images_dir": self.ready_images_dir,
        }

    def inputs_by(self, workers: int) -> InputOptions:
        """The same, with the number of processes that decode what `ready_images_dir` lacks."""
        return {**self.inputs, "decoding_workers": workers}


@dataclass
class DataArguments(ForgetArguments, DatasetArguments):
    """Which data the model was trained on, and which of it to forget."""

    forget_fraction: float | None = field(
        default=None, metadata={"help": "Forget this random fraction of each class."}
    )
    forget_hardest: float | None = field(
        default=None,
        metadata={
            "help": "Forget this fraction of each class: the training samples that the original model has memorised "
            "most, by forget_proxy."
        },
    )
    forget_easiest: float | None = field(
        default=None, metadata={"help": "The same of those that it has memorised least."}
    )
    forget_proxy: str = field(
        default="confidence",
        metadata={
            "choices": list(PROXIES),
            "help": "What forget_hardest and forget_easiest go by: the original's confidence of the true class "
            "(little is hard), its margin, its entropy (much is hard), or the margin's rank within the class.",
        },
    )
    forget_confusion: list[str] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "help": "Two classes and a fraction (cat dog 0.1): forget this fraction of each of the two, the training "
            "samples that the original model most takes for the other one.",
        },
    )

    @property
    def needs_logits(self) -> bool:
        """Whether what to forget is chosen by what the original model makes of its training data."""
        return any(way is not None for way in (self.forget_hardest, self.forget_easiest, self.forget_confusion))


@dataclass(frozen=True)
class LoadedData:
    """The four sets of a run.

    Attributes:
        split: the forget and the retain set.
        unseen: data that was never trained on, where there is any.
        test: the test set, where there is one.
        duplicates: what was found about duplicates; "" where nobody looked.
    """

    split: ForgetRetainSplit
    unseen: Dataset | None = None
    test: Dataset | None = None
    duplicates: str = ""

    @property
    def sets(self) -> dict[str, Dataset | None]:
        """The four by the names that everything else calls them by."""
        return {"forget": self.split.forget, "retain": self.split.retain, "unseen": self.unseen, "test": self.test}

    def provenance(self) -> dict[str, Any]:
        """What a result records of the choice, as JSON values."""
        chosen = {"selector": dict(self.split.selector), "split_digest": self.split.digest}
        return {**chosen, "duplicates": self.duplicates}


def load_splits(
    arguments: DatasetArguments,
    num_labels: int | None = None,
    select: Callable[..., ForgetRetainSplit] | None = None,
    reduce: Callable[[DatasetDict], DatasetDict] | None = None,
    logits_of: Callable[[Dataset, str], np.ndarray] | None = None,
) -> LoadedData:
    """Load the data set and choose what to forget, what is unseen, and what to test on.

        data = load_splits(DataArguments("cifar10", forget_fraction=0.1))
        data.split.forget, data.split.retain, data.unseen, data.test

    Args:
        arguments: which data; `DataArguments` say also what to forget.
        num_labels: the model's number of classes; chooses between several label columns.
        select: chooses what to forget from (train split, arguments, label column), in place of `DataArguments`.
        reduce: leaves rows out of the splits before anything is chosen; by default none.
        logits_of: gives the original model's logits on (train split, label column), shape (rows, classes), where what
            to forget is chosen by them (`hf_lotus.evaluation.original.logits_on`).

    Raises:
        ValueError: if a split, column, class, value or row does not exist, not exactly one selection was made, or it
            needs the logits of a model and none was given.
    """
    require_seed(arguments.split_seed, "split_seed")
    data = _load(arguments)
    for name in {arguments.train_split, arguments.test_split, arguments.unseen_split} - {"test"}:
        if name is not None and name not in data:
            raise ValueError(f"The data set has no split {name!r}. {nearest(name, list(data))}")
    if not len(data[arguments.train_split]):
        raise ValueError(f"The split {arguments.train_split!r} of {arguments.dataset_name} has no rows to forget.")
    data = data if reduce is None else reduce(data)
    train, test = data[arguments.train_split], data.get(arguments.test_split)
    label_column = find_label_column(train, arguments.label_column, num_labels)
    if select is not None:
        split = select(train, arguments, label_column)
    else:
        split = _select(train, cast(DataArguments, arguments), label_column, logits_of)
    validation = next((name for name in VALIDATION_NAMES if name in data and name != arguments.test_split), None)
    unseen_name = arguments.unseen_split or validation
    if unseen_name is not None:
        unseen = data[unseen_name]
    elif test is not None:
        if not 0 < arguments.unseen_fraction < 1:
            raise ValueError(f"unseen_fraction must lie between 0 and 1, got {arguments.unseen_fraction}.")
        rows = stratified_rows(read_labels(test, label_column), arguments.unseen_fraction, arguments.split_seed)
        held_out = ForgetRetainSplit(test, rows)
        unseen, test = held_out.forget, held_out.retain
    else:
        unseen = None
    return _handle_duplicates(LoadedData(split, unseen, test, ""), arguments)


def _load(arguments: DatasetArguments) -> DatasetDict:
    name = arguments.dataset_name
    require_name(name, "dataset_name", "a data set")
    folder = Path(name)
    try:
        if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
            data = load_from_disk(name)
        elif is_mufac(folder):
            data = clean_mufac(load_mufac(folder))
        else:
            data = load_dataset(name, arguments.dataset_config, revision=arguments.dataset_revision)
    except MemoryError:
        raise
    except Exception as error:  # a repository's files are anybody's, and whatever is in them may raise anything
        said = one_line(error, 400).rstrip(".") or type(error).__name__
        said = said if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {said}"
        near = "" if folder.is_dir() else f" {nearby(name)}"
        raise ValueError(f"The data set {name!r} cannot be loaded: {said}.{near.rstrip()}") from error
    return data if isinstance(data, DatasetDict) else DatasetDict({arguments.train_split: data})


def _select(
    train: Dataset,
    arguments: DataArguments,
    label_column: str,
    logits_of: Callable[[Dataset, str], np.ndarray] | None = None,
) -> ForgetRetainSplit:
    ways = ("forget_fraction", "forget_hardest", "forget_easiest", "forget_confusion")
    arguments.require_one_way(**{name: getattr(arguments, name) for name in ways})
    if arguments.needs_logits:
        return _select_by_logits(train, arguments, label_column, logits_of)
    if arguments.forget_rows is not None:
        return ForgetRetainSplit.from_file(train, arguments.forget_rows)
    if arguments.forget_class is not None:
        return ForgetRetainSplit.from_class(train, arguments.forget_class, label_column)
    if arguments.forget_column is not None:
        return ForgetRetainSplit.from_column(train, arguments.forget_column, arguments.forget_values)
    assert arguments.forget_fraction is not None
    return ForgetRetainSplit.from_fraction(train, arguments.forget_fraction, arguments.split_seed, label_column)


def _select_by_logits(
    train: Dataset,
    arguments: DataArguments,
    label_column: str,
    logits_of: Callable[[Dataset, str], np.ndarray] | None,
) -> ForgetRetainSplit:
    if logits_of is None:
        raise ValueError(
            "forget_hardest, forget_easiest and forget_confusion choose by the original model's logits on the train "
            "split: give logits_of, or choose by forget_rows."
        )
    if arguments.forget_confusion is None:
        hardest = arguments.forget_hardest is not None
        fraction = arguments.forget_hardest if hardest else arguments.forget_easiest
        assert fraction is not None
        check_fraction(fraction)  # before the model is asked
        logits, proxy = logits_of(train, label_column), arguments.forget_proxy
        return split_by_memorisation(train, logits, fraction, hardest=hardest, proxy=proxy, label_column=label_column)
    first, second, share = _confusion(arguments.forget_confusion)
    logits = logits_of(train, label_column)
    return split_by_confusion(train, logits, (first, second), share, label_column=label_column)


def _confusion(given: list[str]) -> tuple[str, str, float]:
    """Two classes and a fraction, as a command line or a file of options gives them."""
    try:
        first, second, share = given
        return str(first), str(second), float(share)
    except ValueError:
        raise ValueError(f"forget_confusion takes two classes and a fraction (cat dog 0.1), got {given}.") from None


def _handle_duplicates(data: LoadedData, arguments: DatasetArguments) -> LoadedData:
    columns = arguments.columns
    if arguments.duplicates == "ignore" or find_samples(data.split.dataset, **columns) is None:
        return data
    found = str(find_duplicates(data.sets, **columns))
    if arguments.duplicates == "report":
        return replace(data, duplicates=found)
    split = data.split.without_duplicates(arguments.duplicates, **columns)
    forgotten = content_digests(split.forget, **columns)
    unseen, test = (_without(part, forgotten, columns) for part in (data.unseen, data.test))
    return LoadedData(split, unseen, test, f"{found} Handled by: {arguments.duplicates}.")


def _without(dataset: Dataset | None, digests: np.ndarray, columns: SampleColumns) -> Dataset | None:
    if dataset is None:
        return None
    twins = set(shared_rows(content_digests(dataset, **columns), digests).tolist())
    return dataset.select([row for row in range(len(dataset)) if row not in twins]) if twins else dataset
