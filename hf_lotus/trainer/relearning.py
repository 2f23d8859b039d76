"""Is it gone, or only quiet? One round on retained data alone, and what comes back of the forgotten."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import PrinterCallback, ProgressCallback

from hf_lotus.data.batches import read_dataset_labels
from hf_lotus.data.prepared import num_samples
from hf_lotus.evaluation.metrics import ORIGINAL
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.results import retrained_row
from hf_lotus.functional.relearning import relearning_excess
from hf_lotus.methods import Finetune, Task
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.fingerprint import run_identity
from hf_lotus.trainer.given import required
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.seeds import random_state_kept

# The metric's name.
RELEARNING = "relearning_excess"
# SGD with momentum 0.9: a tenth of what small models are first trained at, and less where much was pretrained.
RATE, RATE_OF_LARGE_TRANSFORMERS = 1e-2, 1e-3


class Outcome(NamedTuple):
    """What one round did, sample by sample; the arguments of `functional.relearning`.

    Attributes:
        forget: for each forget sample whether it is classified correctly (before, after); booleans, shape (samples,).
        unseen: the same of the unseen samples.
        forget_labels: the forget samples' classes, shape (samples,).
        unseen_labels: the unseen samples' classes, shape (others,).
    """

    forget: tuple[np.ndarray, np.ndarray]
    unseen: tuple[np.ndarray, np.ndarray]
    forget_labels: np.ndarray
    unseen_labels: np.ndarray


class _Bar(ProgressCallback):
    """The bar of the training alone: what it logs is nobody's concern."""

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        """Print nothing."""


@dataclass(frozen=True, eq=False)
class Relearning:
    """One round on the retain set alone, the same for every model that is compared.

    A copy of a model goes on training, without augmentation, by SGD with momentum 0.9 at a small rate; the model
    itself and the global random numbers are left as they are. No retrained model is needed. What the figure of a
    retrained model is, about 0, says that anybody who trains on gets back no more than he would anyway.

    Attributes:
        args: of the runs that are compared: device, seed and batch size are taken from there. Where the batch size is
            open, it is that of `Finetune` for the model family.
        splits: "forget", "retain" and "unseen" → data set made ready; unseen may be None.
        class_wise: whether whole classes are forgotten.
        processing_class: as in `UnlearningTrainer`.
        data_collator: as in `UnlearningTrainer`.
        learning_rate: of the round. Default: 0.01, or 0.001 for large transformers.
        seed: of the round's order; that of `args` if None, its `evaluation_seed` first.
    """

    args: UnlearningArguments
    splits: Mapping[str, Dataset | None]
    class_wise: bool = False
    processing_class: object | None = None
    data_collator: Callable | None = None
    learning_rate: float | None = None
    seed: int | None = None

    @classmethod
    def of(cls, trainer: UnlearningTrainer, learning_rate: float | None = None, seed: int | None = None) -> Relearning:
        """The round that suits a trainer's model and data; the batch size is that of its run."""
        how = trainer.processing_class, trainer.data_collator
        return cls(trainer.args, trainer.splits, trainer.class_wise, *how, learning_rate, seed)

    @property
    def is_possible(self) -> bool:
        """Whether there is unseen data that stands for the forget set."""
        unseen = self.splits.get("unseen")
        if unseen is None or self.class_wise:
            return False
        forget = read_dataset_labels(required(self.splits, "forget"))
        return bool(torch.isin(read_dataset_labels(unseen), forget).any())

    @property
    def visits(self) -> int:
        """Samples that the training of one measurement visits."""
        return num_samples(required(self.splits, "retain"))

    def excess(self, model: nn.Module) -> float:
        """(rise of accuracy on D_f) − (rise on D_u, each class weighted as in D_f) of a model; it is not changed.

        Raises:
            ValueError: as in `outcome`.
        """
        return relearning_excess(*self.outcome(model))

    def outcome(self, model: nn.Module) -> Outcome:
        """Which samples of D_f and D_u a model gets right before and after the round; it is not changed.

        Raises:
            ValueError: without an unseen set, or where whole classes are forgotten, which no unseen data stands for.
        """
        if not self.is_possible:
            raise ValueError(
                "The relearning excess compares the forget set with unseen data of its classes: give unseen_dataset, "
                "and measure it where samples are forgotten, not whole classes."
            )
        with random_state_kept(), tempfile.TemporaryDirectory() as folder:
            again = UnlearningTrainer(
                copy.deepcopy(model).requires_grad_(True),
                self._arguments(folder, model),
                Finetune(),
                forget_dataset=required(self.splits, "forget"),
                retain_dataset=required(self.splits, "retain"),
                unseen_dataset=self.splits["unseen"],
                processing_class=self.processing_class,
                data_collator=self.data_collator,
            )
            again.remove_callback(PrinterCallback if self.args.disable_tqdm else ProgressCallback)
            if not self.args.disable_tqdm:
                again.add_callback(_Bar)
            before = {split: again.run.student_predictions(split) for split in ("forget", "unseen")}
            again.train()
            after = {split: again.run.student_predictions(split) for split in ("forget", "unseen")}
            again.accelerator.free_memory()
        right = {split: (_right(before[split]), _right(after[split])) for split in before}
        return Outcome(right["forget"], right["unseen"], before["forget"].labels, before["unseen"].labels)

    def identity(self, model: nn.Module) -> dict[str, Any]:
        """What determines the figure of a model, as JSON values (`run_identity`)."""
        args = self._arguments(str(self.args.output_dir), model)
        args.settle(Finetune().default_arguments(Task(model, self.class_wise, None)))
        used = {name: self.splits[name] for name in ("forget", "retain", "unseen")}
        return run_identity(Finetune(), model, used, args, ended=True)

    def _arguments(self, folder: str, model: nn.Module) -> UnlearningArguments:
        is_large = Task(model, False, None).is_large_transformer
        seeds = (self.seed, self.args.evaluation_seed, self.args.seed)
        seed = next(seed for seed in seeds if seed is not None)
        return self.args.changed(
            output_dir=folder, num_train_epochs=1.0, max_steps=-1, optim="sgd", optim_args="momentum=0.9",
            learning_rate=self.learning_rate or (RATE_OF_LARGE_TRANSFORMERS if is_large else RATE),
            lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0, horizontal_flip=False, crop_padding=0,
            seed=seed, data_seed=seed,
            save_strategy="no", eval_strategy="no", logging_strategy="no", load_best_model_at_end=False,
            early_stopping_patience=None, report_to=[], push_to_hub=False,
        )  # fmt: skip


def measured_relearning_excess(
    trainer: UnlearningTrainer, learning_rate: float | None = None, seed: int | None = None
) -> float:
    """The relearning excess of a trainer's model as it is (`Relearning.excess`).

    The model, its optimizer, its logs and the clock of its unlearning are left as they are.

    Args:
        trainer: of the model, with an unseen set.
        learning_rate: of the round. Default: 0.01, or 0.001 for large transformers.
        seed: of the round's order; the run's if None.

    Returns:
        (rise of accuracy on D_f) − (rise on D_u, each class weighted as in D_f).

    Raises:
        ValueError: without an unseen set, or where whole classes are forgotten, which no unseen data stands for.
    """
    return Relearning.of(trainer, learning_rate, seed).excess(trainer.run.student)


def relearning_of_rows(trainer: UnlearningTrainer) -> dict[str, dict[str, float | None]]:
    """The relearning excess of the rows of `trainer.compare()`, to be given to it; {} where it cannot be measured.

    Takes one training on the retain set for the student and each model that it is compared with. None of it counts as
    the method's seconds.

    Args:
        trainer: after `train`.

    Returns:
        row → {"relearning_excess": value}.
    """
    relearning, evaluator = Relearning.of(trainer), trainer.evaluator
    if not relearning.is_possible:
        return {}
    models = {ORIGINAL: evaluator.original, trainer.method_name: trainer.run.student}
    models |= {retrained_row(number): model for number, model in enumerate(evaluator.retrained)}
    return {name: {RELEARNING: relearning.excess(model)} for name, model in models.items()}


def _right(predictions: Predictions) -> np.ndarray:
    return predictions.predicted == predictions.labels
