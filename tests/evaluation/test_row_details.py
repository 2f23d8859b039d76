"""What a report shows of a model beside its metrics, worked out by hand."""

import math

import numpy as np
import pytest

from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.row_details import BINS, entropy_histograms, reference_divergences, rounds_taken
from hf_lotus.evaluation.yardstick import Yardstick
from hf_lotus.functional.divergences import reference_divergence


def predicted(logits, labels=None):
    logits = np.asarray(logits, dtype=np.float64)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    entropy = -(p * np.log(p)).sum(axis=1)
    labels = np.zeros(len(logits), int) if labels is None else np.asarray(labels)
    return Predictions(labels, logits.argmax(axis=1), entropy, logits.astype(np.float32))


def test_every_sample_is_in_one_bin_the_uniform_ones_in_the_last():
    sure, unsure = [20.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]
    found = entropy_histograms({"forget": predicted([sure, unsure, unsure, unsure]), "test": predicted([sure])})
    assert found["top"] == pytest.approx(math.log(4))
    assert found["forget"]["shares"] == [0.25] + [0.0] * (BINS - 2) + [0.75]
    assert found["forget"]["mean"] == pytest.approx(0.75 * math.log(4), abs=1e-6)
    assert found["test"]["shares"][0] == 1


def test_the_published_codes_divergences_are_those_of_the_forget_set():
    draw = np.random.default_rng(0).normal
    ours, gold, unseen = (predicted(draw(size=(6, 3)), [0, 0, 1, 1, 2, 2]) for _ in range(3))
    yardstick = Yardstick({"forget": ours, "unseen": unseen}, {"forget": gold})
    found = reference_divergences(yardstick, {"forget": ours})
    assert found["jsd"] == pytest.approx(reference_divergence(ours.probabilities, gold.probabilities).mean())
    means = [np.stack([p.probabilities[2 * c : 2 * c + 2].mean(axis=0) for c in range(3)]) for p in (ours, unseen)]
    assert found["rf_jsd"] == pytest.approx(reference_divergence(*means).mean())
    assert reference_divergences(Yardstick({"forget": ours}), {"forget": ours}) == {}


def test_the_course_of_a_run_joins_what_was_logged_before_and_after_its_rounds():
    log = [
        {"round": 0, "temperature": 1.5, "forget_accuracy": 0.9, "stop": 0.0, "epoch": 0, "step": 0},
        {"loss": 2.0, "epoch": 1.0, "step": 5},
        {"eval_forget_accuracy": 0.8, "eval_test_accuracy": 0.7, "eval_rf_jsd": 0.1, "epoch": 1.0, "step": 5},
        {"round": 1, "temperature": 1.2, "forget_accuracy": 0.8, "stop": 0.0, "epoch": 1.0, "step": 5},
        {"eval_forget_accuracy": 0.75, "eval_test_accuracy": 0.69, "epoch": 2.0, "step": 10},
    ]
    assert rounds_taken(log) == [
        {"rounds": 0, "temperature": 1.5, "forget_accuracy": 0.9},
        {"rounds": 1, "forget_accuracy": 0.8, "test_accuracy": 0.7, "temperature": 1.2},
        {"rounds": 2, "forget_accuracy": 0.75, "test_accuracy": 0.69},
    ]
    assert rounds_taken([{"round": 0, "stop": 0.0, "epoch": 0, "step": 0}]) == []
