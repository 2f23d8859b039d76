"""Is it gone, or only quiet? One round on retained data alone, and what comes back of the forgotten."""

from __future__ import annotations

import copy
import tempfile

import numpy as np

from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.functional.relearning import relearning_excess
from hf_lotus.methods import Finetune
from hf_lotus.trainer.trainer import UnlearningTrainer

# SGD with momentum 0.9: a tenth of what small models are first trained at, and less where much was pretrained.
RATE, RATE_OF_LARGE_TRANSFORMERS = 1e-2, 1e-3


def measured_relearning_excess(
    trainer: UnlearningTrainer, learning_rate: float | None = None, seed: int | None = None
) -> float:
    """How much more a model regains of its forget set than of unseen data, in one round on its retain set alone.

    A copy of the trainer's model as it is goes on training, without augmentation, by SGD with momentum 0.9 at a small
    rate; the model itself, its optimizer and its logs are left as they are. No retrained model is needed. What the
    figure of a retrained model is, about 0, says that anybody who trains on gets back no more than he would anyway.

    Args:
        trainer: of the model, with an unseen set.
        learning_rate: of the round. Default: 0.01, or 0.001 for large transformers.
        seed: of the round's order; the run's if None.

    Returns:
        (rise of accuracy on D_f) − (rise on D_u, each class weighted as in D_f).

    Raises:
        ValueError: without an unseen set, or where whole classes are forgotten, which no unseen data stands for.
    """
    if trainer.splits.get("unseen") is None or trainer.class_wise:
        raise ValueError(
            "The relearning excess compares the forget set with unseen data of its classes: give unseen_dataset, and "
            "measure it where samples are forgotten, not whole classes."
        )
    rate = learning_rate or (RATE_OF_LARGE_TRANSFORMERS if trainer.task.is_large_transformer else RATE)
    with tempfile.TemporaryDirectory() as folder:
        arguments = trainer.args.changed(
            output_dir=folder, num_train_epochs=1.0, max_steps=-1, learning_rate=rate, optim="sgd",
            optim_args="momentum=0.9", lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0,
            horizontal_flip=False, crop_padding=0, seed=trainer.args.seed if seed is None else seed, data_seed=seed,
            save_strategy="no", eval_strategy="no", logging_strategy="no", load_best_model_at_end=False,
            early_stopping_patience=None, report_to=[], push_to_hub=False,
        )  # fmt: skip
        again = UnlearningTrainer(
            copy.deepcopy(trainer.run.student).requires_grad_(True),
            arguments,
            Finetune(),
            forget_dataset=trainer.given.forget,
            retain_dataset=trainer.given.retain,
            unseen_dataset=trainer.splits["unseen"],
            processing_class=trainer.processing_class,
            data_collator=trainer.data_collator,
        )
        before = {split: again.run.student_predictions(split) for split in ("forget", "unseen")}
        again.train()
        after = {split: again.run.student_predictions(split) for split in ("forget", "unseen")}
    right = {split: (_right(before[split]), _right(after[split])) for split in before}
    return relearning_excess(right["forget"], right["unseen"], before["forget"].labels, before["unseen"].labels)


def _right(predictions: Predictions) -> np.ndarray:
    return predictions.predicted == predictions.labels
