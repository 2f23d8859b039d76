"""The search for a method: within its budget, the same again, taken up after a kill, and what it leaves."""

import pytest
import torch
from transformers import AutoModelForImageClassification

from hf_lotus import Finetune, UnlearningArguments
from hf_lotus.benchmark.auto import METHODS, Search, search_comparison, take_home, tried_table
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.methods import METHODS as ALL_METHODS
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.publishing.verification import require_whole
from tests.support.method_helpers import class_wise_parts

FORGET, RETAIN = 60, 180  # scans of each


@pytest.fixture
def search(tiny_model, ready_parts, processor, tmp_path):
    """A function: budget → the search, on a tiny ResNet, over LoTUS and Finetune unless others are named."""

    def make(budget, methods=("finetune",), folder="out", arguments=None, rates=(1.0, 3.0), **options):
        args = UnlearningArguments(
            str(tmp_path / folder), use_cpu=True, disable_tqdm=True, seed=1, **(arguments or {})
        )
        data = {f"{name}_dataset": part for name, part in ready_parts.items() if name != "test"}
        options = {**data, "eval_dataset": ready_parts["test"], "processing_class": processor, **options}
        comparison = search_comparison(tiny_model("resnet"), args, tmp_path / folder, **options)
        return Search(comparison, budget, methods, rates)

    return make


def weights(folder):
    return AutoModelForImageClassification.from_pretrained(folder).state_dict()


def test_candidates_cost_what_their_rounds_visit(search):
    made = search(10**9).plan
    by_name = {candidate.name: candidate for candidate in made.candidates}
    assert list(by_name)[:2] == ["lotus", "finetune"] and len(by_name) == 4
    assert "finetune-rate-0.003" in by_name  # 1e-3 is its own
    finetune, lotus = by_name["finetune"], by_name["lotus"]
    assert finetune.visits == [RETAIN * count for count in range(1, 11)] and finetune.measuring == RETAIN
    assert lotus.visits[0] == FORGET + int(0.3 * RETAIN) and made.overhead == RETAIN
    assert set(METHODS) <= set(ALL_METHODS) and METHODS[0] == "lotus"


def test_it_stays_within_its_budget_and_leaves_the_chosen_model(search, tmp_path, trained):
    made = search(9000)
    told = []
    found = made.run(told.append, model="a model")
    assert made.plan.visited(found.tried) <= made.plan.most <= 9000
    assert len(told) == sum(each.cost > 0 for each in found.tried) > 3
    assert {each.name for each in found.tried} >= {"lotus", "finetune"}
    assert ("lotus", 10) in {(each.name, each.rounds) for each in found.tried}
    assert found.best.score == min(each.score for each in found.tried if each.score is not None)
    take_home(made.comparison, tmp_path / "out")
    require_whole(tmp_path / "out")
    result = UnlearningResult.from_json(tmp_path / "out" / "results.json")
    record = ForgetSetRecord.from_json(tmp_path / "out" / "forget_set.json")
    auto = result.provenance["auto"]
    assert [tuple(each.values()) for each in auto["tried"]] == [tuple(vars(each).values()) for each in found.tried]
    assert auto["budget"] == 9000 and auto["visited"] == made.plan.visited(found.tried)
    note = result.notes[-1]
    assert f"Chosen: {found.best.name}, {found.best.rounds} rounds." in note and note in record.results["notes"]
    card = (tmp_path / "out" / "README.md").read_text().replace("\\", "")
    assert f"Chosen: {found.best.name}" in card and "name: out" in card
    assert record.method["name"] == found.best.name.split("-rate")[0]
    assert record.arguments["num_train_epochs"] == found.best.rounds
    table = tried_table(found)
    assert table.count("(chosen)") == 1 and all(each.name in table.replace("\\", "") for each in found.tried)


def test_it_goes_the_same_way_again_and_on_after_a_kill(search, tmp_path, trained, monkeypatch):
    first = search(7000, folder="first", rates=(1.0,)).run()
    loss = Finetune.loss
    calls = []

    def dies(self, inputs):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return loss(self, inputs)

    monkeypatch.setattr(Finetune, "loss", dies)
    with pytest.raises(KeyboardInterrupt):
        search(7000, rates=(1.0,)).run()
    monkeypatch.setattr(Finetune, "loss", loss)
    done = list((tmp_path / "out" / "auto").glob("*/measured.json"))
    trained.clear()
    again = search(7000, rates=(1.0,)).run()
    assert again.tried == first.tried and again.best == first.best and done
    expected = weights(tmp_path / "first" / "auto" / "best")
    assert all(torch.equal(v, expected[n]) for n, v in weights(tmp_path / "out" / "auto" / "best").items())
    trained.clear()
    assert search(7000, rates=(1.0,)).run().tried == first.tried and trained == []


@pytest.mark.exhaustive
def test_a_retrained_model_changes_nothing_of_the_choice(search, tiny_model):
    """Its round of relearning for the table is part of the cost, and its gaps are in the table."""
    plain = search(7000, folder="plain", rates=(1.0,)).run()
    beside = search(7000 + RETAIN, folder="beside", rates=(1.0,), retrain_models=[tiny_model("resnet")])
    found = beside.run()
    assert found.tried == plain.tried and beside.plan.overhead == 2 * RETAIN
    assert found.result["retrain"].relearning_excess is not None


def test_a_run_that_changed_no_weight_is_not_chosen_however_good_the_original_looks(search):
    """LoTUS stops here before its first step: the untrained model is no better on the forget set than elsewhere."""
    found = search(7000, rates=(1.0,)).run()
    assert {each.score for each in found.tried if each.name == "lotus"} == {None} and found.best.name == "finetune"
    with pytest.raises(ValueError, match="None of the 1 runs changed a weight"):
        search(3000, folder="alone").run()


def test_what_cannot_be_searched_is_refused(search, digits):
    with pytest.raises(ValueError, match=r"budget of 1000 samples is too small .* run of lotus in its 10 rounds"):
        search(1000)
    with pytest.raises(ValueError, match="learning_rate is what the search chooses"):
        search(10**6, arguments={"learning_rate": 0.1})
    with pytest.raises(ValueError, match="samples to forget, not whole classes"):
        search(10**6, **class_wise_parts(digits))
    with pytest.raises(ValueError, match="unseen and test data"):
        search(10**6, eval_dataset=None)
    with pytest.raises(ValueError, match="Did you mean 'scrub'"):
        search(10**6, methods=["skrub"])
