"""Successive halving without a model: what it costs, who goes on, and what a budget allows."""

import random

import pytest

from hf_lotus.benchmark.halving import Candidate, Plan, best_try, plan


def candidate(name, rounds=8, visits=100, **options):
    return Candidate(name, [visits * count for count in range(1, rounds + 1)], **options)


def test_the_better_half_goes_on_for_twice_as_long():
    names = ["lotus", "a", "b", "c"]
    tried = Plan([candidate(name) for name in names], "lotus").run(
        lambda each, rounds: {"lotus": 0.4, "a": 0.3, "b": 0.2, "c": 0.1}[each.name] / rounds
    )
    assert [(each.rung, each.name, each.rounds) for each in tried] == [
        *((0, name, 2) for name in names), *((1, name, 4) for name in ("lotus", "b", "c")),
        (2, "lotus", 8), (2, "c", 8),
    ]  # fmt: skip
    assert best_try(tried).name == "c"  # LoTUS goes on, and need not win


def test_one_that_must_stay_goes_on_beside_the_others():
    tried = Plan([candidate(name) for name in "abcd"], "d").run(lambda each, rounds: ord(each.name))
    assert [each.name for each in tried if each.rung == 1] == ["a", "b", "d"]


def test_ties_go_to_the_first_and_a_run_without_a_score_is_the_worst():
    scores = {"a": None, "b": 1.0, "c": 1.0, "d": None}
    tried = Plan([candidate(name) for name in "abcd"], "b").run(lambda each, rounds: scores[each.name])
    assert [each.name for each in tried if each.rung == 1] == ["b", "c"] and best_try(tried).name == "b"
    assert best_try(Plan([candidate("a")], "a").run(lambda *_: None)) is None


def test_a_run_that_is_the_one_of_the_turn_before_is_neither_made_nor_counted_again():
    asked = []
    made = Plan([candidate("short", rounds=1), candidate("a"), candidate("whole", 6, whole_only=True)], "short")
    tried = made.run(lambda each, rounds: asked.append((each.name, rounds)) or len(each.name))
    assert len(asked) == len(set(asked)) and ("whole", 6) in asked and ("short", 1) in asked
    assert [each.cost for each in tried if each.name == "short"] == [100, 0, 0]
    assert sum(each.cost for each in tried) <= made.budget or made.budget == 0


@pytest.mark.parametrize("seed", range(40))
def test_it_never_costs_more_than_the_budget_whoever_goes_on(seed):
    draw = random.Random(seed)
    candidates = [
        candidate(
            f"c{number}", draw.randint(1, 12), draw.randint(10, 500), measuring=draw.randint(0, 200),
            whole_only=draw.random() < 0.2,
        )
        for number in range(draw.randint(1, 12))
    ]  # fmt: skip
    least = candidates[0].cost(len(candidates[0].visits))
    budget = int(least * draw.uniform(1, 20))
    made = plan(candidates, budget + 70, "c0", overhead=70)
    tried = made.run(lambda each, rounds: draw.random())
    assert made.visited(tried) == sum(each.cost for each in tried) + 70 <= made.most <= budget + 70
    assert {each.name for each in tried} | set(made.left_out) == {each.name for each in candidates}
    full = {(each.name, each.rounds) for each in tried}
    assert ("c0", len(candidates[0].visits)) in full


def test_a_larger_budget_tries_no_fewer_and_the_first_choices_come_first():
    candidates = [candidate(name) for name in ("lotus", *"abcdefg")]
    sizes = [len(plan(candidates, budget, "lotus").candidates) for budget in range(800, 8000, 400)]
    assert sizes == sorted(sizes) and sizes[0] == 1 and sizes[-1] == 8
    some = plan(candidates, 2400, "lotus")
    taken = [each.name for each in some.candidates]
    assert taken == ["lotus", *"abcdefg"][: len(taken)] and 1 < len(taken) < 8
    assert [*taken, *some.left_out] == ["lotus", *"abcdefg"]


def test_a_budget_too_small_for_anything_says_what_it_takes():
    with pytest.raises(ValueError, match=r"budget of 850 samples is too small .* visits 800 samples .* at least 900"):
        plan([candidate("a"), candidate("lotus", measuring=100)], 850, "lotus")
    assert len(plan([candidate("a"), candidate("lotus", measuring=100)], 900, "lotus").candidates) == 1
    with pytest.raises(ValueError, match="measuring it 150. Give at least 950"):
        plan([candidate("a"), candidate("lotus", measuring=100)], 900, "lotus", overhead=50)
