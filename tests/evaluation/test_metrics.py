"""The table of metrics: one entry and one function make a metric, ours or another distribution's."""

from __future__ import annotations

import json
import pickle
import sys
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard

from hf_lotus import ForgetSetRecord, LoTUS, Salt, UnlearningArguments, UnlearningResult, summarize
from hf_lotus.evaluation.attacks import Attack, MemberRates
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.metrics import (
    COMPARED,
    CONTROL,
    DIFFERENCES,
    METRICS,
    NEEDS,
    RETRAIN,
    ZERO,
    Metric,
    member_rate_of,
    metrics_table,
)
from hf_lotus.evaluation.results import Controls, ModelResult
from hf_lotus.evaluation.yardstick import Yardstick
from hf_lotus.publishing.evidence import write_evidence
from hf_lotus.publishing.model_card import write_model_card
from hf_lotus.publishing.record import RECORD
from hf_lotus.publishing.remeasurement import _compare
from hf_lotus.publishing.verification import check_folder
from hf_lotus.reporting.report import write_report
from hf_lotus.utils.plugins import PluginError
from tests.conftest import divided
from tests.evaluation.test_evaluator import ORIGINAL, RETRAINED, UNLEARNED, model
from tests.support.every_method import build, kept_scans
from tests.support.plugins import write_distribution

GROUP = "hf_lotus.metrics"


def confidence(model) -> float:
    """The whole of a metric: the mean greatest probability on the forget set."""
    return float(model.predictions["forget"].probabilities.max(axis=1).mean())


CONFIDENCE = Metric(
    "confidence", "Confidence", "Mean greatest probability on the forget set.", confidence, digits=2, best="least"
)
BY_HAND = {
    name: float(np.mean([row.max() for row in model["forget"].probabilities]))
    for name, model in {"original": ORIGINAL, "a": UNLEARNED, "retrain": RETRAINED}.items()
}


@pytest.fixture
def toy(monkeypatch) -> Metric:
    """A metric among ours, for a while."""
    monkeypatch.setitem(METRICS.own, CONFIDENCE.name, CONFIDENCE)
    return CONFIDENCE


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution with one entry point, `name` → `value`, and the module `toy_metric`."""

    def install(source: str, name: str = "certainty", value: str = "toy_metric:CERTAINTY") -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        write_distribution(folder, "toy-metrics", GROUP, {name: value}, {"toy_metric": source})
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, "toy_metric", raising=False)

    return install


PLUGIN = """
    from hf_lotus.evaluation.metrics import Metric

    def certainty(model):
        return model.predictions["forget"].probabilities.max(axis=1).mean()  # a NumPy float

    CERTAINTY = Metric("certainty", "Cer|tainty", "How certain it is.", certainty, best="least")
"""


def compared(**given) -> UnlearningResult:
    yardstick = Yardstick(ORIGINAL, RETRAINED)
    models = {"original": ORIGINAL, "a": UNLEARNED, "b": {**UNLEARNED, "forget": ORIGINAL["forget"]}}
    rows = [yardstick.measure(name, model, **given) for name, model in {**models, "retrain": RETRAINED}.items()]
    return UnlearningResult(tuple(rows), yardstick.controls, yardstick.notes, {"seed": 0})


class TestTheTable:
    def test_every_metric_says_what_it_is_and_has_its_own_words_and_column(self):
        ours = METRICS.own.values()
        assert all(metric.description.endswith(".") for metric in ours)
        headings = [metric.heading for metric in ours if metric.heading]
        # All but the unseen member rate, and what the report shows in a table of its own.
        without = {metric.name for metric in ours if not metric.heading}
        assert without == {"unseen_member_rate", *DIFFERENCES.values(), "gap_deviations"}
        assert len(set(headings)) == len(headings) == len(ours) - 6
        controls = {metric.control for metric in ours} | {metric.control_std for metric in ours}
        assert controls - {None} == set(vars(Controls())) - {f"{figure}_std" for figure in COMPARED}
        # Under JSD and Avg Gap stands what two trainings lie apart; less is better all the same.
        held = {m.name for m in ours if CONTROL in m.held_against}
        assert held | {"jsd", "avg_gap"} == {m.name for m in ours if m.control}

    def test_the_order_of_results_is_that_of_format_version_1(self):
        assert list(METRICS.own) == [
            "forget_accuracy", "retain_accuracy", "unseen_accuracy", "test_accuracy", "mia_member_rate",
            "unseen_member_rate", "jsd", "rf_jsd", "rf_jsd_z", "mia_efficacy", "zrf", "avg_gap", "retrain_free_gap",
            "seconds", "relearning_excess", "member_rate_difference", "forget_difference", "retain_difference",
            "test_difference", "gap_deviations",
        ]  # fmt: skip

    def test_what_is_measured_without_a_need_is_what_does_not_name_it(self):
        everything = Yardstick(ORIGINAL, RETRAINED, ignorant=RETRAINED["forget"], further=[model(30, forget=3.0)])
        given = {"relearning_excess": 0.1}
        whole = everything.measure("m", UNLEARNED, seconds=1.0, given=given)
        assert list(whole.values) == list(METRICS.own)
        for need, lacking in {
            RETRAIN: replace(everything, retrained=None),
            "random": replace(everything, ignorant=None),
        }.items():
            left = lacking.measure("m", UNLEARNED, seconds=1.0, given=given).metrics()
            assert whole.metrics().keys() - left.keys() == {m.name for m in METRICS.values() if need in m.needs}
        for split in ("unseen", "test"):
            without = [
                {name: part for name, part in model.items() if name != split}
                for model in (ORIGINAL, RETRAINED, UNLEARNED)
            ]
            lacking = replace(everything, original=without[0], retrained=without[1])
            left = lacking.measure("m", without[2], seconds=1.0, given=given).metrics()
            assert whole.metrics().keys() - left.keys() == {m.name for m in METRICS.values() if split in m.needs}
        left = replace(everything, class_wise=True).measure("m", UNLEARNED, seconds=1.0, given=given).metrics()
        assert whole.metrics().keys() - left.keys() == {m.name for m in METRICS.values() if not m.class_wise}

    def test_as_documentation(self):
        table = metrics_table()
        for metric in METRICS.values():
            (row,) = [line for line in table.splitlines() if line.startswith(f"| `{metric.name}` ")]
            assert all(NEEDS[need] in row for need in metric.needs)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"name": "RF JSD"}, "lower-case letters"),
            ({"name": "values"}, "is none of"),
            ({"needs": ("moon",)}, "needs of the metric 'confidence' knows unseen, test, .*; got 'moon'"),
            ({"held_against": ("moon",)}, "held_against of the metric 'confidence' knows"),
            ({"best": "fast"}, "best of the metric 'confidence' knows nearest, least, most"),
        ],
    )
    def test_an_entry_that_is_none_is_refused(self, changed, message):
        with pytest.raises(ValueError, match=message):
            replace(CONFIDENCE, **changed)


class TestOneEntryAndOneFunction:
    """Of the fixture `toy`, and nothing else."""

    def test_it_is_measured_written_and_read(self, toy, tmp_path):
        result = compared()
        for name, expected in BY_HAND.items():
            assert result[name].confidence == pytest.approx(expected, abs=1e-12)
        result.to_json(tmp_path / "results.json")
        rows = json.loads((tmp_path / "results.json").read_text())["models"]
        assert [row["confidence"] for row in rows] == [model.confidence for model in result.models]
        assert UnlearningResult.from_json(tmp_path / "results.json") == result

    def test_it_is_a_column_of_every_table(self, toy, tmp_path):
        result = compared()
        header, _, *rows = result.to_markdown().splitlines()
        place = [cell.strip() for cell in header.split("|")].index("Confidence")
        cells = {row.split("|")[1].strip(): row.split("|")[place].strip() for row in rows if row.startswith("|")}
        assert cells["a"] == f"{BY_HAND['a']:.2f}" and cells["*reference: unseen data*"] == "–"
        marked = next(line for line in summarize([result]).splitlines() if line.startswith("| a "))
        assert marked.split("|")[place].strip() == f"**{BY_HAND['a']:.2f}**"  # nearer to retrain than b
        write_report(tmp_path, [result], title="Toy")
        assert "Confidence" in (tmp_path / "report.html").read_text()

    def test_it_is_on_the_card_and_in_the_record_and_verified(self, toy, tmp_path):
        trainer = with_test(tmp_path / "model", num_train_epochs=1, forget_set=None)
        trainer.train()
        assert trainer.evaluate()["eval_confidence"] == pytest.approx(trainer.compare()["lotus"].confidence, abs=1e-12)
        trainer.save_model()
        trainer.create_model_card()
        folder = tmp_path / "model"
        assert [str(check) for check in check_folder(folder)[1] if check.holds is False] == []
        card = ModelCard.load(folder / "README.md")
        (shown,) = [r for r in card.data.eval_results if r.metric_type == "confidence"]
        measured = ForgetSetRecord.from_json(folder / RECORD).result["lotus"]
        # Rounded, as what a plugin measures is about the forget set too.
        assert shown.metric_value == round(measured.confidence, 1) and "Confidence" in card.text
        text = (folder / "README.md").read_text()
        (folder / "README.md").write_text(text.replace(f"value: {shown.metric_value}", "value: 0.123", 1))
        (wrong,) = [check for check in check_folder(folder)[1] if check.holds is False]
        assert "README.md differs in line" in wrong.detail and "0.123" in wrong.detail

    def test_it_is_measured_again(self, toy):
        result = compared()
        again = replace(result["a"], confidence=0.5)
        checks = {check.name: check for check in _compare(result["a"], again, {"original": 1, "retrain": 1}, 1e-6)}
        assert not checks["a: confidence"].holds and checks["a: rf jsd"].holds
        against = replace(toy, needs=(RETRAIN,))
        METRICS.own[toy.name] = against
        checks = {check.name: check for check in _compare(result["a"], again, {"original": 1}, 1e-6)}
        assert checks["a: confidence"].holds is None and "needs retrain_model" in checks["a: confidence"].detail

    def test_a_round_is_chosen_by_it(self, toy, tmp_path):
        given = {"metric_for_best_model": "eval_confidence", "early_stopping_patience": 1, "use_cpu": True}
        assert UnlearningArguments(str(tmp_path), **given).greater_is_better is False
        trainer = with_test(tmp_path, save_strategy="epoch", num_train_epochs=3, **given)
        trainer.train()
        values = [entry["eval_confidence"] for entry in trainer.state.log_history if "eval_confidence" in entry]
        assert trainer.state.best_metric == pytest.approx(min(values), abs=1e-12)
        METRICS.own[toy.name] = replace(toy, needs=(RETRAIN,))
        with pytest.raises(ValueError, match="measured from a retrained model"):
            UnlearningArguments(str(tmp_path), **given)

    def test_a_value_that_takes_a_training_is_given(self, monkeypatch):
        regained = Metric("regained", "Regained", "Rise of forget accuracy.", None, held_against=(ZERO,))
        with pytest.raises(ValueError, match="No value can be given for 'regained'; .* given for seconds, relearning"):
            compared(given={"regained": 0.2})
        monkeypatch.setitem(METRICS.own, regained.name, regained)
        assert compared(given={"regained": 0.2})["a"].regained == 0.2
        assert compared()["a"].regained is None
        with pytest.raises(ValueError, match="No value can be given for 'jsd'"):
            compared(given={"jsd": 0.2})

    def test_an_attack_is_one_function_and_has_the_logits_of_the_retain_set(self, monkeypatch):
        seen = []

        def margins(predictions) -> MemberRates:
            seen.append(predictions["retain"].logits is not None)
            bound = np.median(predictions["retain"].probabilities.max(axis=1))
            return MemberRates(float((predictions["forget"].probabilities.max(axis=1) >= bound).mean()), None)

        def evaluator():
            splits = {
                name: [{"inputs": torch.randn(2), "label": row % 4} for row in range(20)]
                for name in ("forget", "retain", "unseen", "test")
            }
            return Evaluator(splits, Linear(), progress=False)

        without = evaluator()
        assert without.predict(without.original, "retain", "m").logits is None
        attack = Attack("margin", "the greatest probability", margins, needs_retain_logits=True)
        monkeypatch.setitem(METRICS.own, "margin_member_rate", member_rate_of(attack))
        result = evaluator().compare({})
        assert seen == [True]
        assert 0 <= result["original"].margin_member_rate <= 1 and "Margin member rate" in result.to_markdown()


class Linear(torch.nn.Module):
    """A small model that takes `inputs`."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 4)

    def forward(self, inputs):
        return type("Output", (), {"logits": self.linear(inputs)})


def with_test(folder, forget_set=None, **arguments):
    test = divided(kept_scans())["test"]
    salted = ForgetSetRecord.of(divided(kept_scans())["forget"], divided(kept_scans())["forget"]["label"], Salt.new())
    options = {"eval_dataset": test, "forget_set": forget_set or salted}
    return build(folder, LoTUS(stop_margin=2.0), options=options, **arguments)


class TestMetricsOfOthers:
    def test_one_is_found_measured_and_shown(self, installed, tmp_path):
        assert "certainty" not in METRICS
        installed(PLUGIN)
        result = compared()
        assert result["a"].certainty == pytest.approx(BY_HAND["a"], abs=1e-12)
        assert type(result["a"].certainty) is float
        header, *_ = result.to_markdown().splitlines()
        assert header.rstrip(" |").endswith(r"Cer\|tainty")  # the last column
        result.to_json(tmp_path / "results.json")
        assert UnlearningResult.from_json(tmp_path / "results.json") == result
        folder = tmp_path / "card"
        folder.mkdir()
        write_model_card(folder, result, "a")
        card = ModelCard.load(folder / "README.md")
        assert [r.metric_value for r in card.data.eval_results if r.metric_name == "certainty"] == [
            round(BY_HAND["a"], 6)
        ]
        given = {"metric_for_best_model": "certainty", "load_best_model_at_end": True, "eval_strategy": "epoch"}
        arguments = UnlearningArguments(str(tmp_path), use_cpu=True, **given)
        assert (arguments.chosen_by, arguments.greater_is_better) == ("certainty", False)

    def test_without_the_plugin_its_figures_are_not_read(self, installed, tmp_path, monkeypatch):
        before = compared()["a"].to_dict()
        installed(PLUGIN)
        result = compared()
        result.to_json(tmp_path / "results.json")
        assert list(result["a"].to_dict()) == [*before, "certainty"]
        monkeypatch.undo()
        with pytest.raises(ValueError, match="no metric 'certainty', here or in an installed plugin"):
            UnlearningResult.from_json(tmp_path / "results.json")

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("import no_such_library", r"'certainty' of toy-metrics 1\.0 .* cannot be loaded: ModuleNotFoundError"),
            ("CERTAINTY = 3", r"'certainty' of toy-metrics 1\.0 .* cannot be used: it is 3, and a metric is a"),
            (PLUGIN.replace('Metric("certainty"', 'Metric("other"'), r"toy-metrics 1\.0 .* and the metric 'other'"),
        ],
    )
    def test_a_broken_one_is_told_before_anything_is_run(self, installed, source, message):
        installed(source)
        with pytest.raises(PluginError, match=message):
            Evaluator({"forget": [1], "retain": [1]}, Linear())
        # What has nothing to do with it goes on.
        assert "RF-JSD" in UnlearningResult((ModelResult("m", 0.5, 0.5, rf_jsd=0.1),), Controls()).to_markdown()

    def test_one_that_fails_is_named(self, installed):
        installed(PLUGIN.replace('model.predictions["forget"]', 'model.predictions["moon"]'))
        with pytest.raises(RuntimeError, match=r"'certainty' of toy-metrics 1\.0 failed: KeyError: 'moon'"):
            compared()

    def test_one_with_a_name_of_ours_is_refused(self, installed):
        installed(PLUGIN.replace('"certainty"', '"jsd"'), "jsd")
        with pytest.raises(PluginError, match=r"'jsd' is offered by hf_lotus and by toy-metrics 1\.0"):
            compared()


class TestModelResult:
    ROW = ModelResult("m", 0.5, 0.25, jsd=None, rf_jsd=0.01, seconds=2.0)

    def test_it_is_copied_pickled_changed_and_told_apart(self):
        for copied in (deepcopy(self.ROW), pickle.loads(pickle.dumps(self.ROW)), replace(self.ROW)):
            assert copied == self.ROW and hash(copied) == hash(self.ROW) and copied.rf_jsd == 0.01
        changed = replace(self.ROW, seconds=3.0, name="n")
        assert (changed.name, changed.seconds, changed.rf_jsd) == ("n", 3.0, 0.01) and changed != self.ROW
        assert ModelResult(**self.ROW.to_dict()) == self.ROW

    def test_what_was_not_measured_is_none_and_what_is_no_metric_is_an_error(self):
        assert self.ROW.avg_gap is None and "rf_jsd" in dir(self.ROW)
        with pytest.raises(AttributeError, match="no metric, 'luck'"):
            _ = self.ROW.luck
        with pytest.raises(TypeError, match="There is no metric 'rf_jds'.*Did you mean 'rf_jsd'"):
            ModelResult("m", 0.5, 0.5, rf_jds=1.0)
        with pytest.raises(TypeError, match="21 values were given, and there are 20 metrics"):
            ModelResult("m", *(0.1,) * 21)
        with pytest.raises(TypeError, match="'m' has no retain_accuracy"):
            ModelResult("m", 0.5)


def test_results_of_a_comparison_are_written_with_their_card(toy, tmp_path):
    """By the way that has no record."""

    class Held:
        yardstick = Yardstick(ORIGINAL, RETRAINED)

    write_evidence(tmp_path, compared(), "a", UNLEARNED, Held())
    assert "Confidence" in (tmp_path / "README.md").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["models"][1]["confidence"] > 0
