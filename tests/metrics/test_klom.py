"""The metric klom through `evaluate.load`."""

import evaluate
import numpy as np
import pytest
import torch

from hf_lotus.functional.confidence import logit_confidence
from hf_lotus.functional.margin_divergence import klom
from hf_lotus.publishing.spaces import metric_path

RNG = np.random.default_rng(0)
LABELS = RNG.integers(4, size=30)
LOGITS = {"unlearned": RNG.normal(scale=3, size=(6, 30, 4)), "retrained": RNG.normal(scale=2, size=(5, 30, 4))}
MARGINS = {
    source: np.stack([logit_confidence(rows, LABELS, from_logits=True) for rows in models])
    for source, models in LOGITS.items()
}
SETTINGS = {"resamples": 20, "seed": 3}


def load(**options):
    return evaluate.load(metric_path("klom"), **SETTINGS, **options)


def expected(**settings) -> dict:
    found = klom(MARGINS["unlearned"], MARGINS["retrained"], **SETTINGS, **settings).to_dict()
    flat = {}
    for name, value in found.items():
        if isinstance(value, dict):
            flat |= {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        else:
            flat[name] = value
    return {name: value if value is None else pytest.approx(value, rel=1e-6) for name, value in flat.items()}


def add_all(metric, rows=MARGINS, labels=None, parts=1):
    for part in np.array_split(np.arange(30), parts):
        for source, models in rows.items():
            for number, values in enumerate(models):
                references = None if labels is None else labels[part]
                metric.add_batch(predictions=values[part], references=references, source=source, model=number)
    return metric


@pytest.mark.parametrize("parts", [1, 3])
def test_margins_in_batches(parts):
    metric = add_all(load(), parts=parts)
    assert len(metric) == 330
    assert metric.compute() == expected()
    assert len(metric) == 0


def test_logits_and_probabilities():
    assert add_all(load(from_logits=True), LOGITS, LABELS).compute() == expected()
    softmax = {name: torch.softmax(torch.tensor(models), dim=2) for name, models in LOGITS.items()}
    assert add_all(load(), softmax, LABELS).compute() == expected()


def test_in_one_call():
    columns = [(source, number) for source, models in MARGINS.items() for number in range(len(models))]
    result = load().compute(
        predictions=np.concatenate([MARGINS[source][number] for source, number in columns]).tolist(),
        source=np.repeat([source for source, _ in columns], 30).tolist(),
        model=np.repeat([number for _, number in columns], 30).tolist(),
    )
    assert result == expected()


def test_row_by_row():
    metric = load()
    for source, models in MARGINS.items():
        for number, values in enumerate(models):
            for value in values:
                metric.add(prediction=value, source=source, model=number)
    assert metric.compute() == expected()


@pytest.mark.parametrize("at_load", [True, False])
def test_options_at_load_or_compute(at_load):
    options = {"bins": 5, "clip": 2.0, "epsilon": 1e-3}
    metric = add_all(load(**options) if at_load else load())
    assert metric.compute(**{} if at_load else options) == expected(**options)


def test_added_rows_are_copies():
    metric, rows = load(), {source: models.copy() for source, models in MARGINS.items()}
    add_all(metric, rows)
    for models in rows.values():
        models[:] = 0
    assert metric.compute() == expected()


def test_too_few_models_give_a_reason():
    metric = add_all(load(), {"unlearned": MARGINS["unlearned"][:3], "retrained": MARGINS["retrained"]})
    result = metric.compute()
    assert result["percentile_95"] is None and "3 unlearned, 5 retrained" in result["reason"]


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"predictions": [1.0, np.nan]}, "predictions must be finite; row 1 is nan"),
        ({"predictions": [1.0], "source": "original"}, "'unlearned', 'retrained'"),
        ({"predictions": [1.0], "model": None}, "say with model which one"),
        ({"predictions": [1.0], "model": [1, 2]}, r"one for each of the 1 rows; got \(2,\)"),
        ({"predictions": [[0.5, 0.5]]}, "Margins needs references"),
        ({"predictions": [[0.5, 0.5]], "references": [2]}, "Label 2 in row 0"),
        ({"predictions": [[0.5, 0.5]], "references": [1]}, "These rows give margins, the ones before them numbers of"),
        ({"predictions": [[0.5, 0.6]], "references": [1]}, "Row 0 is not"),
    ],
)
def test_a_bad_batch_leaves_what_was_added(batch, message):
    metric = add_all(load())
    for call in (metric.add_batch, metric.compute):
        with pytest.raises(ValueError, match=message):
            call(**{"source": "unlearned", "model": 0, **batch})
    assert metric.compute() == expected()


def test_models_with_other_samples_can_be_mended():
    metric = add_all(load())
    metric.add_batch(predictions=MARGINS["unlearned"][0][:29], source="unlearned", model="late")
    with pytest.raises(ValueError, match="'0' has 30, 'late' 29"):
        metric.compute()
    metric.add(prediction=MARGINS["unlearned"][0][29], source="unlearned", model="late")
    assert metric.compute()["unlearned_models"] == 7


def test_both_sources_are_needed():
    metric = load()
    with pytest.raises(ValueError, match="none of 'unlearned'"):
        metric.compute()
    metric.add_batch(predictions=[1.0], source="unlearned", model=0)
    with pytest.raises(ValueError, match="none of 'retrained'"):
        metric.compute()


@pytest.mark.parametrize("options", [{"bins": 1}, {"clip": 0}, {"epsilon": 1.0}, {"resamples": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="bins must be 2 or more"):
        evaluate.load(metric_path("klom"), **options)
