"""Two real processes with uneven shares compute what one process computes."""

import json
import math

import evaluate
import numpy as np
import pytest
from accelerate import Accelerator

from hf_lotus.publishing.spaces import metric_path
from tests.support.metrics_on_ranks import main
from tests.support.ranks import on_ranks

LOADED = {
    "rf_jsd": ("rf_jsd", {}),
    "rf_jsd with its null": ("rf_jsd", {"null_resamples": 200}),
    "jsd": ("jsd", {}),
    "jsd as published": ("jsd", {"convention": "reference"}),
    "membership_inference": ("membership_inference", {}),
    "klom": ("klom", {"resamples": 20}),
    "relative_test": ("relative_test", {"resamples": 20}),
    "rmia": ("rmia", {"resamples": 20}),
}


def _rows(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(4, 0.5), size=count), rng.permutation(np.arange(count) % 4)


def _rf_jsd():
    for seed, (source, count) in enumerate((("forget", 203), ("unseen", 407))):
        probabilities, labels = _rows(seed, count)
        yield {"predictions": probabilities, "references": labels, "source": source}


def _jsd():
    (p, labels), (q, _) = _rows(0, 101), _rows(1, 101)
    yield {"predictions": p, "references": q, "labels": labels}


def _membership_inference():
    rng = np.random.default_rng(0)
    for source, count, level in (("member", 103, 0.5), ("non_member", 207, 1.0), ("forget", 55, 0.7)):
        yield {"predictions": rng.gamma(2, level, size=count), "source": source, "last": source == "forget"}


def _klom():
    rng = np.random.default_rng(0)
    for source, shift in (("unlearned", 1), ("retrained", 0)):
        for model in range(5):
            yield {"predictions": rng.normal(size=53) + shift, "source": source, "model": f"model {model}"}


def _relative_test():
    rng = np.random.default_rng(0)
    forget, unseen = rng.integers(3, size=107), rng.integers(3, size=203)
    for source, shift in (("unlearned", 1), ("original", 1), ("reference", 0), ("unseen", 0)):
        labels = unseen if source == "unseen" else forget
        yield {"predictions": rng.normal(size=len(labels)) + shift, "references": labels, "source": source}


def _rmia():
    rng = np.random.default_rng(0)
    for source, count in (("forget", 53), ("unseen", 211)):
        for model in ("target", "other"):
            yield {
                "predictions": rng.random(count),
                "source": source,
                "model": model,
                "trained_on": np.zeros(count, dtype=bool),
            }


BATCHES = {
    "rf_jsd": _rf_jsd,
    "jsd": _jsd,
    "membership_inference": _membership_inference,
    "klom": _klom,
    "relative_test": _relative_test,
    "rmia": _rmia,
}


def in_one_process(case: str) -> dict:
    name, options = LOADED[case]
    metric = evaluate.load(metric_path(name), **options)
    for batch in BATCHES[name]():
        batch.pop("last", None)
        metric.add_batch(**batch)
    return metric.compute()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    on_ranks(main, folder)
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def test_there_were_two_and_they_agree(ranks):
    assert [result["world_size"] for result in ranks] == [2, 2]
    assert ranks[0] == ranks[1]


@pytest.mark.parametrize("case", LOADED)
def test_they_compute_what_one_process_does(case, ranks):
    expected = json.loads(json.dumps(in_one_process(case)))
    result = dict(ranks[0][case])
    if "null_mean" in result:
        # The rows are the same but in another order, so each resample draws others: the same null, by another draw.
        null_mean, null_std = result.pop("null_mean"), result.pop("null_std")
        z = result.pop("z")
        assert z == pytest.approx((result["rf_jsd"] - null_mean) / null_std, rel=1e-9)
        standard_error = expected["null_std"] / math.sqrt(200 / 2)
        assert null_mean == pytest.approx(expected.pop("null_mean"), abs=4 * standard_error)
        assert null_std == pytest.approx(expected.pop("null_std"), rel=0.3)
        expected.pop("z")
    per_class = result.pop("per_class", {})
    assert per_class == {c: pytest.approx(v, abs=1e-12) for c, v in expected.pop("per_class", {}).items()}
    assert result == {
        name: value if isinstance(value, list) else pytest.approx(value, abs=1e-12) for name, value in expected.items()
    }


def test_a_rank_without_rows_takes_part(ranks):
    assert ranks[0]["one rank is empty"] == {"jsd": pytest.approx(math.log(2), abs=1e-12), "num_rows": 1}


def test_an_accelerator_of_one_process_changes_nothing():
    for case, (name, options) in LOADED.items():
        metric = evaluate.load(metric_path(name), **options)
        for batch in BATCHES[name]():
            batch.pop("last", None)
            metric.add_batch(**batch)
        assert metric.compute(accelerator=Accelerator(cpu=True)) == in_one_process(case)
