"""What the seeds of training, unlearning and evaluation each add to the spread of a comparison's figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hf_lotus.evaluation.metrics import METRICS
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.functional.variance import crossed_deviations

TITLE = "What each seed adds to the spread"
EXPLANATION = (
    "Standard deviations by the analysis of variance: due to the seed of training (the retrained models, and in a "
    "benchmark the original), of unlearning (with its forget split), of evaluation, and due to what they do only "
    "together. – where there is one seed alone; 0 where the rest explains it all."
)
LEVELS = ("training", "unlearning", "evaluation")
# Figures that are looked at, as far as there are any.
_FIGURES = ("avg_gap", "retrain_free_gap", "relearning_excess", "mia_member_rate", "rf_jsd_z")


def spread_table(results: Sequence[UnlearningResult]) -> tuple[list[str], list[list[str]]] | None:
    """The deviation that each level of seeds adds, a row a model and figure; None unless some level has several seeds.

    Args:
        results: one for every training seed with every seed, of the same models.

    Returns:
        headings, and rows of text. None also where runs are missing, so that the design is not balanced.
    """
    trainings = list(dict.fromkeys(result.provenance.get("training_seed") for result in results))
    seeds = list(dict.fromkeys(result.provenance.get("seed") for result in results))
    cells = {(r.provenance.get("training_seed"), r.provenance.get("seed")): r for r in results}
    evaluations = list(results[0].provenance.get("evaluations", {})) or [None]
    shape = len(trainings), len(seeds), len(evaluations)
    # A table of one level would only repeat the deviations beside the means.
    if sum(count > 1 for count in shape) < 2 or len(cells) != len(results) or len(results) != shape[0] * shape[1]:
        return None
    rows = []
    for name in (model.name for model in results[0].models):
        for figure in _FIGURES:
            values = [
                [[_value(cells[training, seed], name, figure, e) for e in evaluations] for seed in seeds]
                for training in trainings
            ]
            array = np.array(values, dtype=float)  # None becomes NaN
            if not np.isfinite(array).all() or not array.any():
                continue
            digits, (found, rest) = METRICS[figure].digits, crossed_deviations(array)
            shown = ["–" if math.isnan(value) else f"{value:.{digits}f}" for value in (*found, rest)]
            rows.append([name, METRICS[figure].words, f"{array.mean():.{digits}f}", *shown])
    counts = [f"{level} ({count})" for level, count in zip(LEVELS, shape, strict=True)]
    return ["Model", "Figure", "Mean", *counts, "together"], rows


def _value(result: UnlearningResult, name: str, figure: str, evaluation: str | None) -> float | None:
    if evaluation is None:
        return result[name].values.get(figure)
    return result.provenance["evaluations"].get(evaluation, {}).get(name, {}).get(figure)
