"""What determines a run: the one place that says when two runs are the same.

A checkpoint is gone on from, a row of a comparison or a trained model is taken as it was kept, and the teacher's
logits are read again, only where it agrees.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from accelerate.utils import DistributedType
from torch import nn
from torch.utils.data import Dataset, Subset

from hf_lotus.data.batches import read_dataset_labels
from hf_lotus.data.samples import are_ready
from hf_lotus.methods import UnlearningMethod, describe
from hf_lotus.publishing.digests import sample_contents, weights_digest
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.utils.mappings import flat
from hf_lotus.utils.seeds import random_state_kept

# The training arguments from which other weights come, and that no other entry tells. Where the run's folder is, what
# it logs, how often it saves or evaluates, and how many workers read its samples is not among them.
DECISIVE: tuple[str, ...] = ("seed", "data_seed", "learning_rate", "optim", "optim_args", "optim_target_modules")
DECISIVE += ("weight_decay",)
DECISIVE += ("adam_beta1", "adam_beta2", "adam_epsilon", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps")
DECISIVE += ("max_grad_norm", "neftune_noise_alpha", "horizontal_flip", "crop_padding", "dataloader_drop_last")
DECISIVE += ("greater_is_better", "keep_teacher_logits", "teacher_logits_dtype")
# How far a run goes. Two that differ in nothing else take the same steps for as long as both go on.
LENGTH = ("num_train_epochs", "max_steps", "early_stopping_patience")
# Schedules that go on alike whatever number of rounds is to come: such a run may be made longer when it is resumed.
_ENDLESS = ("constant", "constant_with_warmup")
# Of each set so many samples are read; the labels and, of a selection, the row numbers of all of them.
_SAMPLES_READ = 64
# Samples that were made ready stay as they are, and a comparison asks for each row's identity anew.
_KNOWN: WeakKeyDictionary[Dataset, str] = WeakKeyDictionary()
_NAMES = {"model": "the model's weights (give the original model, not a checkpoint)"}


def run_identity(
    method: UnlearningMethod,
    model: nn.Module,
    splits: Mapping[str, Dataset | None],
    arguments: UnlearningArguments,
    *,
    ended: bool = False,
) -> dict[str, Any]:
    """What determines a run, as JSON values. Two runs that agree in it take the same steps as far as both go.

    It costs one pass of hashing over the weights and the labels; of the samples only a few are read.

    Args:
        method: the unlearning method.
        model: the model as it was before the run.
        splits: name → data set made ready, or None.
        arguments: the training arguments, with nothing left open.
        ended: tell what a run came to when it had ended, weights and figures, and not only how it goes on: then its
            length counts too, every set that it is measured on, and the `datasets` fingerprint of each, since what was
            kept is taken without being looked at again.
    """
    chosen = _decisive(arguments, ended, method.depends_on_length)
    # Otherwise the test set takes part only where a round is chosen by it.
    used = {name: dataset for name, dataset in splits.items() if dataset is not None}
    if not ended and not arguments.load_best_model_at_end:
        used.pop("test", None)
    identity = {
        "method": describe(method),
        "arguments": chosen,
        "model": weights_digest(model),
        "sets": {name: _set_digest(dataset) for name, dataset in used.items()},
    }
    if ended:
        identity["fingerprints"] = {name: _own_fingerprint(dataset) for name, dataset in used.items()}
    return json.loads(
        json.dumps(identity, default=lambda value: getattr(value, "__qualname__", type(value).__qualname__))
    )


def _decisive(arguments: UnlearningArguments, ended: bool, depends_on_length: bool) -> dict[str, object]:
    values = arguments.to_dict()
    chosen = {name: values[name] for name in DECISIVE if name in values}
    # Which samples share a batch, and the noise of each batch, depend on how a step is dealt out.
    chosen |= {
        "per_device_train_batch_size": arguments.train_batch_size,
        "gradient_accumulation_steps": arguments.gradient_accumulation_steps,
        "number of processes": arguments.world_size,
        "metric_for_best_model": arguments.chosen_by,
        "mixed_precision": arguments.mixed_precision,  # the launcher's, or that of bf16 and fp16
    }
    kind = arguments.distributed_state.distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        chosen["weights divided by"] = kind.value  # who keeps the optimizer's state in files of their own
    assert arguments.warmup_steps is not None
    warmup_is_a_share = 0 < arguments.warmup_steps < 1
    length = {name: values[name] for name in LENGTH}
    length.pop("num_train_epochs" if arguments.max_steps > 0 else "max_steps")  # the one overrules the other
    if ended:
        return chosen | length
    if chosen["lr_scheduler_type"] not in _ENDLESS or warmup_is_a_share or depends_on_length:
        length.pop("early_stopping_patience")
        return chosen | length
    return chosen


def identity_digest(identity: Mapping[str, object], *more: object) -> str:
    """SHA-256 of `run_identity`, and of what else determines what was kept, as JSON values."""
    return hashlib.sha256(json.dumps([identity, *more], sort_keys=True).encode()).hexdigest()


def teacher_logits_key(identity: Mapping[str, Any], side: str, device: torch.device) -> str:
    """What determines the original model's logits on the samples of one side.

    Args:
        identity: `run_identity` of the run.
        side: "forget" or "retain".
        device: where they are computed.
    """
    precision = identity["arguments"]["mixed_precision"]
    return f"{identity['model']} {identity['sets'][side]} {precision} {device.type}"


def _own_fingerprint(dataset: Dataset) -> str | None:
    """What `datasets` tells a set by, where it is one of its own."""
    return getattr(_source(dataset), "_fingerprint", None)


def _source(dataset: Dataset) -> Dataset:
    """The raw rows of samples that were made ready."""
    return dataset.source if are_ready(dataset) else dataset


def _set_digest(dataset: Dataset) -> str:
    """SHA-256 of a set's labels, of which rows it has, and of a few samples from all over it, as a model gets them."""
    if not are_ready(dataset):
        return _digest_as_read(dataset)
    if dataset not in _KNOWN:
        _KNOWN[dataset] = _digest_as_read(dataset)
    return _KNOWN[dataset]


def _digest_as_read(dataset: Dataset) -> str:
    labels = read_dataset_labels(dataset).numpy()
    sha = hashlib.sha256(f"{len(labels)} samples".encode() + labels.tobytes())
    rows = getattr(_source(dataset), "_indices", None)
    if rows is not None:
        sha.update(rows.column(0).to_numpy().tobytes())
    if are_ready(dataset) and dataset.input_range is not None:
        sha.update(b"".join(bound.numpy().tobytes() for bound in dataset.input_range))
    few = np.unique(np.linspace(0, len(labels) - 1, _SAMPLES_READ).astype(int)).tolist()
    with random_state_kept():  # reading samples may draw random numbers
        try:
            if are_ready(dataset):
                dataset.__getitems__(few)  # made ready together, which takes a third of the time
            sha.update(sample_contents(Subset(dataset, few))[1].tobytes())
        except ValueError:  # samples that change at each reading, or that no digest can be made of
            sha.update(b"unknown")
    return sha.hexdigest()


def differences(theirs: Mapping[str, object], ours: Mapping[str, object]) -> list[str]:
    """In what two runs differ, in words; empty where they are the same run.

    Args:
        theirs: `run_identity` of the run that a checkpoint is of.
        ours: that of the run at hand.
    """
    first, second = flat(theirs, "."), flat(ours, ".")
    told = []
    for name in sorted(first.keys() | second.keys()):
        there, here = first.get(name), second.get(name)
        if there == here:
            continue
        kind, _, rest = name.partition(".")
        if kind == "sets":
            told.append(f"the {rest} set")
        elif kind == "model":
            told.append(_NAMES[kind])
        else:
            label = "method" if rest == "name" else rest
            told.append(f"{label} ({_shown(there)} there, {_shown(here)} here)")
    return told


def _shown(value: object) -> str:
    return "not given" if value is None else str(value)
