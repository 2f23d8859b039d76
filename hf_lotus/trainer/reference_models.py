"""Training the original and the retrained model of a benchmark, once: kept by a digest of all that determines them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch.nn.functional as F
from datasets import Dataset
from filelock import FileLock
from torch import Tensor
from transformers import BaseImageProcessor, PreTrainedModel

from hf_lotus.data.images import ReadyImages
from hf_lotus.methods import GradientMethod, LossInputs
from hf_lotus.models.loading import load_model
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.checkpoints import last_whole_checkpoint
from hf_lotus.trainer.fingerprint import identity_digest, run_identity
from hf_lotus.trainer.given import check_given
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.files import write_whole

_TRAINED = "training.json"


@dataclass(frozen=True)
class _Training(GradientMethod):
    """Ordinary training on all that is given: cross-entropy with the labels, on both sides alike."""

    def loss(self, inputs: LossInputs) -> Tensor:
        return F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")


@dataclass(frozen=True)
class TrainedModel:
    """A model and how it came about.

    Attributes:
        model: the model, on CPU.
        seconds: wall time of its training; None where it was given.
        folder: where it is kept; None where it was given.
    """

    model: PreTrainedModel
    seconds: float | None = None
    folder: Path | None = None


def trained_model(
    model: PreTrainedModel,
    dataset: Dataset | ReadyImages,
    processor: BaseImageProcessor,
    arguments: UnlearningArguments,
    folder: str | os.PathLike,
    say: Callable[[str], None] = lambda text: None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    ready_images_dir: str | None = None,
) -> TrainedModel:
    """The model trained on the data set, or what was kept of the same training.

    A training that was broken off goes on from its last round.

    Args:
        model: what to start from; changed in place.
        dataset: raw images with labels, or the same made ready, at least two rows.
        processor: the image processor, which is saved with the model.
        arguments: training arguments.
        folder: where trained models are kept, each in a folder named after the digest of what determines it.
        say: told whether the model is trained or was kept.
        image_column: name of the image column, where it cannot be told from the features.
        label_column: name of the label column, likewise.
        ready_images_dir: folder where ready pixels are kept for other runs, as in `InputOptions`.
    """
    # The trainer wants two sides, which take part alike: which rows stand on which makes no difference.
    sides: dict[str, Any] = {"forget": dataset.select([0]), "retain": dataset.select(range(1, len(dataset)))}
    folder = Path(folder)
    settings = {"save_strategy": "epoch", "save_total_limit": 1, "logging_strategy": "no"}
    sets = {**sides, "unseen": None, "test": None}
    given = check_given(
        model,
        arguments.changed(**settings),
        _Training(),
        sets,
        processing_class=processor,
        image_column=image_column,
        label_column=label_column,
        ready_images_dir=ready_images_dir,
    )
    about = run_identity(given.method, model, given.splits, given.args, ended=True)
    key = identity_digest(about)
    kept = folder / key[:16]
    # Two recipes that run at once may need the same model: one trains it, the other waits.
    with FileLock(folder / f"{key[:16]}.lock"):
        if (kept / _TRAINED).is_file():
            say(f"kept in {kept}")
            seconds = json.loads((kept / _TRAINED).read_text(encoding="utf-8"))["seconds"]
            return TrainedModel(load_model(str(kept)), seconds, kept)
        trainer = UnlearningTrainer(
            model,
            given.args.changed(output_dir=str(_unfinished(kept))),
            given.method,
            forget_dataset=given.forget,
            retain_dataset=given.retain,
            processing_class=processor,
        )
        return _train(trainer, processor, kept, {"key": key, "determined_by": about}, say)


def _unfinished(kept: Path) -> Path:
    return kept.with_name(f"{kept.name}.unfinished")


def _train(
    trainer: UnlearningTrainer,
    processor: BaseImageProcessor,
    kept: Path,
    record: dict[str, object],
    say: Callable[[str], None],
) -> TrainedModel:
    """Train, or go on from the last whole checkpoint, and keep the model in a folder that appears whole."""
    unfinished = _unfinished(kept)
    samples = len(trainer.train_dataset)
    say(f"training on {samples} rows for {trainer.args.num_train_epochs:g} epochs")
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(unfinished))
    trained = cast(PreTrainedModel, trainer.run.student.cpu())
    trained.save_pretrained(unfinished / "model")
    processor.save_pretrained(unfinished / "model")
    record = {**record, "seconds": trainer.unlearning_seconds}
    write_whole(unfinished / "model" / _TRAINED, json.dumps(record, indent=1) + "\n")
    os.replace(unfinished / "model", kept)
    shutil.rmtree(unfinished)
    trainer.accelerator.free_memory()
    return TrainedModel(trained, trainer.unlearning_seconds, kept)
