"""The metric jsd through `evaluate.load`."""

import math

import evaluate
import numpy as np
import pytest
import torch
from scipy.spatial import distance

from hf_lotus.functional.divergences import reference_divergence
from hf_lotus.publishing.spaces import metric_path

RNG = np.random.default_rng(0)
P, Q = (RNG.dirichlet(np.full(4, 0.5), size=50) for _ in range(2))
LABELS = RNG.permutation(np.arange(50) % 4)
ROWS = distance.jensenshannon(P, Q, axis=1) ** 2


def load(**options):
    return evaluate.load(metric_path("jsd"), **options)


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor, lambda values: values.tolist()])
def test_in_batches(convert):
    metric = load()
    for part in np.array_split(np.arange(50), 3):
        metric.add_batch(predictions=convert(P[part]), references=convert(Q[part]), labels=convert(LABELS[part]))
    result = metric.compute()
    assert result["jsd"] == pytest.approx(ROWS.mean(), abs=1e-12)
    assert result["num_rows"] == 50
    assert result["per_class"] == {c: pytest.approx(ROWS[LABELS == c].mean(), abs=1e-12) for c in range(4)}


def test_in_one_call_without_labels():
    result = load().compute(predictions=P, references=Q)
    assert result == {"jsd": pytest.approx(ROWS.mean(), abs=1e-12), "num_rows": 50}


def test_row_by_row():
    metric = load()
    for p, q, label in zip(P, Q, LABELS, strict=True):
        metric.add(prediction=p, reference=torch.tensor(q), labels=label)
    assert len(metric) == 50
    assert metric.compute()["per_class"][2] == pytest.approx(ROWS[LABELS == 2].mean(), abs=1e-12)


def test_logits_and_bits():
    result = load(from_logits=True).compute(predictions=np.log(P) + 3, references=np.log(Q), base=2)
    assert result["jsd"] == pytest.approx(ROWS.mean() / math.log(2), abs=1e-12)


def test_the_reference_convention_in_batches():
    expected = reference_divergence(P, Q)
    metric = load(convention="reference")
    for part in np.array_split(np.arange(50), 3):
        metric.add_batch(predictions=P[part], references=Q[part], labels=LABELS[part])
    result = metric.compute()
    assert result["jsd"] == pytest.approx(expected.mean(), rel=1e-12)
    assert result["per_class"][1] == pytest.approx(expected[LABELS == 1].mean(), rel=1e-12)
    in_one_call = load().compute(predictions=P, references=Q, convention="reference")
    assert in_one_call["jsd"] == pytest.approx(expected.mean(), rel=1e-12)


def test_kept_rows_are_copies():
    metric, rows = load(convention="reference"), P.copy()
    metric.add_batch(predictions=rows, references=Q)
    rows[:] = 0.25
    assert metric.compute()["jsd"] == pytest.approx(reference_divergence(P, Q).mean(), rel=1e-12)


def test_the_reference_convention_cannot_be_had_from_sums():
    metric = load()
    metric.add_batch(predictions=P, references=Q)
    with pytest.raises(ValueError, match="give the convention to evaluate.load"):
        metric.compute(convention="reference")
    assert metric.compute()["jsd"] == pytest.approx(ROWS.mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"predictions": P, "references": Q[:1], "labels": LABELS}, "the same shape"),
        ({"predictions": P, "references": Q * 2, "labels": LABELS}, "references must hold probabilities.*Row 0"),
        ({"predictions": -P, "references": Q, "labels": LABELS}, "predictions must hold probabilities.*Row 0"),
        ({"predictions": P, "references": Q, "labels": LABELS + 1}, "outside the 4 classes"),
        ({"predictions": np.eye(3), "references": np.eye(3), "labels": [0, 1, 2]}, "have 3 classes, the ones before"),
        ({"predictions": P, "references": Q}, "labels with all rows or with none"),
        ({"predictions": P}, "references must hold numbers"),
    ],
)
def test_a_bad_batch_leaves_what_was_added(batch, message):
    metric = load()
    metric.add_batch(predictions=P, references=Q, labels=LABELS)
    for call in (metric.add_batch, metric.compute):
        with pytest.raises(ValueError, match=message):
            call(**batch)
    assert metric.compute()["jsd"] == pytest.approx(ROWS.mean(), abs=1e-12)


def test_an_empty_batch_adds_nothing():
    metric = load(convention="reference")
    metric.add_batch(predictions=np.empty((0, 3)), references=np.empty((0, 3)))
    metric.add_batch(predictions=P, references=Q)
    assert metric.compute()["num_rows"] == 50


def test_nothing_to_compute():
    with pytest.raises(ValueError, match="Nothing to compute"):
        load().compute()
