"""Training the reference models of a pool, once; several processes share the work.

Whoever starts the same pool again goes on with it. Each model is trained under a file lock, which the operating system
releases when its holder dies: a killed process's model is taken up by whoever comes next, from its last epoch.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from filelock import FileLock, Timeout
from torch import nn
from transformers import BaseImageProcessor, PreTrainedModel

from hf_lotus.audit.pool import Pool, architecture
from hf_lotus.audit.pool_design import design
from hf_lotus.audit.pool_files import FORMAT, PARTS, PoolRows, read_plan, records_in, write_arrays
from hf_lotus.data.images import ReadyImages
from hf_lotus.evaluation.predictions import predict
from hf_lotus.evaluation.provenance import provenance
from hf_lotus.publishing.digests import sample_contents, weights_digest
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.fingerprint import DECISIVE, LENGTH
from hf_lotus.trainer.reference_models import trained_model
from hf_lotus.utils.documents import write_document
from hf_lotus.utils.seeds import WEIGHTS, derived_seed

_BATCH = 512
# What of a plan does not say which pool it is.
_NOT_DECISIVE = ("models", "made")


@dataclass(frozen=True, eq=False)
class PoolData:
    """The samples of a pool.

    Attributes:
        train: raw images with labels, which the models are trained on in part or in whole.
        unseen: raw images that no model is trained on.
        test: likewise.
        processor: the image processor.
        image_column: name of the image column, where it cannot be told from the features.
        label_column: name of the label column, likewise.
        ready_images_dir: folder where ready pixels are kept for other runs, as in `InputOptions`.
        decoding_workers: processes that decode what that folder lacks, where it pays.
    """

    train: Dataset
    unseen: Dataset
    test: Dataset
    processor: BaseImageProcessor
    image_column: str | None = None
    label_column: str | None = None
    ready_images_dir: str | None = None
    decoding_workers: int = 0
    _ready: dict[str, ReadyImages] = field(default_factory=dict, repr=False)

    def ready(self, part: str) -> ReadyImages:
        """A part made ready for the models; its images are decoded once."""
        if part not in self._ready:
            self._ready[part] = ReadyImages(
                getattr(self, part),
                self.processor,
                self.image_column,
                self.label_column,
                ready_images_dir=self.ready_images_dir,
                decoding_workers=self.decoding_workers,
            )
        return self._ready[part]

    def digests(self, part: str) -> np.ndarray:
        """The content digests of a part, V32, shape (rows,)."""
        return sample_contents(getattr(self, part), image_column=self.image_column)[1]

    def logits(self, model: nn.Module, arguments: UnlearningArguments) -> dict[str, np.ndarray]:
        """What a model says of every part: part → float32, shape (rows, classes)."""
        options: dict[str, Any] = {"batch_size": _BATCH, "progress": False, "device": arguments.device}
        return {part: predict(model, self.ready(part), **options).kept_logits for part in PARTS}


@dataclass(frozen=True)
class PoolSettings:
    """What a pool is to be.

    Attributes:
        kind: "halves", "retrained" or "originals" (`pool_design`).
        models: how many.
        seed: of the halves, and of each model's own seed.
        forget_sets: name → row numbers of train.
        about: where the settings come from, JSON values: the recipe, the data set.
    """

    kind: str = "halves"
    models: int = 32
    seed: int = 0
    forget_sets: Mapping[str, np.ndarray] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def seed_of(self, number: int) -> int:
        """The seed of a model: of its first weights and of the order of its samples."""
        return derived_seed(self.seed, WEIGHTS, number) % 2**31


def train_pool(
    folder: str | Path,
    data: PoolData,
    build: Callable[[int], PreTrainedModel],
    arguments: UnlearningArguments,
    settings: PoolSettings,
    say: Callable[[str], None] = lambda text: None,
) -> Pool:
    """Train the models of a pool, or go on with them, and keep what each says of all samples.

    Args:
        folder: of the pool.
        data: its samples.
        build: makes the model that training starts from, from a seed.
        arguments: training arguments; seed and output folder are set for each model.
        settings: what the pool is to be.
        say: told of each model, with the time that is left.

    Returns:
        the pool, all of whose models are done.

    Raises:
        ValueError: if the folder holds another pool, or the settings do not go together.
    """
    folder = Path(folder)
    (folder / "outputs").mkdir(parents=True, exist_ok=True)
    contents = {part: data.digests(part) for part in PARTS}
    members = design(settings.kind, settings.models, contents["train"], settings.forget_sets, settings.seed)
    labels = {part: data.ready(part).labels.numpy() for part in PARTS}
    rows = PoolRows(contents, labels, members, settings.forget_sets)
    _plan(folder, rows, build(settings.seed_of(0)), arguments, settings)

    def train(number: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        seed = settings.seed_of(number)
        had = np.flatnonzero(members[number])
        images = data.ready("train").select(had)
        trained = trained_model(build(seed), images, data.processor, arguments.changed(seed=seed), folder / "models")
        assert trained.folder is not None
        logits = data.logits(trained.model, arguments)
        record = {
            "number": number,
            "seed": seed,
            "rows": len(had),
            "folder": trained.folder.name,
            "weights_digest": weights_digest(trained.model),
            "seconds": trained.seconds,
            "accuracy": accuracies(logits, labels, members[number]),
        }
        return logits, record

    share_work(folder / "outputs", range(settings.models), train, say)
    _gather(folder)
    return Pool.open(folder)


def accuracies(
    logits: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], had: np.ndarray
) -> dict[str, float | None]:
    """Accuracy on the model's own rows of train, on those left out, and on the other parts; None for no rows."""
    right = {part: logits[part].argmax(axis=1) == labels[part] for part in PARTS}
    groups = {
        "own": right["train"][had],
        "left_out": right["train"][~had],
        **{part: right[part] for part in PARTS[1:]},
    }
    return {name: float(values.mean()) if len(values) else None for name, values in groups.items()}


def _plan(
    folder: Path, rows: PoolRows, model: PreTrainedModel, arguments: UnlearningArguments, settings: PoolSettings
) -> None:
    """Write what the pool is to be, or check that it is what the folder holds."""
    values = arguments.to_dict()
    training = {name: values[name] for name in (*DECISIVE, *LENGTH) if name in values and name not in ("seed",)}
    training["per_device_train_batch_size"] = arguments.per_device_train_batch_size
    plan: dict[str, Any] = {
        "format": FORMAT,
        "kind": settings.kind,
        "planned": settings.models,
        "seed": settings.seed,
        "forget_sets": {name: len(each) for name, each in settings.forget_sets.items()},
        "architecture": architecture(model),
        "num_classes": model.config.num_labels,
        "training": training,
        "samples": {part: len(rows.labels[part]) for part in PARTS},
        "rows_digest": _rows_digest(rows),
        **settings.about,
    }
    plan = json.loads(json.dumps(plan, default=str))
    with FileLock(folder / "pool.lock"):
        if not (folder / "pool.json").is_file():
            rows.write(folder / "rows.npz")
            write_document(folder / "pool.json", {**plan, "made": provenance(), "models": []})
            return
        there = read_plan(folder)
    other = sorted(name for name in plan.keys() | there.keys() if plan.get(name) != there.get(name))
    if other := [name for name in other if name not in _NOT_DECISIVE]:
        raise ValueError(
            f"{folder} holds a pool with other settings ({', '.join(other)}). Give the same to go on with it, or "
            "another folder."
        )


def _rows_digest(rows: PoolRows) -> str:
    sha = hashlib.sha256(np.packbits(rows.members).tobytes())
    for part in PARTS:
        sha.update(rows.digests[part].tobytes() + rows.labels[part].tobytes())
    for name, each in sorted(rows.forget_sets.items()):
        sha.update(name.encode() + np.asarray(each, dtype=np.int64).tobytes())
    return sha.hexdigest()


def _gather(folder: Path) -> None:
    """Put the records of the models that are done into pool.json."""
    with FileLock(folder / "pool.lock"):
        write_document(folder / "pool.json", {**read_plan(folder), "models": records_in(folder / "outputs")})


def share_work(
    folder: Path,
    numbers: Iterable[int],
    work: Callable[[int], tuple[dict[str, np.ndarray], dict[str, Any]]],
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Do the work of every number once, whichever process does it, and keep its arrays and its record.

    What another process is at is left to it; when nothing else is left, it is waited for, and taken up if that process
    dies. A process that comes later, or again, does what is not done.

    Args:
        folder: where the results are kept, `NNN.npz` and then `NNN.json`.
        numbers: what is to be done.
        work: gives the arrays and the record of a number.
        say: told of each result, with the time that is left.
    """
    numbers = list(numbers)
    folder.mkdir(parents=True, exist_ok=True)
    clock = _Clock(folder, len(numbers))
    for timeout in (0, -1):  # first what is free, then what others were at
        for number in numbers:
            with _own(folder / f"{number:03d}.lock", timeout) as owned:
                record = folder / f"{number:03d}.json"
                if not owned or record.is_file():
                    continue
                arrays, told = work(number)
                write_arrays(record.with_suffix(".npz"), arrays)
                write_document(record, told)
                say(f"{number:03d}: {_figures(told)} · {clock}")


@contextmanager
def _own(path: Path, timeout: float) -> Iterator[bool]:
    try:
        with FileLock(path, timeout=timeout):
            yield True
    except Timeout:
        yield False


def _figures(record: Mapping[str, Any]) -> str:
    shown = [f"{name} {value:.3f}" for name, value in record.get("accuracy", {}).items() if value is not None]
    return ", ".join([*shown, f"{record['seconds']:.0f} s"])


class _Clock:
    """How far all processes together have come, and how long it takes yet at the pace since this one began."""

    def __init__(self, folder: Path, total: int):
        self.folder, self.total = folder, total
        self.began, self.before = time.monotonic(), self._done()

    def _done(self) -> int:
        return len(list(self.folder.glob("[0-9]*.json")))

    def __str__(self) -> str:
        done = self._done()
        left = (self.total - done) * (time.monotonic() - self.began) / max(done - self.before, 1)
        when = f", about {_minutes(left)} left" if done < self.total else ""
        return f"{done} of {self.total} done{when}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
