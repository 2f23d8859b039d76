"""Successive halving within a budget: many short runs, of which the better half goes on for twice as long.

Jamieson and Talwalkar 2016 (arXiv:1502.07943), with a run of more rounds begun anew, since a method's schedule depends
on their number. Nothing here knows what a run is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """Something that can be tried for some rounds.

    Attributes:
        name: what to call it.
        visits: samples that a run visits, of 1, 2, … rounds; the last is of its full length.
        measuring: samples that measuring a run visits.
        whole_only: whether it is nothing before its end, so that it is tried at full length or not at all.
    """

    name: str
    visits: Sequence[int]
    measuring: int = 0
    whole_only: bool = False

    def rounds(self, share: float) -> int:
        """Rounds of a run of a share of its full length: at least one."""
        full = len(self.visits)
        return full if self.whole_only else min(max(math.ceil(share * full - 1e-9), 1), full)

    def cost(self, rounds: int) -> int:
        """Samples that trying it for some rounds visits, measuring included."""
        return self.visits[rounds - 1] + self.measuring


@dataclass(frozen=True)
class Try:
    """One run.

    Attributes:
        rung: in which turn, from 0.
        name: of the candidate.
        rounds: how many it took.
        cost: samples that it visited, measuring included; 0 where it is the run of the turn before.
        score: what it came to; less is better. None for a run that has none, which is the worst.
    """

    rung: int
    name: str
    rounds: int
    cost: int
    score: float | None


@dataclass(frozen=True)
class Plan:
    """What is tried for how long, at a cost that is known before.

    Attributes:
        candidates: in order.
        always: the name of the one that goes through all turns.
        left_out: names of those that the budget does not allow.
        budget: samples.
        overhead: samples that are visited whatever is tried.
        most: what it can cost at most, whoever goes on.
    """

    candidates: Sequence[Candidate]
    always: str
    left_out: Sequence[str] = ()
    budget: int = 0
    overhead: int = 0
    most: int = 0

    def visited(self, tried: Sequence[Try]) -> int:
        """Samples that were visited in all."""
        return self.overhead + sum(each.cost for each in tried)

    @property
    def shares(self) -> list[float]:
        """The share of the full length in each turn: …, ¼, ½, 1."""
        turns = 1 + max(len(self.candidates) - 1, 0).bit_length()
        turns = min(turns, max(len(candidate.visits) for candidate in self.candidates).bit_length() + 1)
        return [2.0 ** -(turns - 1 - rung) for rung in range(turns)]

    def places(self, rung: int) -> int:
        """How many take part in a turn by what they came to: all, half of them, a quarter and so on."""
        return max(math.ceil(len(self.candidates) / 2**rung), 1)

    def run(self, score: Callable[[Candidate, int], float | None]) -> list[Try]:
        """Try, and let the better half go on.

        Args:
            score: of a candidate and a number of rounds; less is better. It is asked once for each pair.

        Returns:
            every run in the order in which they were made.
        """
        tried: list[Try] = []
        known: dict[tuple[str, int], float | None] = {}
        alive = list(self.candidates)
        for rung, share in enumerate(self.shares):
            turn = []
            for candidate in alive:
                rounds = candidate.rounds(share)
                is_new = (candidate.name, rounds) not in known
                if is_new:
                    known[candidate.name, rounds] = score(candidate, rounds)
                value = known[candidate.name, rounds]
                turn.append(Try(rung, candidate.name, rounds, candidate.cost(rounds) if is_new else 0, value))
            tried += turn
            if rung + 1 < len(self.shares):
                alive = self._going_on(turn, self.places(rung + 1))
        return tried

    def _going_on(self, turn: Sequence[Try], places: int) -> list[Candidate]:
        order = sorted(turn, key=_worth)  # stable: the first of equal ones
        chosen = [each.name for each in order[:places]]
        chosen.append(self.always)  # beside the others, none of whom it puts out
        return [candidate for candidate in self.candidates if candidate.name in chosen]


def best_try(tried: Sequence[Try]) -> Try | None:
    """The run with the least score, the first of equal ones; None where none has one."""
    scored = [each for each in tried if each.score is not None]
    return min(scored, key=_worth, default=None)


def _worth(each: Try) -> float:
    return math.inf if each.score is None else each.score


def plan(candidates: Sequence[Candidate], budget: int, always: str, overhead: int = 0) -> Plan:
    """The plan of as many candidates, in their order, as a budget allows whoever of them goes on.

    Args:
        candidates: the first ones are the first choice; names are unlike each other.
        budget: samples that all runs and their measuring may visit together.
        always: name of the one that is among them and goes through all turns.
        overhead: samples that are visited whatever is tried.

    Raises:
        ValueError: if the budget does not allow even a whole run of `always`.
    """
    first = next(candidate for candidate in candidates if candidate.name == always)
    least = first.cost(len(first.visits)) + overhead
    if least > budget:
        raise ValueError(
            f"The budget of {budget} samples is too small for anything: one run of {first.name} in its "
            f"{len(first.visits)} rounds visits {first.visits[-1]} samples and measuring it "
            f"{least - first.visits[-1]}. Give at least {least}, and several times as much for a choice."
        )
    taken, left_out = [first], []
    for candidate in candidates:
        if candidate.name == always:
            continue
        more = sorted([*taken, candidate], key=lambda each: candidates.index(each))
        if _most(Plan(more, always)) + overhead <= budget:
            taken = more
        else:
            left_out.append(candidate.name)
    return Plan(taken, always, left_out, budget, overhead, _most(Plan(taken, always)) + overhead)


def _most(made: Plan) -> int:
    """What a plan can cost at most: in each turn those go on that cost most."""
    total, before = 0, {candidate.name: 0 for candidate in made.candidates}
    for rung, share in enumerate(made.shares):
        now = {candidate.name: candidate.rounds(share) for candidate in made.candidates}
        costs = {c.name: c.cost(now[c.name]) if now[c.name] != before[c.name] else 0 for c in made.candidates}
        others = sorted((cost for name, cost in costs.items() if name != made.always), reverse=True)
        total += costs[made.always] + sum(others[: made.places(rung)])
        before = now
    return total
