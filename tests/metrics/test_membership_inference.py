"""The metric membership_inference through `evaluate.load`."""

import evaluate
import numpy as np
import pytest
import torch

from hf_lotus.functional.membership import (
    attack_scores,
    auc,
    fit_attack,
    held_out_member_rate,
    member_rate,
    prediction_entropy,
    tpr_at_fpr,
    true_class_confidence,
)
from hf_lotus.publishing.spaces import metric_path

RNG = np.random.default_rng(0)
# Members are predicted with more certainty than non-members, the forget set is in between.
LOGITS = {
    "member": RNG.normal(scale=4, size=(400, 5)),
    "non_member": RNG.normal(scale=2, size=(300, 5)),
    "forget": RNG.normal(scale=3, size=(200, 5)),
}
PROBABILITIES = {name: torch.softmax(torch.from_numpy(rows), dim=1).numpy() for name, rows in LOGITS.items()}
LABELS = {name: RNG.integers(0, 5, len(rows)) for name, rows in LOGITS.items()}
STATISTICS = {
    "entropy": {name: prediction_entropy(rows) for name, rows in PROBABILITIES.items()},
    "confidence": {name: true_class_confidence(rows, LABELS[name]) for name, rows in PROBABILITIES.items()},
}


def load(**options):
    return evaluate.load(metric_path("membership_inference"), **options)


def expected(statistics: dict[str, np.ndarray]) -> dict[str, float]:
    attack = fit_attack(statistics["member"], statistics["non_member"])
    scores = {name: attack_scores(attack, values) for name, values in statistics.items()}
    rate = member_rate(attack, statistics["forget"])
    values = {
        "member_rate": rate,
        "efficacy": 1 - rate,
        "non_member_rate": held_out_member_rate(statistics["member"], np.empty(0), statistics["non_member"]),
    }
    for prefix, name in (("", "forget"), ("members_", "member")):
        values[f"{prefix}auc"] = auc(scores[name], scores["non_member"])
        values[f"{prefix}tpr_at_0.001_fpr"] = tpr_at_fpr(scores[name], scores["non_member"], 0.001)
        values[f"{prefix}tpr_at_0.01_fpr"] = tpr_at_fpr(scores[name], scores["non_member"], 0.01)
    return {name: pytest.approx(value, abs=1e-12) for name, value in values.items()}


def add_all(metric, rows: dict, labels: dict | None = None):
    for source, values in rows.items():
        parts = np.array_split(np.arange(len(values)), 3)
        for part in parts:
            references = None if labels is None else labels[source][part]
            metric.add_batch(predictions=values[part], references=references, source=source)
    return metric


def test_probabilities():
    assert add_all(load(), PROBABILITIES).compute() == expected(STATISTICS["entropy"])


@pytest.mark.parametrize("attack", ["entropy", "confidence"])
def test_logits(attack):
    metric = add_all(load(from_logits=True, attack=attack), LOGITS, LABELS)
    assert metric.compute() == expected(STATISTICS[attack])


def test_statistics_of_one_s_own():
    assert add_all(load(), STATISTICS["confidence"]).compute() == expected(STATISTICS["confidence"])


def test_in_one_call():
    rows, labels = (np.concatenate(list(values.values())) for values in (PROBABILITIES, LABELS))
    source = np.repeat(list(PROBABILITIES), [len(values) for values in PROBABILITIES.values()])
    result = load().compute(predictions=rows, references=labels, source=source, attack="confidence")
    assert result == expected(STATISTICS["confidence"])


def test_row_by_row():
    metric = load()
    for source, values in STATISTICS["entropy"].items():
        for value in values:
            metric.add(prediction=value, source=source)
    assert len(metric) == 900
    assert metric.compute() == expected(STATISTICS["entropy"])


def test_both_attacks_at_once():
    both = evaluate.combine({name: load(attack=name) for name in STATISTICS}, force_prefix=True)
    for source, rows in PROBABILITIES.items():
        both.add_batch(predictions=rows, references=LABELS[source], source=source)
    result = both.compute()
    for attack, statistics in STATISTICS.items():
        for name, value in expected(statistics).items():
            assert result[f"{attack}_{name}"] == value


def test_added_statistics_are_copies():
    metric = load()
    statistics = {name: values.copy() for name, values in STATISTICS["entropy"].items()}
    for source, values in statistics.items():
        metric.add_batch(predictions=values, source=source)
        values[:] = 0
    assert metric.compute() == expected(STATISTICS["entropy"])


@pytest.mark.parametrize(
    ("options", "batch", "message"),
    [
        ({}, {"predictions": [0.1, np.inf]}, "finite; row 1 is inf"),
        ({}, {"predictions": [[0.5, 0.6]]}, "Row 0 is not"),
        ({}, {"predictions": [0.1]}, "statistic 'given', the ones before them 'entropy'"),
        ({}, {"predictions": [[0.5, 0.5]], "source": "unseen"}, "'member', 'non_member', 'forget'"),
        ({"attack": "confidence"}, {"predictions": [[0.5, 0.5]], "references": None}, "needs references"),
        ({"attack": "confidence"}, {"predictions": [[0.5, 0.5]], "references": [2]}, "Label 2 in row 0"),
    ],
)
def test_a_bad_batch_leaves_what_was_added(options, batch, message):
    metric = add_all(load(**options), PROBABILITIES, LABELS)
    for call in (metric.add_batch, metric.compute):
        with pytest.raises(ValueError, match=message):
            call(**{"source": "forget", **batch})
    assert metric.compute() == expected(STATISTICS[options.get("attack", "entropy")])


def test_every_source_is_needed():
    metric = load()
    metric.add_batch(predictions=[0.1, 0.2], source="member")
    metric.add_batch(predictions=[0.8, 0.9], source="non_member")
    with pytest.raises(ValueError, match="none of 'forget'"):
        metric.compute()
    metric.add(prediction=0.15, source="forget")
    assert metric.compute()["member_rate"] == 1.0


def test_an_unknown_attack_is_refused():
    with pytest.raises(ValueError, match="entropy, confidence, got 'loss'"):
        load(attack="loss")
