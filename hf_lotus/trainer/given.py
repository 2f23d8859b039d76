"""What a trainer is given, checked and settled before `transformers.Trainer` does anything with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.data import Dataset
from transformers import TrainerCallback

from hf_lotus.data.batches import read_dataset_labels
from hf_lotus.data.checks import require_unseen
from hf_lotus.data.columns import InputOptions
from hf_lotus.data.prepared import num_samples, ready_splits
from hf_lotus.data.samples import kind_of, require_augmentable
from hf_lotus.methods import METHODS, GradientMethod, LoTUS, Task, UnlearningMethod, WeightEdit, name_of
from hf_lotus.methods.base import RefusedModel
from hf_lotus.models.adapters import is_adapted
from hf_lotus.models.checks import check_models
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.stopping import stopping_callbacks

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True, eq=False)
class Given:
    """What a run is made of, with nothing left open.

    Attributes:
        method: the unlearning method.
        args: the training arguments, a copy of the user's, settled by the method for this task.
        splits: "forget", "retain", "unseen" and "test" → data set made ready, or None.
        task: what is unlearned.
        options: `InputOptions` and `num_labels`, by which further data sets are made ready.
        stopping: what stops the run early.
    """

    method: UnlearningMethod
    args: UnlearningArguments
    splits: Mapping[str, Dataset | None]
    task: Task
    options: Mapping[str, Any]
    stopping: tuple[TrainerCallback, ...] = ()

    @property
    def forget(self) -> Dataset:
        """The forget set, which is always there."""
        return required(self.splits, "forget")

    @property
    def retain(self) -> Dataset:
        """The retain set, which is always there."""
        return required(self.splits, "retain")

    @property
    def settled_data_seed(self) -> int:
        """`data_seed` of the arguments, which is the seed where the user gave none."""
        assert self.args.data_seed is not None
        return self.args.data_seed


def check_given(
    model: nn.Module,
    args: UnlearningArguments | None,
    method: UnlearningMethod | None,
    sets: Mapping[str, Dataset | None],
    *,
    retrain_model: nn.Module | None = None,
    processing_class: object | None = None,
    **options: Unpack[InputOptions],
) -> Given:
    """Check what a trainer is given, make its sets ready, and settle its arguments.

    Args:
        model: the model to unlearn.
        args: training arguments, not changed.
        method: the unlearning method; `LoTUS()` if None.
        sets: "forget", "retain", "unseen" and "test" → data set as the user gave it, or None.
        retrain_model: a model to measure from.
        processing_class: the model's image processor or tokenizer.
        **options: columns and lengths, where they cannot be told from the features and the processor.

    Raises:
        TypeError: for a streamed data set, other arguments, or a method that is not one.
        RefusedModel: if the method is not defined for the model.
        ValueError: for sets, models or arguments that do not go together.
    """
    method = method if method is not None else LoTUS()
    if not isinstance(method, GradientMethod | WeightEdit):
        raise TypeError(f"method must be one of {', '.join(METHODS)} (hf_lotus.methods), got {method!r}.")
    check_models(model, retrain_model)
    if not isinstance(args, UnlearningArguments | None):
        raise TypeError(f"args must be UnlearningArguments, got {type(args).__name__}; it takes the same options.")
    # A copy: one set of arguments may serve several trainers, whose methods settle the open ones differently.
    args = copy.copy(args) if args is not None else UnlearningArguments("unlearned")
    config = getattr(model, "config", None)
    options.setdefault("decoding_workers", args.dataloader_num_workers)
    splits, class_wise = ready_splits(sets, config, processing_class, **options)
    num_labels = getattr(config, "num_labels", None)
    forget, retain = required(splits, "forget"), required(splits, "retain")
    classes = tuple(read_dataset_labels(forget).unique().tolist())
    kind = kind_of(forget)
    task = Task(model, class_wise, num_labels, classes, num_samples(retain), num_samples(forget), kind)
    require_augmentable(kind, args.augments)
    _check_defined(method, task)
    args.settle(method.default_arguments(task))
    args.data_seed = args.seed if args.data_seed is None else args.data_seed
    if method.needs_unseen and not class_wise:
        require_unseen(splits["unseen"], type(method).__name__)
    stopping = tuple(stopping_callbacks(args, splits, class_wise))
    return Given(method, args, splits, task, {**options, "num_labels": num_labels}, stopping)


def _check_defined(method: UnlearningMethod, task: Task) -> None:
    """Refuse a model that a method, or one within it, is not defined for."""
    reason = method.refusal(task)
    if reason is None and method.writes_all_weights and is_adapted(task.model):
        reason = "it writes weights below the adapter, which are to stay as they are. Merge the adapter first"
    if reason is not None:
        raise RefusedModel(f"{name_of(method)} cannot unlearn a {type(task.model).__name__}: {reason}.")
    for each in fields(method):
        if isinstance(inner := getattr(method, each.name), UnlearningMethod):
            _check_defined(inner, task)


def required(splits: Mapping[str, Dataset | None], name: str) -> Dataset:
    """A set that no run is without: "forget" or "retain"."""
    dataset = splits[name]
    assert dataset is not None
    return dataset
