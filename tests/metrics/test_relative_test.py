"""The metric relative_test through `evaluate.load`."""

import evaluate
import numpy as np
import pytest
import torch

from hf_lotus.functional.confidence import logit_confidence
from hf_lotus.functional.three_samples import relative_test, relative_test_unseen
from hf_lotus.publishing.spaces import metric_path

RNG = np.random.default_rng(0)
FORGET, UNSEEN = RNG.integers(3, size=120), RNG.integers(3, size=200)
LABELS = {"unlearned": FORGET, "original": FORGET, "reference": FORGET, "unseen": UNSEEN}
HIGHER = {"unlearned": 2.4, "original": 2.5, "reference": 0.0, "unseen": 0.0}
LOGITS = {
    source: RNG.normal(size=(len(labels), 3)) + HIGHER[source] * np.eye(3)[labels] for source, labels in LABELS.items()
}
VALUES = {source: logit_confidence(rows, LABELS[source], from_logits=True) for source, rows in LOGITS.items()}
SETTINGS = {"resamples": 50, "seed": 3}
FORMS = [("reference",), ("unseen",), ("reference", "unseen")]


def load(**options):
    return evaluate.load(metric_path("relative_test"), **SETTINGS, **options)


def expected(form=("reference",), **settings) -> dict:
    u, o = VALUES["unlearned"], VALUES["original"]
    result = {}
    if "reference" in form:
        result |= relative_test(u, o, VALUES["reference"], **SETTINGS, **settings).to_dict()
    if "unseen" in form:
        found = relative_test_unseen(u, o, FORGET, VALUES["unseen"], UNSEEN, **SETTINGS, **settings).to_dict()
        result |= {f"unseen_{name}": value for name, value in found.items()}
    return {name: value if value is None else pytest.approx(value, rel=1e-6) for name, value in result.items()}


def add_all(metric, rows=VALUES, form=("reference",), labelled=True, parts=1):
    for source in ("unlearned", "original", *form):
        for part in np.array_split(np.arange(len(rows[source])), parts):
            references = LABELS[source][part] if labelled else None
            metric.add_batch(predictions=rows[source][part], references=references, source=source)
    return metric


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("parts", [1, 3])
def test_both_forms_in_batches(form, parts):
    result = add_all(load(), form=form, parts=parts).compute()
    assert result == expected(form)
    assert all(result[name] < 0.05 for name in result if name.endswith("p_value"))


def test_logits_and_probabilities():
    assert add_all(load(from_logits=True), LOGITS, FORMS[2]).compute() == expected(FORMS[2])
    softmax = {source: torch.softmax(torch.tensor(rows), dim=1) for source, rows in LOGITS.items()}
    assert add_all(load(), softmax, FORMS[2]).compute() == expected(FORMS[2])


def test_numbers_need_no_classes_with_a_retrained_model():
    assert add_all(load(), labelled=False).compute() == expected()


def test_in_one_call():
    source = np.repeat(list(VALUES), [len(values) for values in VALUES.values()]).tolist()
    values, labels = (np.concatenate(list(columns.values())) for columns in (VALUES, LABELS))
    result = load().compute(predictions=values.tolist(), references=labels.tolist(), source=source)
    assert result == expected(FORMS[2])


def test_row_by_row():
    metric = load()
    for source in ("unlearned", "original", "unseen"):
        for value, label in zip(VALUES[source], LABELS[source], strict=True):
            metric.add(prediction=value, reference=label, source=source)
    assert len(metric) == 440
    assert metric.compute() == expected(("unseen",))


@pytest.mark.parametrize("at_load", [True, False])
def test_options_at_load_or_compute(at_load):
    options = {"bandwidth": 1.5, "tolerance": 0.02}
    metric = add_all(load(**options) if at_load else load())
    assert metric.compute(**{} if at_load else options) == expected(**options)


def test_too_few_samples_give_a_reason():
    metric = load()
    for source in ("unlearned", "original", "reference"):
        metric.add_batch(predictions=VALUES[source][:40], source=source)
    result = metric.compute()
    assert result["p_value"] is None and "needs 50 samples" in result["reason"]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"predictions": [1.0, np.nan], "references": [0, 1]}, "predictions must be finite; row 1"),
        ({"predictions": [1.0], "references": [0], "source": "retrained"}, "'unlearned', 'original', 'reference'"),
        ({"predictions": [1.0], "references": [0, 1]}, r"integers of shape \(1,\)"),
        ({"predictions": [1.0], "references": [0.5]}, r"integers of shape \(1,\), got float64"),
        ({"predictions": [[0.5, 0.5]]}, "Logit-scaled confidences needs references"),
        ({"predictions": [[0.5, 0.5]], "references": [0]}, "the ones before them numbers of your own"),
    ],
)
def test_a_bad_batch_leaves_what_was_added(batch, message):
    metric = add_all(load())
    for call in (metric.add_batch, metric.compute):
        with pytest.raises(ValueError, match=message):
            call(**{"source": "reference", **batch})
    assert metric.compute() == expected()


def test_a_source_that_is_missing_can_be_added():
    metric = load()
    with pytest.raises(ValueError, match="there are rows of none"):
        metric.compute()
    add_all(metric, form=())
    with pytest.raises(ValueError, match="there are rows of 'unlearned', 'original'"):
        metric.compute()
    metric.add_batch(predictions=VALUES["reference"], source="reference")
    assert metric.compute() == expected()


def test_other_samples_are_seen_by_their_classes_or_their_number():
    metric = add_all(load(), form=())
    metric.add_batch(predictions=VALUES["reference"], references=np.roll(FORGET, 1), source="reference")
    with pytest.raises(ValueError, match="of 'unlearned' and of 'reference' have different classes"):
        metric.compute()
    metric = add_all(load(), form=())
    metric.add_batch(predictions=VALUES["reference"][:-1], references=FORGET[:-1], source="reference")
    with pytest.raises(ValueError, match="must answer the same samples"):
        metric.compute()


def test_unseen_rows_need_classes():
    metric = add_all(load(), form=("unseen",), labelled=False)
    with pytest.raises(ValueError, match="Unseen rows are matched by class"):
        metric.compute()


@pytest.mark.parametrize("options", [{"bandwidth": 0}, {"tolerance": -1}, {"resamples": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="bandwidth must be above 0|resamples must be 1 or more"):
        evaluate.load(metric_path("relative_test"), **options)
