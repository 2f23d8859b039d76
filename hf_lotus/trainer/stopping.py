"""Choosing a round, and stopping after it, by what is measured without a retrained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_lotus.evaluation.metrics import METRICS
from hf_lotus.trainer.arguments import UnlearningArguments

_OTHERWISE = (
    "Or choose by another metric of `trainer.evaluate()`: metric_for_best_model='eval_forget_accuracy' with "
    "greater_is_better=False, say."
)


class Patience(TrainerCallback):
    """Stop a run after so many measurements without a better one.

    It counts them in the log, which every checkpoint has: a run that is resumed stops where the whole one does, where
    transformers' `EarlyStoppingCallback` begins to count anew.

    Args:
        rounds: how many.
    """

    def __init__(self, rounds: int):
        self.rounds = rounds

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop if the best measurement so far lies as far back as the patience reaches."""
        name = f"eval_{cast(UnlearningArguments, args).chosen_by}"
        values = [entry[name] for entry in state.log_history if name in entry]
        if not values:
            return  # what was measured is a data set of the user's
        best = max(values) if args.greater_is_better else min(values)
        if len(values) - 1 - values.index(best) >= self.rounds:
            control.should_training_stop = True


def stopping_callbacks(
    arguments: UnlearningArguments, splits: Mapping[str, Dataset | None], class_wise: bool
) -> list[TrainerCallback]:
    """What stops a run where `early_stopping_patience` is given; checks first that a round can be chosen.

    Args:
        arguments: the training arguments.
        splits: name → data set, or None.
        class_wise: whether whole classes are forgotten.

    Raises:
        ValueError: if the metric to choose a round by will not be measured, or no round's weights are saved.
    """
    metric = arguments.chosen_by
    if metric is None:
        return []
    entry = METRICS.get(metric)
    if entry is not None and class_wise and not entry.class_wise:
        raise ValueError(
            f"A round cannot be chosen by {metric!r} where whole classes are forgotten: unseen samples of a class "
            f"do not tell what a model that never saw it would make of them. {_OTHERWISE}"
        )
    needed = entry.needs if entry is not None else ()
    if missing := [name for name in needed if name in splits and splits[name] is None]:
        raise ValueError(
            f"To choose a round by {metric!r} needs the {' and the '.join(missing)} set. Give it: as unseen_dataset "
            f"or eval_dataset, on the command line --unseen_split or --test_split. {_OTHERWISE}"
        )
    if arguments.save_strategy == "no":
        raise ValueError(
            "To end with the best round its weights must be saved, and save_strategy is 'no'. Use 'epoch', or 'best'; "
            "`hf-lotus compare` saves none, so that its methods take all their rounds."
        )
    patience = arguments.early_stopping_patience
    return [] if patience is None else [Patience(patience)]
