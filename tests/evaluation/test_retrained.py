"""Several retrained models: gaps to their mean, signed, in their deviations, and the floor of two trainings."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from hf_lotus.evaluation.metrics import COMPARED, DIFFERENCES
from hf_lotus.evaluation.results import (
    Controls,
    ModelResult,
    UnlearningResult,
    is_control_row,
    is_retrained_row,
    retrained_row,
)
from hf_lotus.evaluation.yardstick import Yardstick
from hf_lotus.reporting.differences import SPREAD_ROW, difference_table
from hf_lotus.reporting.tables import summarize
from tests.evaluation.test_evaluator import ORIGINAL, RETRAINED, UNLEARNED, model

OTHERS = [model(20 + 10 * number, forget=2.0 + number) for number in (1, 2)]
ALONE = [Yardstick(ORIGINAL, each).measure("m", UNLEARNED) for each in (RETRAINED, *OTHERS)]


def figures(*predictions):
    """The compared figures of models, shape (models, 4)."""
    rows = [Yardstick(ORIGINAL).measure("m", each) for each in predictions]
    return np.array([[getattr(row, name) for name in COMPARED] for row in rows])


def test_gaps_and_differences_are_from_the_mean_and_jsd_is_the_mean_of_divergences():
    own, golds = figures(UNLEARNED)[0], figures(RETRAINED, *OTHERS)
    measured = Yardstick(ORIGINAL, RETRAINED, further=OTHERS).measure("m", UNLEARNED)
    difference = own - golds.mean(axis=0)
    assert measured.avg_gap == pytest.approx(np.abs(difference).mean(), abs=1e-15)
    for name, expected in zip(COMPARED, difference, strict=True):
        assert getattr(measured, DIFFERENCES[name]) == pytest.approx(expected, abs=1e-15)
    assert (difference < 0).any() and (difference > 0).any()
    assert measured.gap_deviations == pytest.approx((np.abs(difference) / golds.std(axis=0, ddof=1)).mean())
    assert measured.jsd == pytest.approx(np.mean([alone.jsd for alone in ALONE]), abs=1e-12)


def test_one_retrained_model_is_measured_as_before():
    yardstick = Yardstick(ORIGINAL, RETRAINED)
    (row,) = yardstick.measure_retrained([3.0], {"retrain": {"relearning_excess": 0.01}})
    assert (row.name, row.avg_gap, row.jsd, row.seconds, row.relearning_excess) == ("retrain", 0, 0, 3.0, 0.01)
    assert ALONE[0].gap_deviations is None and yardstick.controls.avg_gap_floor is None
    assert len(yardstick.notes) == 0 and Yardstick(ORIGINAL).measure_retrained() == []


def test_each_retrained_model_is_measured_from_the_others_alone():
    rows = Yardstick(ORIGINAL, RETRAINED, further=OTHERS).measure_retrained([1.0, None])
    assert [row.name for row in rows] == ["retrain", "retrain again", "retrain again 2"]
    assert [row.seconds for row in rows] == [1.0, None, None]
    golds = figures(RETRAINED, *OTHERS)
    apart = np.abs(golds[1] - golds[[0, 2]].mean(axis=0)).mean()
    assert rows[1].avg_gap == pytest.approx(apart, abs=1e-15)
    pair = [
        jensenshannon(OTHERS[0]["forget"].probabilities, gold["forget"].probabilities, axis=1) ** 2
        for gold in (RETRAINED, OTHERS[1])
    ]
    assert rows[1].jsd == pytest.approx(np.mean(pair), abs=1e-7)


def test_the_floor_is_what_one_more_retrained_model_reads_on_average():
    """Gaussian figures stand for trainings: the scaled leave-one-out mean estimates a fresh model's gap to all n."""
    generator, n = np.random.default_rng(0), 2
    controls = Yardstick(ORIGINAL, RETRAINED, further=OTHERS[:1]).controls
    apart = np.abs(np.diff(figures(RETRAINED, OTHERS[0]), axis=0)).mean()
    assert controls.avg_gap_floor == pytest.approx(apart * math.sqrt(1.5 / 2), abs=1e-15)
    assert controls.forget_accuracy_std == pytest.approx(figures(RETRAINED, OTHERS[0])[:, 1].std(ddof=1))
    draws = generator.normal(size=(20000, n + 1))
    floor = np.abs(draws[:, 0] - draws[:, 1]) * math.sqrt((1 + 1 / n) / (1 + 1 / (n - 1)))
    fresh = np.abs(draws[:, n] - draws[:, :n].mean(axis=1))
    assert floor.mean() == pytest.approx(fresh.mean(), rel=0.03)


def test_rows_are_told_apart():
    assert [retrained_row(number) for number in range(3)] == ["retrain", "retrain again", "retrain again 2"]
    assert all(is_retrained_row(retrained_row(number)) for number in range(12))
    assert not any(is_control_row(name) for name in ("lotus", "retrain_again", "retrain against", "retrain again x"))
    assert is_control_row("original") and not is_retrained_row("original")


def result(seed, further=OTHERS):
    yardstick = Yardstick(ORIGINAL, RETRAINED, further=further, seed=seed)
    models = [yardstick.measure("original", ORIGINAL), yardstick.measure("lotus", UNLEARNED, 2.0)]
    models += yardstick.measure_retrained()
    return UnlearningResult(tuple(models), yardstick.controls, yardstick.notes, {"seed": seed, "split_digest": seed})


def test_the_table_of_differences_has_signs_deviations_and_multiples_of_the_floor():
    header, rows = difference_table([result(0)])
    assert header[-3:] == ["Avg Gap", "Avg Gap in deviations", "Avg Gap / floor"]
    cells = {row[0]: row[1:] for row in rows}
    assert list(cells) == ["original", "lotus", "retrain", "retrain again", "retrain again 2", SPREAD_ROW]
    measured = result(0)["lotus"]
    assert cells["lotus"][0] == f"{measured.forget_difference:+.3f}"
    assert float(cells["lotus"][-1]) == round(measured.avg_gap / result(0).controls.avg_gap_floor, 1)
    header, rows = difference_table([result(0, ()), result(1, ())])
    assert [row[0] for row in rows] == ["original", "lotus"] and header[-1] == "Avg Gap" and " ± " in rows[1][1]
    assert difference_table([UnlearningResult((ModelResult("original", 0.5, 0.5),), Controls())]) is None


def test_retrained_rows_are_no_methods_in_the_table_and_its_reference_is_the_floor(tmp_path):
    found = result(0)
    found.to_json(tmp_path / "results.json")
    assert UnlearningResult.from_json(tmp_path / "results.json").models == found.models
    (gap_row,) = [line for line in summarize([found]).splitlines() if line.startswith("| *reference")]
    assert f" {found.controls.avg_gap_floor:.4f} " in gap_row
    assert "mean of 3 retrained models" in found.to_markdown()
    second = replace(found, models=(*found.models[:2], ModelResult("scrub", 0.9, 0.9, avg_gap=0.5), *found.models[2:]))
    (again,) = [line for line in summarize([second]).splitlines() if line.startswith("| retrain again  ")]
    assert "**" not in again and "*" not in again
