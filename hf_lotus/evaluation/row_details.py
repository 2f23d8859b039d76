"""What a report shows of one model beside its metrics: entropies, the published code's divergences, its rounds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.yardstick import Yardstick
from hf_lotus.functional.divergences import RunningClassMeans, reference_divergence, rf_jsd

BINS = 30
# What a round's log entry holds of the trainer's own.
_NOT_VALUES = ("round", "stop", "epoch", "step")
_ACCURACIES = ("forget_accuracy", "retain_accuracy", "unseen_accuracy", "test_accuracy")


def row_details(
    yardstick: Yardstick,
    predictions: Mapping[str, Predictions],
    log_history: Iterable[Mapping[str, float]] = (),
    rf_jsd_on: str = "unseen",
) -> dict[str, object]:
    """All that a report needs of one model, as JSON values.

    Args:
        yardstick: what the model was measured against.
        predictions: its predictions, split → `Predictions`.
        log_history: the log of its run (`trainer.state.log_history`), where it was unlearned by one.
        rf_jsd_on: the split that the published code's RF-JSD is measured against.
    """
    return {
        "entropy": entropy_histograms(predictions),
        "reference": reference_divergences(yardstick, predictions, rf_jsd_on),
        "rounds": rounds_taken(log_history),
    }


def entropy_histograms(predictions: Mapping[str, Predictions]) -> dict[str, object]:
    """Shares of the samples of each split by the entropy of their prediction, from 0 to ln K nats in equal bins.

    Returns:
        "top" (ln K), and split → {"mean": nats, "shares": one a bin, summing to one}.
    """
    top = math.log(predictions["forget"].num_classes)
    histograms: dict[str, object] = {"top": top}
    for split, predicted in predictions.items():
        shares = [round(float(share), 6) for share in entropy_shares(predicted.entropy, entropy_bins(top))]
        histograms[split] = {"mean": float(predicted.entropy.mean()), "shares": shares}
    return histograms


def entropy_bins(top: float) -> np.ndarray:
    """The edges of equal bins from 0 to `top` nats, shape (BINS + 1,)."""
    return np.linspace(0, top, BINS + 1)


def entropy_shares(entropy: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Share of the samples in each bin, shape (bins,); their sum is one."""
    # Rounding may lift a uniform prediction's entropy above the last edge.
    return np.histogram(entropy.clip(0, bins[-1]), bins)[0] / len(entropy)


def reference_divergences(
    yardstick: Yardstick, predictions: Mapping[str, Predictions], rf_jsd_on: str = "unseen"
) -> dict[str, float]:
    """JSD and RF-JSD as the published code computes them, for a comparison with the paper's figures alone.

    Args:
        yardstick: what the model was measured against; JSD is from the first retrained model, as theirs is.
        predictions: the model's.
        rf_jsd_on: the split of the original's predictions in RF-JSD. The published code hands it "test", though the
            paper's text says validation data: the paper's figures have to be held against that.
    """
    forget, found = predictions["forget"], {}
    if yardstick.retrained is not None:
        gold = yardstick.retrained["forget"].probabilities
        found["jsd"] = float(reference_divergence(forget.probabilities, gold).mean())
    unseen = yardstick.original.get(rf_jsd_on)
    if unseen is not None and len(np.intersect1d(forget.labels, unseen.labels)):
        means = (RunningClassMeans.of(part.probabilities, part.labels) for part in (forget, unseen))
        found["rf_jsd"] = rf_jsd(*means, convention="reference").value
    return found


def rounds_taken(log_history: Iterable[Mapping[str, float]]) -> list[dict[str, float]]:
    """The course of a run: what its log tells of the model after 0, 1, … rounds, in order.

    Returns:
        entries with "rounds" (how many were over) and, as far as they were logged, the values that the method chose
        for the round that follows, such as "temperature", and the accuracies.
    """
    course: dict[int, dict[str, float]] = {}
    for entry in log_history:
        if "round" in entry:
            values = {name: value for name, value in entry.items() if name not in _NOT_VALUES}
            course.setdefault(int(entry["round"]), {}).update(values)
        elif f"eval_{_ACCURACIES[0]}" in entry:
            values = {name: entry[f"eval_{name}"] for name in _ACCURACIES if f"eval_{name}" in entry}
            course.setdefault(round(entry["epoch"]), {}).update(values)
    return [{"rounds": rounds, **course[rounds]} for rounds in sorted(course) if course[rounds]]
