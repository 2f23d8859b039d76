"""Comparisons in full: the floor, what comes back in relearning, seeds apart, and the best row's model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification

from hf_lotus import Comparison, Contender, Finetune, LoTUS, NegGradPlus, Retrain, UnlearningArguments
from hf_lotus.benchmark.comparison import again_seed
from hf_lotus.benchmark.rows import Rows
from hf_lotus.evaluation.choice import best_model, retrain_free_score, rule_of
from hf_lotus.evaluation.results import ModelResult, UnlearningResult
from hf_lotus.publishing.disclosure import rounded_result
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.publishing.verification import require_whole
from hf_lotus.reporting.spread import spread_table
from hf_lotus.trainer.relearning import Relearning

CONTENDERS = {"first": Contender(Finetune()), "second": Contender(NegGradPlus())}
RETRAIN = {"retrain": Contender(Retrain())}


@pytest.fixture
def compare(tiny_model, ready_parts, processor, tmp_path):
    """A function: contenders → result, on a tiny ResNet; any argument of `Comparison` by keyword."""

    def run(contenders, folder="out", arguments=None, **options):
        settings = {"num_train_epochs": 1, "per_device_train_batch_size": 64, "learning_rate": 1e-2, "seed": 1}
        args = UnlearningArguments(
            str(tmp_path / folder), use_cpu=True, disable_tqdm=True, **(settings | (arguments or {}))
        )
        data = {f"{name}_dataset": part for name, part in ready_parts.items() if name != "test"}
        options = {**data, "eval_dataset": ready_parts["test"], "processing_class": processor, **options}
        return Comparison(tiny_model("resnet"), args, **options).run(contenders, model="a model")

    return run


def relearned(trained):
    """How often a round of relearning was taken; and the other trainings. Its method is `Finetune`."""
    return sum(name == "finetune" for name in trained)


class TestRelearning:
    def test_it_is_a_column_of_every_row_and_changes_no_other_figure(self, compare, trained):
        contenders = {**RETRAIN, "edit": Contender(NegGradPlus())}
        plain = compare(contenders, folder="plain")
        assert all(model.relearning_excess is None for model in plain.models) and relearned(trained) == 0
        measured = compare(contenders, measure_relearning=True)
        assert relearned(trained) == 3
        for model in measured.models:
            assert -2 <= model.relearning_excess <= 2
            same = plain[model.name].metrics()
            for name, value in model.metrics().items():
                if name not in ("relearning_excess", "seconds"):
                    assert value == same[name], (model.name, name)
        assert "Relearning excess" in measured.to_markdown() and "Relearning" not in plain.to_markdown()
        compare(contenders, measure_relearning=True)
        assert relearned(trained) == 3  # kept, with the rows

    def test_every_row_takes_the_same_round(self, compare, tmp_path, monkeypatch):
        """Also one whose method has a batch size and a seed of its own."""
        seen = []
        arguments = Relearning._arguments

        def noted(self, folder, model):
            found = arguments(self, folder, model)
            seen.append((found.per_device_train_batch_size, found.seed, found.learning_rate, found.optim))
            return found

        monkeypatch.setattr(Relearning, "_arguments", noted)
        other = {"own": Contender(Finetune(), {"per_device_train_batch_size": 16, "seed": 9})}
        compare(other, measure_relearning=True)
        assert len(set(seen)) == 1 and len(seen) > 1


class TestTheFloor:
    def test_a_second_retrained_model_of_another_seed_and_gaps_to_their_mean(self, compare, trained, tmp_path):
        alone = compare({**RETRAIN, **CONTENDERS}, folder="alone")
        trained.clear()
        result = compare({**RETRAIN, **CONTENDERS}, retrain_again=1)
        assert trained == ["retrain", "retrain", "finetune", "neggrad_plus"]
        assert [m.name for m in result.models] == ["original", "first", "second", "retrain", "retrain again"]
        first, again = result["retrain"], result["retrain again"]
        assert first.forget_accuracy == alone["retrain"].forget_accuracy and again.seconds > 0
        assert first.avg_gap == again.avg_gap > 0 and result.controls.avg_gap_floor > 0
        middle = (first.test_accuracy + again.test_accuracy) / 2
        assert result["first"].test_difference == pytest.approx(result["first"].test_accuracy - middle)
        trained.clear()
        assert compare({**RETRAIN, **CONTENDERS}, retrain_again=1).models == result.models and trained == []

    def test_one_that_is_given_several_times(self, compare, tiny_model):
        others = [tiny_model("resnet"), tiny_model("resnet")]
        torch.nn.init.normal_(others[1].classifier[-1].bias)
        result = compare(CONTENDERS, retrain_models=others, retrain_seconds=[3.0, None])
        assert result["retrain"].seconds == 3.0 and result["retrain again"].seconds is None
        assert result["original"].jsd == pytest.approx(result["retrain"].jsd / 2)  # the first of them is the original

    def test_names_of_its_rows_are_reserved(self, compare):
        with pytest.raises(ValueError, match="'retrain again' is the name of another row"):
            compare({"retrain again": Contender(Finetune())})
        with pytest.raises(ValueError, match="retrain_again must be 0 or more"):
            compare(CONTENDERS, retrain_again=-1)
        assert len({again_seed(seed, number) for seed in range(5) for number in range(1, 4)}) == 15


class TestSeeds:
    def test_training_unlearning_and_evaluation_change_what_they_should(self, compare):
        base = compare({**RETRAIN, **CONTENDERS}, folder="base")
        training = compare({**RETRAIN, **CONTENDERS}, folder="training", training_seed=7)
        assert training["retrain"].forget_accuracy != base["retrain"].forget_accuracy
        for name in CONTENDERS:
            assert training[name].rf_jsd == base[name].rf_jsd and training[name].jsd != base[name].jsd
        assert training.provenance["training_seed"] == 7 and "training_seed" not in base.provenance
        evaluation = compare({**RETRAIN, **CONTENDERS}, folder="evaluation", arguments={"evaluation_seed": 7})
        for name in ("first", "retrain", "original"):
            assert evaluation[name].rf_jsd == base[name].rf_jsd and evaluation[name].jsd == base[name].jsd
            assert evaluation[name].rf_jsd_z != base[name].rf_jsd_z
        unlearning = compare({**RETRAIN, **CONTENDERS}, folder="un", training_seed=1, arguments={"seed": 2})
        assert unlearning["retrain"].forget_accuracy == base["retrain"].forget_accuracy
        assert unlearning["first"].rf_jsd != base["first"].rf_jsd

    @pytest.mark.exhaustive
    def test_what_each_adds_is_told(self, compare, trained):
        results = []
        for training in (1, 2):
            for seed in (3, 4):
                results.append(
                    compare(
                        {**RETRAIN, "first": CONTENDERS["first"]},
                        folder=f"{training}-{seed}",
                        arguments={"seed": seed},
                        training_seed=training,
                        evaluation_seeds=[5, 6],
                    )
                )
        assert trained.count("finetune") == 4  # evaluation takes no training
        kept = results[0].provenance["evaluations"]
        assert kept["5"]["first"]["rf_jsd_z"] == results[0]["first"].rf_jsd_z != kept["6"]["first"]["rf_jsd_z"]
        header, rows = spread_table(results)
        assert header == ["Model", "Figure", "Mean", "training (2)", "unlearning (2)", "evaluation (2)", "together"]
        cells = {(row[0], row[1]): row[3:] for row in rows}
        z = cells["first", "rf jsd z"]
        assert float(z[0]) == 0.0 and float(z[2]) > 0  # the retrained model takes no part in it, the null does
        assert float(cells["first", "avg gap"][2]) == 0.0
        assert spread_table(results[:2]) is not None and spread_table(results[:3]) is None
        assert spread_table([replace(r, provenance={"seed": r.provenance["seed"]}) for r in results[:2]]) is None


class TestChoice:
    def test_the_rule(self):
        def row(name, gap, excess=None):
            return ModelResult(name, 0.5, 0.5, retrain_free_gap=gap, relearning_excess=excess)

        rows = [row("original", 0.0, 0.0), row("hides", 0.01, 0.4), row("forgets", 0.05, -0.05), row("retrain", 0, 0)]
        assert best_model(rows).name == "forgets" and retrain_free_score(rows[2]) == pytest.approx(0.05)
        assert best_model([*rows, row("unknown", 0.001)]).name == "forgets"
        assert best_model([row("a", 0.2), row("b", 0.1)]).name == "b" and "not measured" in rule_of(row("a", 0.1))
        assert best_model([row("a", 0.1), row("b", 0.1)]).name == "a"
        assert best_model([ModelResult("a", 0.5, 0.5), row("retrain again", 0.1)]) is None


class TestTheBest:
    def chosen(self, result, folder):
        """The best row, once its folder was checked to hold its model whole."""
        best = result.provenance["best"]
        assert best["folder"] == str(folder)
        assert best["row"] == min(best["scores"], key=best["scores"].get)
        require_whole(folder)
        record, kept = (
            ForgetSetRecord.from_json(folder / "forget_set.json"),
            UnlearningResult.from_json(folder / "results.json"),
        )
        method = result.provenance["methods"][best["row"]]["name"]
        own = kept[method]
        # What is kept may be published: its figures are rounded to what their noise justifies.
        told = rounded_result(result, record.results["samples"])
        assert (
            own.metrics() == told[best["row"]].metrics()
            and record.results["name"] == method
            and record.status == "finished"
        )
        assert kept["original"].relearning_excess == told["original"].relearning_excess
        assert "Chosen among" in kept.notes[-1] and kept.notes[-1] in record.results["notes"]
        assert kept.notes[-1].split(":")[0] in (folder / "README.md").read_text().replace("\\", "")
        return best["row"]

    def test_its_model_is_kept_with_record_and_card(self, compare, tmp_path, parts, make):
        result = compare({**RETRAIN, **CONTENDERS}, keep_best=True, measure_relearning=True)
        row = self.chosen(result, tmp_path / "out" / "best")
        model = AutoModelForImageClassification.from_pretrained(tmp_path / "out" / "best")
        again = make(
            "resnet", CONTENDERS[row].method,
            {"num_train_epochs": 1, "per_device_train_batch_size": 64, "learning_rate": 1e-2, "seed": 1},
        )  # fmt: skip
        again.train()
        expected = again.model.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
        assert not list((tmp_path / "out").glob("*.salt")) or (tmp_path / "out" / "best.forget_set.salt").is_file()
        assert not (tmp_path / "out" / "second" / "model.safetensors").exists()

    def test_a_comparison_that_was_broken_off_ends_with_the_same_model(self, compare, tmp_path, monkeypatch, trained):
        whole = compare(CONTENDERS, folder="whole", keep_best=True)
        expected = AutoModelForImageClassification.from_pretrained(tmp_path / "whole" / "best").state_dict()
        loss = NegGradPlus.loss
        monkeypatch.setattr(NegGradPlus, "loss", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            compare(CONTENDERS, keep_best=True)
        monkeypatch.setattr(NegGradPlus, "loss", loss)
        compare(CONTENDERS, keep_best=True)

        def check():
            found = AutoModelForImageClassification.from_pretrained(tmp_path / "out" / "best").state_dict()
            assert all(torch.equal(value, expected[name]) for name, value in found.items())

        check()
        # Killed while the best model was written: it is made once more, and nothing else is.
        (tmp_path / "out" / "best" / "choice.json").unlink()
        (tmp_path / "out" / "best" / "model.safetensors").write_bytes(b"half")
        trained.clear()
        again = compare(CONTENDERS, keep_best=True)
        assert len(trained) == 1 and again.provenance["best"]["row"] == whole.provenance["best"]["row"]
        check()
        trained.clear()
        compare(CONTENDERS, keep_best=True)
        assert trained == []
        notes = UnlearningResult.from_json(tmp_path / "out" / "best" / "results.json").notes
        assert sum("Chosen among" in note for note in notes) == 1

    def test_where_no_row_can_be_chosen_none_is_kept(self, compare, tmp_path):
        result = compare(CONTENDERS, keep_best=True, unseen_dataset=None)
        assert "best" not in result.provenance and not (tmp_path / "out" / "best" / "choice.json").exists()
        with pytest.raises(ValueError, match="'best' is the folder"):
            compare({"best": Contender(Finetune())}, keep_best=True)

    def test_a_model_that_is_the_original_is_not_taken_home(self, compare, tmp_path):
        # The untrained model is no better on the forget set than elsewhere, so LoTUS stops before its first step.
        still = {"still": Contender(LoTUS())}
        result = compare({**still, **CONTENDERS}, keep_best=True)
        assert result["still"].retrain_free_gap == result["original"].retrain_free_gap
        assert set(result.provenance["best"]["scores"]) == set(CONTENDERS)
        assert "still changed no weight: its model is the original." in result.notes
        assert "best" not in compare(still, folder="alone", keep_best=True).provenance

    def test_each_method_may_end_with_its_best_round(self, compare, make, tmp_path):
        rounds = {"num_train_epochs": 4, "learning_rate": 0.05, "early_stopping_patience": 1}
        moving = {"moving": Contender(LoTUS(stop_margin=2.0)), **RETRAIN}
        result = compare(moving, arguments=rounds, keep_best=True)
        alone = make(
            "resnet", LoTUS(stop_margin=2.0),
            {"per_device_train_batch_size": 64, "seed": 1, **rounds, "save_strategy": "epoch"},
        )  # fmt: skip
        alone.train()
        expected = alone.compare()["lotus"]
        assert result["moving"].rf_jsd == pytest.approx(expected.rf_jsd, rel=1e-6)
        gaps = [entry["eval_retrain_free_gap"] for entry in alone.state.log_history if "eval_rf_jsd" in entry]
        assert result["moving"].retrain_free_gap == pytest.approx(min(gaps))
        assert not list((tmp_path / "out" / "moving").glob("checkpoint-*"))


def test_the_papers_protocol_measures_its_rf_jsd_on_the_test_set(compare, monkeypatch):
    seen = {}
    result = Rows.result

    def noted(self, run):
        seen["yardstick"] = self.ready.yardstick
        return result(self, run)

    monkeypatch.setattr(Rows, "result", noted)
    own, paper = (compare(CONTENDERS, folder=f"{on}", paper_protocol=on) for on in (False, True))
    figures = [found.provenance["details"]["first"]["reference"]["rf_jsd"] for found in (own, paper)]
    assert figures[0] != figures[1] and own["first"] == replace(paper["first"], seconds=own["first"].seconds)
    # By the published code's own formula, of the original against the test set.
    original = seen["yardstick"].original
    p, q = (
        np.array([part.probabilities[part.labels == label].mean(axis=0) for label in range(10)]).clip(1e-8, 1)
        for part in (original["forget"], original["test"])
    )
    p, q = p / p.sum(), q / q.sum()
    m = (p + q) / 2
    by_hand = ((m * np.log(m / p)).sum() + (m * np.log(m / q)).sum()) / 2 / 10
    found = paper.provenance["details"]["original"]["reference"]["rf_jsd"]
    assert found == pytest.approx(by_hand, rel=1e-9)
