"""The table of many methods: figures, marks and what is said below it, worked out by hand."""

import pytest

from hf_lotus.evaluation.results import Controls, ModelResult, UnlearningResult
from hf_lotus.reporting.tables import summarize


def result(rows, controls=None, **about):
    """Rows: name → (forget accuracy, retain accuracy, seconds)."""
    models = [
        ModelResult(name, forget, retain, avg_gap=abs(forget - 0.8), seconds=seconds)
        for name, (forget, retain, seconds) in rows.items()
    ]
    return UnlearningResult(tuple(models), controls or Controls(), (), about)


def cells(table):
    lines = [line for line in table.splitlines() if line.startswith("|")]
    header, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|-")
    ]
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


ROWS = {
    "original": (0.95, 0.99, None),
    "a": (0.90, 0.98, 10.0),
    "b": (0.82, 0.90, 30.0),
    "c": (0.60, 0.97, 20.0),
    "retrain": (0.80, 0.985, 100.0),
}


def test_the_nearest_to_the_retrained_model_is_bold_and_the_next_italic():
    table = cells(summarize([result(ROWS)]))
    assert [table[name]["Forget acc."] for name in "abc"] == ["*0.900*", "**0.820**", "0.600"]
    assert [table[name]["Retain acc."] for name in "abc"] == ["**0.980**", "0.900", "*0.970*"]
    assert [table[name]["Seconds"] for name in "abc"] == ["**10.0**", "30.0", "*20.0*"]
    assert table["original"]["Forget acc."] == "0.950" and table["retrain"]["Seconds"] == "100.0"


def test_without_a_retrained_model_the_reference_or_the_original_is_the_target():
    rows = {name: row for name, row in ROWS.items() if name != "retrain"}
    table = cells(summarize([result(rows, Controls(unseen_accuracy=0.61))]))
    assert [table[name]["Forget acc."] for name in "abc"] == ["0.900", "*0.820*", "**0.600**"]
    assert [table[name]["Retain acc."] for name in "abc"] == ["**0.980**", "0.900", "*0.970*"]
    assert table["*reference: unseen data*"]["Forget acc."] == "0.610"


def test_several_runs_give_mean_and_sample_deviation_and_say_whose_forget_sets():
    second = {**ROWS, "a": (0.86, 0.98, 14.0)}
    text = summarize([result(ROWS, split_digest="1", seed=3), result(second, split_digest="2", seed=4)])
    table = cells(text)
    # Mean of 0.90 and 0.86; their sample deviation is 0.04/√2.
    assert table["a"]["Forget acc."] == "*0.880 ± 0.028*"
    assert table["a"]["Seconds"] == "**12.0 ± 2.8**"
    assert table["original"]["Seconds"] == "–"
    assert "over 2 runs (seeds 3, 4), each with its own forget set." in text
    same = summarize([result(ROWS, split_digest="1", seed=3), result(second, split_digest="1", seed=4)])
    assert "all with the same forget set" in same
    third = [result(ROWS, split_digest=digest, seed=5) for digest in "112"]
    assert "some with the same forget set" in summarize(third)


def test_marks_go_by_the_distance_in_each_run_and_not_by_that_of_the_means():
    """One above and one below the target by as much are no better for cancelling out."""
    first = {"a": (0.70, 0.9, 1.0), "b": (0.85, 0.9, 2.0), "retrain": (0.8, 0.9, 3.0)}
    second = {**first, "a": (0.90, 0.9, 1.0)}
    table = cells(summarize([result(first), result(second)]))
    assert table["b"]["Forget acc."].startswith("**") and table["a"]["Forget acc."].startswith("*0.8")


def test_no_mark_where_there_is_nothing_to_tell_apart():
    rows = {"original": (0.9, 0.9, None), "a": (0.8, 0.9, 1.0)}
    assert "*" not in cells(summarize([result(rows)]))["a"]["Forget acc."]
    equal = {"a": (0.8, 0.9, 1.0), "b": (0.8, 0.9, 1.0), "retrain": (0.8, 0.9, 3.0)}
    assert "*" not in cells(summarize([result(equal)]))["a"]["Forget acc."]


def test_names_stay_text_and_runs_with_other_models_are_refused():
    assert "a\\|b" in summarize([result({"original": (0.9, 0.9, 1.0), "a|b": (0.8, 0.9, 1.0)})])
    with pytest.raises(ValueError, match="same models"):
        summarize([result({"a": (0.8, 0.9, 1.0)}), result({"b": (0.8, 0.9, 1.0)})])
    with pytest.raises(ValueError, match="same models"):
        summarize([])
