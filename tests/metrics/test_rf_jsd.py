"""The metric rf_jsd through `evaluate.load`."""

import math
import warnings

import evaluate
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_lotus.functional.divergences import RunningClassMeans, rf_jsd, rf_jsd_null
from hf_lotus.publishing.spaces import metric_path

LN2 = math.log(2)


def load(**options):
    return evaluate.load(metric_path("rf_jsd"), **options)


def rows_of(seed: int, count: int = 60, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 0.5), size=count), rng.permutation(np.arange(count) % classes)


FORGET, UNSEEN = rows_of(1), rows_of(2, count=90)
EXPECTED = rf_jsd(RunningClassMeans.of(*FORGET), RunningClassMeans.of(*UNSEEN))


def add_both(metric, convert=lambda values: values):
    for source, (probabilities, labels) in (("forget", FORGET), ("unseen", UNSEEN)):
        metric.add_batch(predictions=convert(probabilities), references=convert(labels), source=source)
    return metric


def test_in_batches():
    metric = load()
    for source, (probabilities, labels) in (("forget", FORGET), ("unseen", UNSEEN)):
        for part in np.array_split(np.arange(len(labels)), 4):
            metric.add_batch(predictions=probabilities[part], references=labels[part], source=source)
    result = metric.compute()
    assert result == {
        "rf_jsd": pytest.approx(EXPECTED.value, abs=1e-12),
        "per_class": {c: pytest.approx(value, abs=1e-12) for c, value in EXPECTED.per_class.items()},
        "num_classes": 3,
        "missing_classes": [],
    }


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor, lambda values: values.tolist()])
def test_arrays_tensors_and_lists(convert):
    assert add_both(load(), convert).compute()["rf_jsd"] == pytest.approx(EXPECTED.value, abs=1e-12)


def test_in_one_call_with_a_source_for_each_row():
    order = np.random.default_rng(0).permutation(150)
    probabilities, labels = (np.concatenate(arrays)[order] for arrays in zip(FORGET, UNSEEN, strict=True))
    source = np.repeat(["forget", "unseen"], [60, 90])[order].tolist()
    result = load().compute(predictions=probabilities, references=labels, source=source)
    assert result["rf_jsd"] == pytest.approx(EXPECTED.value, abs=1e-12)


def test_row_by_row():
    metric = load()
    for source, (probabilities, labels) in (("forget", FORGET), ("unseen", UNSEEN)):
        for row, label in zip(probabilities, labels, strict=True):
            metric.add(prediction=torch.tensor(row), reference=label, source=source)
    assert len(metric) == 150
    assert metric.compute()["rf_jsd"] == pytest.approx(EXPECTED.value, abs=1e-12)


def test_logits():
    logits = {"forget": np.log(FORGET[0]) + 5, "unseen": np.log(UNSEEN[0]) - 7}
    metric = load(from_logits=True)
    metric.add_batch(predictions=logits["forget"], references=FORGET[1], source="forget")
    metric.add_batch(predictions=torch.tensor(logits["unseen"]), references=UNSEEN[1], source="unseen")
    assert metric.compute()["rf_jsd"] == pytest.approx(EXPECTED.value, abs=1e-12)


@pytest.mark.parametrize("at_load", [True, False])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"base": 2}, EXPECTED.value / LN2),
        (
            {"convention": "reference"},
            rf_jsd(RunningClassMeans.of(*FORGET), RunningClassMeans.of(*UNSEEN), convention="reference").value,
        ),
    ],
)
def test_options_at_load_or_compute(options, expected, at_load):
    metric = add_both(load(**options) if at_load else load())
    assert metric.compute(**{} if at_load else options)["rf_jsd"] == pytest.approx(expected, rel=1e-12)


def test_without_the_value_of_each_class():
    assert "per_class" not in add_both(load(per_class=False)).compute()


def test_it_starts_afresh_after_compute():
    metric = add_both(load())
    first = metric.compute()
    assert len(metric) == 0
    assert add_both(metric).compute() == first


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.data())
def test_order_and_batches_do_not_matter(seed, data):
    forget, unseen = rows_of(seed, 24), rows_of(seed + 1, 30)
    metric, batches = METRIC, []
    for source, (probabilities, labels) in (("forget", forget), ("unseen", unseen)):
        order = np.array(data.draw(st.permutations(range(len(labels)))))
        borders = sorted(data.draw(st.lists(st.integers(0, len(labels)), max_size=3)))
        batches += [(source, probabilities[part], labels[part]) for part in np.split(order, borders)]
    for source, probabilities, labels in data.draw(st.permutations(batches)):
        metric.add_batch(predictions=probabilities, references=labels, source=source)
    value = metric.compute()["rf_jsd"]
    assert value == pytest.approx(
        rf_jsd(RunningClassMeans.of(*forget), RunningClassMeans.of(*unseen)).value, abs=1e-12
    )
    assert 0 <= value <= LN2
    for source, (probabilities, labels) in (("unseen", forget), ("forget", unseen)):
        metric.add_batch(predictions=probabilities, references=labels, source=source)
    assert metric.compute()["rf_jsd"] == pytest.approx(value, abs=1e-12)


METRIC = load()


# ---- the null ----


@pytest.mark.parametrize("one_call", [True, False])
def test_the_null(one_call):
    if one_call:
        probabilities, labels = (np.concatenate(arrays) for arrays in zip(FORGET, UNSEEN, strict=True))
        source = ["forget"] * 60 + ["unseen"] * 90
        result = load().compute(
            predictions=probabilities, references=labels, source=source, null_resamples=20, seed=3, base=2
        )
    else:
        result = add_both(load(null_resamples=20, seed=3, base=2)).compute()
    null = rf_jsd_null(*UNSEEN, np.bincount(FORGET[1]), resamples=20, seed=3, base=2)
    assert result["null_mean"] == pytest.approx(null.mean, rel=1e-12)
    assert result["null_std"] == pytest.approx(null.std, rel=1e-12)
    assert result["z"] == pytest.approx((EXPECTED.value / LN2 - null.mean) / null.std, rel=1e-9)


def test_the_null_keeps_a_bounded_number_of_rows():
    metric = load(null_resamples=50, null_rows=300)
    forget, unseen = rows_of(1, count=900), rows_of(2, count=9000)
    metric.add_batch(predictions=forget[0], references=forget[1], source="forget")
    for part in np.array_split(np.arange(9000), 9):
        metric.add_batch(predictions=unseen[0][part], references=unseen[1][part], source="unseen")
    assert len(metric._state.kept.rows()[0]) == 300
    result = metric.compute()
    null = rf_jsd_null(*unseen, np.bincount(forget[1]))
    # A sample of 100 rows a class stands for 3000: the sizes drawn are the real ones, so the null is the same but for
    # the sample's own noise.
    assert result["null_mean"] == pytest.approx(null.mean, rel=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"null_resamples": 1}, "at least 2.*got 1"),
        ({"null_rows": 0}, "null_rows at least 1"),
        ({"null_resamples": 50, "convention": "reference"}, "null is measured in the convention"),
    ],
)
def test_null_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load(**options)


def test_the_null_cannot_be_had_from_sums():
    metric = add_both(load())
    with pytest.raises(ValueError, match="give null_resamples to evaluate.load"):
        metric.compute(null_resamples=50)
    assert metric.compute()["rf_jsd"] == pytest.approx(EXPECTED.value, abs=1e-12)


# ---- bad input ----


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"predictions": [[0.5, 0.25, 0.25], [0.5, 0.5, 0.5]], "references": [0, 0]}, "Row 1 is not"),
        ({"predictions": [[0.5, 0.25, 0.25], [1.5, -0.25, -0.25]], "references": [0, 0]}, "Row 1 is not"),
        ({"predictions": [[0.5, np.nan, 0.25]], "references": [0]}, "Row 0 is not"),
        ({"predictions": [[0.5, 0.25, 0.25]], "references": [3]}, "Label 3 in row 0"),
        ({"predictions": [[0.5, 0.5]], "references": [0]}, "have 2 classes, the ones before them 3"),
        ({"predictions": [[0.5, 0.25, 0.25]], "references": [0, 1]}, r"shape \(1,\)"),
        ({"predictions": [[0.5, 0.25, 0.25]], "references": [0], "source": "retain"}, "'forget', 'unseen'.*retain"),
        ({"predictions": [[0.5, 0.25, 0.25]], "references": [0], "source": None}, "'forget', 'unseen'.*got None"),
        ({"predictions": [[0.5, 0.25, 0.25]], "references": [0], "source": ["forget", "unseen"]}, r"got \(2,\)"),
        ({"predictions": [[0.5, 0.25, 0.25]]}, "labels must hold numbers"),
    ],
)
def test_a_bad_batch_leaves_what_was_added(batch, message):
    metric = add_both(load())
    for call in (metric.add_batch, metric.compute):
        with pytest.raises(ValueError, match=message):
            call(**{"source": "forget", **batch})
    assert len(metric) == 150
    assert metric.compute()["rf_jsd"] == pytest.approx(EXPECTED.value, abs=1e-12)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ([], "Nothing to compute"),
        (["forget"], "the unseen set is empty"),
        (["unseen"], "the forget set is empty"),
    ],
)
def test_a_source_without_rows(added, message):
    metric = load()
    for source in added:
        metric.add_batch(predictions=FORGET[0], references=FORGET[1], source=source)
    with pytest.raises(ValueError, match=message):
        metric.compute()


def test_no_class_in_common_can_be_mended():
    metric = load()
    metric.add_batch(predictions=np.eye(2), references=[0, 0], source="forget")
    metric.add_batch(predictions=np.eye(2), references=[1, 1], source="unseen")
    with pytest.raises(ValueError, match="no class in common"):
        metric.compute()
    metric.add(prediction=[0.5, 0.5], reference=0, source="unseen")
    # The forget set's mean of class 0 is (1/2, 1/2), and so is the row just added.
    assert metric.compute()["rf_jsd"] == pytest.approx(0, abs=1e-15)


# ---- what the premise needs ----


def test_missing_classes_are_named_and_warned_of():
    metric = load()
    metric.add_batch(predictions=np.eye(3), references=[0, 1, 2], source="forget")
    metric.add_batch(predictions=np.eye(3)[:2], references=[0, 1], source="unseen")
    with pytest.warns(UserWarning, match="no unseen rows: 2"):
        assert metric.compute()["missing_classes"] == [2]


def test_a_whole_class_is_warned_of():
    metric = load()
    metric.add_batch(predictions=np.full((200, 3), 1 / 3), references=[1] * 200, source="forget")
    metric.add_batch(predictions=UNSEEN[0], references=UNSEEN[1], source="unseen")
    with pytest.warns(UserWarning, match="no row of classes 0, 2, of which one drawn at random would"):
        metric.compute()


def test_a_small_forget_set_that_misses_classes_by_chance_is_not_warned_of():
    metric = load()
    metric.add_batch(predictions=FORGET[0][:2], references=[0, 1], source="forget")
    metric.add_batch(predictions=UNSEEN[0], references=UNSEEN[1], source="unseen")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric.compute()["num_classes"] == 2
