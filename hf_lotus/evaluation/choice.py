"""Which of several unlearned models to take home, where no retrained model may be asked."""

from __future__ import annotations

from collections.abc import Sequence

from hf_lotus.evaluation.results import ModelResult, is_control_row

RULE = "least mean of the retrain-free gap's four differences and |relearning excess|"
# Differences that the retrain-free gap is the mean of.
_DIFFERENCES = 4
RULE_WITHOUT_RELEARNING = "least retrain-free gap; the relearning excess was not measured"


def retrain_free_score(model: ModelResult) -> float | None:
    """``(4 · retrain-free gap + |relearning excess|) / 5``: less is better; None where there is no retrain-free gap.

    The gap says how far a model is from treating the forget set as unseen data, and the rest as before, and is the
    mean of four differences; the excess says whether that lasts, and joins them as a fifth. Added whole it would
    outweigh them, and favour models that still know everything, which nothing can come back to: the sum ranks methods
    worse than the gap alone does (docs/all_methods.md). The gap alone where the excess was not measured. No
    retrained model takes part in either.
    """
    if model.retrain_free_gap is None:
        return None
    if model.relearning_excess is None:
        return model.retrain_free_gap
    return (_DIFFERENCES * model.retrain_free_gap + abs(model.relearning_excess)) / (_DIFFERENCES + 1)


def best_model(models: Sequence[ModelResult]) -> ModelResult | None:
    """The unlearned model with the least score, the first of equal ones; None where none has a score.

    Where some have no relearning excess, the choice is among those that have one: scores with and without it are not
    comparable.

    Args:
        models: rows of a table; the original and retrained models are passed over.
    """
    methods = [model for model in models if not is_control_row(model.name) and retrain_free_score(model) is not None]
    probed = [model for model in methods if model.relearning_excess is not None]
    return min(probed or methods, key=lambda model: retrain_free_score(model) or 0.0, default=None)


def rule_of(model: ModelResult) -> str:
    """The rule that a model was chosen by, in words."""
    return RULE_WITHOUT_RELEARNING if model.relearning_excess is None else RULE
