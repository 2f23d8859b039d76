"""A round is chosen, and the run stopped, by what needs no retrained model: for every method that takes steps."""

from __future__ import annotations

import pytest
import torch
from transformers import EarlyStoppingCallback

from hf_lotus import LoTUS, UnlearningArguments
from hf_lotus.methods import SCRUB, Finetune
from tests.support.every_method import EVERY_METHOD, build, by_kind, kept_scans, options_of, ready_parts
from tests.support.method_helpers import class_wise_parts, equal, weights

GAP = "eval_retrain_free_gap"
ROUNDS = {"num_train_epochs": 5, "eval_strategy": "epoch", "save_strategy": "epoch", "learning_rate": 0.1}
SAMPLE_WISE = sorted(name for name in EVERY_METHOD if not options_of(name))


def gaps(trainer) -> list[float]:
    """The metric after each round."""
    return [entry[GAP] for entry in trainer.state.log_history if GAP in entry]


def with_test(folder, method, **arguments):
    return build(folder, method, options={"eval_dataset": ready_parts()["test"]}, **arguments)


def chosen_by_hand(values: list[float], patience: int) -> tuple[int, int]:
    """The round with the least value and the number of rounds taken, with so many without a better one allowed."""
    best = 0
    for number, value in enumerate(values):
        best = number if value < values[best] else best
        if number - best == patience:
            return best, number + 1
    return best, len(values)


@pytest.mark.parametrize("name", by_kind(SAMPLE_WISE, {"lotus", "warm_restart", "rum"}))
def test_the_round_with_the_least_gap_is_the_one_that_is_left(tmp_path, name):
    """Against a run that takes every round, and keeps and measures each that a run may end with."""
    whole = with_test(tmp_path / "whole", EVERY_METHOD[name], **ROUNDS)
    whole.train()
    best, taken = chosen_by_hand(gaps(whole), patience=1)
    steps = sorted(int(path.name.split("-")[1]) for path in (tmp_path / "whole").glob("checkpoint-*"))
    assert len(steps) == 5
    first = next(index for index in range(5) if whole.method.may_end_with(whole.task, index))
    assert first == (1 if name.startswith(("warm_restart", "rum")) else 0)
    steps = steps[first:]
    assert len(steps) == len(gaps(whole))
    arguments = {**ROUNDS, "load_best_model_at_end": True, "metric_for_best_model": GAP, "greater_is_better": False}
    stopped = with_test(
        tmp_path / "stopped", EVERY_METHOD[name], callbacks=[EarlyStoppingCallback(1)], save_total_limit=1, **arguments
    )
    stopped.train()
    assert gaps(stopped) == gaps(whole)[:taken]
    assert stopped.state.global_step == steps[taken - 1]
    assert len(stopped.compare().provenance["rounds"]) == first + taken
    kept = type(whole.model).from_pretrained(tmp_path / "whole" / f"checkpoint-{steps[best]}").state_dict()
    left = stopped.model.state_dict()
    assert all(torch.equal(left[key], value) for key, value in kept.items()) and left.keys() == kept.keys()
    assert stopped.evaluate()[GAP] == pytest.approx(gaps(whole)[best], abs=1e-12)


class LastIsNearest(Finetune):
    """A method to which every round is nearer than the one before."""

    def round_distance(self, run):
        return 1.0 / (1 + run._trainer.state.global_step)


def test_a_method_that_rewinds_has_the_last_word(tmp_path):
    """Its own choice is left, and not the one by the gap, also where it is the last round."""
    alone = with_test(tmp_path / "alone", LastIsNearest(), **ROUNDS)
    worst_gap = {"load_best_model_at_end": True, "greater_is_better": True}
    both = with_test(tmp_path / "both", LastIsNearest(), **ROUNDS, **worst_gap)
    alone.train(), both.train()
    assert both.state.best_global_step < both.state.global_step  # the gap chose another
    assert both.state.log_history[-1]["rewound_to_round"] == 4
    assert equal(weights(both.model), weights(alone.model))


class TestTheShortWay:
    """`early_stopping_patience` alone."""

    def test_it_is_the_long_way(self, tmp_path):
        settled = UnlearningArguments(str(tmp_path), early_stopping_patience=2, use_cpu=True)
        assert (settled.eval_strategy, settled.save_strategy) == ("epoch", "epoch")
        assert settled.load_best_model_at_end and settled.greater_is_better is False
        assert settled.metric_for_best_model == "retrain_free_gap" == settled.chosen_by
        plain = UnlearningArguments(str(tmp_path), use_cpu=True)
        assert plain.chosen_by is None and plain.eval_strategy == "no" and not plain.load_best_model_at_end
        changed = plain.changed(early_stopping_patience=2)
        for name in ("eval_strategy", "load_best_model_at_end", "metric_for_best_model", "greater_is_better"):
            assert getattr(changed, name) == getattr(settled, name)

    @pytest.mark.parametrize("patience", [1, 2])
    def test_a_run_ends_as_by_hand(self, tmp_path, patience):
        whole = with_test(tmp_path / "whole", SCRUB(alpha=0.5), **{**ROUNDS, "num_train_epochs": 8})
        whole.train()
        best, taken = chosen_by_hand(gaps(whole), patience)
        assert best + 1 < taken < 8  # neither the last round nor all of them, or nothing is tested
        short = {"num_train_epochs": 8, "learning_rate": 0.1, "save_strategy": "epoch", "save_total_limit": 1}
        stopped = with_test(tmp_path / "short", SCRUB(alpha=0.5), early_stopping_patience=patience, **short)
        stopped.train()
        assert gaps(stopped) == gaps(whole)[:taken]
        assert stopped.evaluate()[GAP] == pytest.approx(gaps(whole)[best], abs=1e-12)

    def test_a_resumed_run_has_no_more_patience_than_one_that_was_not_broken_off(self, tmp_path):
        arguments = {"num_train_epochs": 8, "learning_rate": 0.1, "save_strategy": "epoch", "save_total_limit": 20}
        whole = with_test(tmp_path, SCRUB(alpha=0.5), early_stopping_patience=2, **arguments)
        whole.train()
        best, taken = chosen_by_hand(gaps(whole), 2)
        assert best + 2 < taken < 8  # resumed after a round that was not better, and stopped after the next
        steps = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("checkpoint-*"))
        resumed = with_test(tmp_path, SCRUB(alpha=0.5), early_stopping_patience=2, **arguments)
        resumed.train(str(tmp_path / f"checkpoint-{steps[best + 1]}"))
        assert gaps(resumed) == gaps(whole)
        assert resumed.state.global_step == whole.state.global_step
        assert equal(weights(resumed.model), weights(whole.model))

    def test_measuring_another_data_set_stops_nothing(self, tmp_path):
        trainer = with_test(tmp_path, Finetune(), **CHOOSE)
        trainer.evaluate(ready_parts()["test"])
        trainer.train()
        trainer.evaluate(ready_parts()["test"])
        assert len(gaps(trainer)) == 2

    def test_a_metric_and_a_direction_that_are_given_are_kept(self, tmp_path):
        given = {"metric_for_best_model": "eval_test_accuracy", "early_stopping_patience": 1, "use_cpu": True}
        assert UnlearningArguments(str(tmp_path), **given).greater_is_better is True
        given["metric_for_best_model"] = "eval_rf_jsd"
        assert UnlearningArguments(str(tmp_path), **given).greater_is_better is False
        assert UnlearningArguments(str(tmp_path), **given, greater_is_better=True).greater_is_better is True

    @pytest.mark.parametrize("metric", ["eval_avg_gap", "avg_gap", "eval_jsd"])
    def test_a_metric_that_needs_a_retrained_model_is_refused(self, tmp_path, metric):
        given = {"load_best_model_at_end": True, "eval_strategy": "epoch", "use_cpu": True}
        with pytest.raises(ValueError, match="measured from a retrained model"):
            UnlearningArguments(str(tmp_path), metric_for_best_model=metric, **given)

    def test_a_patience_below_one_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="1 or more rounds, got 0"):
            UnlearningArguments(str(tmp_path), early_stopping_patience=0)


CHOOSE = {"early_stopping_patience": 1, "save_strategy": "epoch"}


class TestWhatCannotBeMeasured:
    """Said before a step is taken, and not after the first round."""

    def test_whole_classes(self, tmp_path):
        parts = class_wise_parts(kept_scans())
        with pytest.raises(ValueError, match="chosen by 'retrain_free_gap' where whole classes are forgotten"):
            build(tmp_path, Finetune(), options=parts, **CHOOSE)
        other = {"metric_for_best_model": "eval_forget_accuracy", "greater_is_better": False}
        trainer = build(tmp_path, Finetune(), options=parts, **CHOOSE, **other)
        trainer.train()
        assert trainer.state.best_metric == trainer.evaluate()["eval_forget_accuracy"]

    @pytest.mark.parametrize(("missing", "said"), [("unseen", "the unseen set"), ("test", "the test set")])
    def test_a_set_that_is_missing(self, tmp_path, missing, said):
        options = {"eval_dataset": ready_parts()["test"], "unseen_dataset": ready_parts()["unseen"]}
        options["eval_dataset" if missing == "test" else "unseen_dataset"] = None
        with pytest.raises(ValueError, match=f"by 'retrain_free_gap' needs {said}. Give it"):
            build(tmp_path, Finetune(), options=options, **CHOOSE)

    def test_rounds_that_are_not_saved(self, tmp_path):
        arguments = {"early_stopping_patience": 1, "save_strategy": "best", "learning_rate": 0.1}
        build_one = {"options": {"eval_dataset": ready_parts()["test"]}}
        trainer = build(tmp_path, LoTUS(stop_margin=2.0), **build_one, **arguments)
        trainer.train()
        assert trainer.evaluate()[GAP] == pytest.approx(min(gaps(trainer)), abs=1e-12)
        trainer.args.save_strategy = "no"  # as a comparison sets it
        with pytest.raises(ValueError, match="save_strategy is 'no'"):
            type(trainer)(trainer.model, trainer.args, forget_dataset=trainer.splits["forget"],
                          retain_dataset=trainer.splits["retain"], unseen_dataset=trainer.splits["unseen"],
                          eval_dataset=trainer.splits["test"])  # fmt: skip
