"""The metric rmia through `evaluate.load`."""

import evaluate
import numpy as np
import pytest
import torch

from hf_lotus.functional.likelihood_ratios import rmia
from hf_lotus.publishing.spaces import metric_path

RNG = np.random.default_rng(0)
COUNTS = {"forget": 40, "unseen": 240}
MODELS = ("target", "one", "two")
LABELS = {source: RNG.integers(5, size=count) for source, count in COUNTS.items()}
LOGITS = {
    (source, model): RNG.normal(scale=2, size=(count, 5)) + 1.5 * np.eye(5)[LABELS[source]]
    for source, count in COUNTS.items()
    for model in MODELS
}
SOFTMAX = {key: torch.softmax(torch.tensor(rows), dim=1).numpy() for key, rows in LOGITS.items()}
TRUE = {key: rows[np.arange(len(rows)), LABELS[key[0]]] for key, rows in SOFTMAX.items()}
# Model "one" was trained on every third row.
TRAINED = {
    (source, model): (np.arange(count) % 3 == 0) & (model == "one")
    for source, count in COUNTS.items()
    for model in MODELS
}
SETTINGS = {"resamples": 20, "seed": 3}


def load(**options):
    return evaluate.load(metric_path("rmia"), **SETTINGS, **options)


def expected(trained: bool = False, **settings) -> dict:
    arrays = []
    for source in COUNTS:
        arrays += [TRUE[source, "target"], np.stack([TRUE[source, model] for model in MODELS[1:]])]
    masks = [np.stack([TRAINED[source, model] for model in MODELS[1:]]) for source in COUNTS]
    options = {"trained_on": masks[0], "unseen_trained_on": masks[1]} if trained else {}
    flat = {}
    for name, value in rmia(*arrays, **SETTINGS, **options, **settings).to_dict().items():
        if not isinstance(value, dict):
            flat[name] = value
            continue
        flat |= {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        if value["reason"]:
            flat[f"{name}_reason"] = value["reason"]
    return {name: v if v is None or isinstance(v, str) else pytest.approx(v, abs=1e-9) for name, v in flat.items()}


def add_all(metric, rows=TRUE, labelled=False, trained=False, parts=1):
    for (source, model), values in rows.items():
        for part in np.array_split(np.arange(len(values)), parts):
            metric.add_batch(
                predictions=values[part],
                references=LABELS[source][part] if labelled else None,
                source=source,
                model=model,
                trained_on=TRAINED[source, model][part] if trained else None,
            )
    return metric


@pytest.mark.parametrize("parts", [1, 3])
def test_probabilities_of_the_true_class_in_batches(parts):
    metric = add_all(load(), parts=parts)
    assert len(metric) == 3 * 280
    result = metric.compute()
    assert result == expected()
    assert result["tpr_at_0.001_fpr"] is None and "1,000" in result["tpr_at_0.001_fpr_reason"]
    assert 0 <= result["tpr_at_0.01_fpr"] <= 1


def test_rows_of_predictions():
    assert add_all(load(), SOFTMAX, labelled=True).compute() == expected()
    assert add_all(load(from_logits=True), LOGITS, labelled=True).compute() == expected()


def test_what_reference_models_were_trained_on():
    result = add_all(load(), trained=True).compute()
    assert result == expected(trained=True) and result["auc"] != expected()["auc"]


def test_in_one_call_with_a_source_and_model_for_each_row():
    sizes = [len(values) for values in TRUE.values()]
    result = load().compute(
        predictions=np.concatenate(list(TRUE.values())),
        source=np.repeat([source for source, _ in TRUE], sizes).tolist(),
        model=np.repeat([model for _, model in TRUE], sizes).tolist(),
        trained_on=np.concatenate(list(TRAINED.values())),
    )
    assert result == expected(trained=True)


def test_row_by_row():
    metric = load()
    for (source, model), values in TRUE.items():
        for value in values:
            metric.add(prediction=value, source=source, model=model)
    assert metric.compute() == expected()


@pytest.mark.parametrize("at_load", [True, False])
def test_options_at_load_or_compute(at_load):
    options = {"a": 0.6, "gamma": 1.2}
    metric = add_all(load(**options) if at_load else load())
    assert metric.compute(**{} if at_load else options) == expected(**options)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"predictions": [0.5, np.inf]}, "predictions must be finite; row 1"),
        ({"predictions": [1.5]}, "numbers between 0 and 1"),
        ({"predictions": [0.5], "source": "member"}, "'forget', 'unseen'"),
        ({"predictions": [0.5], "model": None}, "'target' is the judged one"),
        ({"predictions": [0.5], "trained_on": 1}, "trained_on must be a boolean"),
        ({"predictions": [0.5], "trained_on": [True, False]}, r"shape \(2,\)"),
        ({"predictions": [[0.5, 0.5]]}, "Probabilities of the true class needs references"),
        ({"predictions": [[0.5, 0.5]], "references": [1]}, "the ones before them numbers of your own"),
    ],
)
def test_a_bad_batch_leaves_what_was_added(batch, message):
    metric = add_all(load())
    for call in (metric.add_batch, metric.compute):
        with pytest.raises(ValueError, match=message):
            call(**{"source": "forget", "model": "target", **batch})
    assert metric.compute() == expected()


def test_what_is_missing_is_named_and_can_be_added():
    metric = load()
    metric.add_batch(predictions=TRUE["forget", "target"], source="forget", model="target")
    with pytest.raises(ValueError, match="add rows of 'unseen' under the model 'target'"):
        metric.compute()
    metric.add_batch(predictions=TRUE["unseen", "target"], source="unseen", model="target")
    with pytest.raises(ValueError, match="needs a reference model"):
        metric.compute()
    for model in ("one", "two"):
        metric.add_batch(predictions=TRUE["unseen", model], source="unseen", model=model)
    with pytest.raises(ValueError, match="no rows of 'forget' under the model 'one'"):
        metric.compute()
    for model in ("one", "two"):
        metric.add_batch(predictions=TRUE["forget", model], source="forget", model=model)
    assert metric.compute() == expected()


def test_a_sample_that_all_were_trained_on():
    metric = load()
    for (source, model), values in TRUE.items():
        metric.add_batch(predictions=values, source=source, model=model, trained_on=True)
    with pytest.raises(ValueError, match="All 2 reference models were trained on"):
        metric.compute()


@pytest.mark.parametrize("options", [{"a": 2}, {"gamma": 0.5}, {"resamples": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="a must lie between 0 and 1"):
        evaluate.load(metric_path("rmia"), **options)
