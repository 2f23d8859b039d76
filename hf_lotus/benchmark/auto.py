"""Let the method and its rate be chosen: successive halving over runs, by figures that need no retrained model."""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import nn

from hf_lotus.benchmark.best import CHOICE
from hf_lotus.benchmark.comparison import BEST, Comparison, Contender
from hf_lotus.benchmark.halving import Candidate, Plan, Try, best_try, plan
from hf_lotus.benchmark.rows import Rows, folder_of
from hf_lotus.data.prepared import num_samples
from hf_lotus.evaluation.choice import RULE, retrain_free_score
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.methods import GradientMethod, WarmRestart
from hf_lotus.methods.options import build_method
from hf_lotus.publishing.folder_checks import RESULTS
from hf_lotus.publishing.record import RECORD
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.text import markdown_table, number, plain

# Beside LoTUS, in the order in which a budget takes them.
METHODS = ("lotus", "margin_matching", "finetune", "salun", "scrub", "neggrad_plus", "warm_restart")
# On each method's own rate; a budget takes all methods at the first before any at the next.
RATES = (1.0, 3.0, 1 / 3)
ALWAYS = "lotus"
# What belongs to it in the output folder.
FOLDER = "auto"


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        result: the chosen model beside the original and, where there are any, the retrained models.
        plan: what was to be tried.
        tried: every run, in the order in which they were made.
        best: the run that was chosen.
    """

    result: UnlearningResult
    plan: Plan
    tried: Sequence[Try]
    best: Try


class Search:
    """Choose among methods and rates, within a budget of samples that training visits.

    Every run starts from the model anew and is kept as a row of a comparison, in its folder: a search that was broken
    off and is begun again takes what is there, and goes the same way. No retrained model takes part in the choice.

    Args:
        comparison: of the model and its data, with `keep_best` and `measure_relearning`; its output folder is that of
            the search.
        budget: samples that all runs may visit in training, the rounds of relearning that measure them included.
            Forward passes that measure are not counted.
        methods: names of the methods to choose among; LoTUS is always one.
        rates: factors on each method's own learning rate.

    Raises:
        ValueError: if the budget is too small for anything, there is no such method, or nothing can be chosen without
            a retrained model: without unseen and test data, or where whole classes are forgotten.
    """

    def __init__(
        self,
        comparison: Comparison,
        budget: int,
        methods: Sequence[str] | None = None,
        rates: Sequence[float] = RATES,
    ):
        self.comparison = comparison
        if comparison.best is None or comparison.relearning is None or comparison.splits["test"] is None:
            raise ValueError(
                "A method is chosen by the retrain-free gap and the relearning excess. They take unseen and test data "
                "of the forgotten classes, and samples to forget, not whole classes. Name a method instead."
            )
        if taken := {"learning_rate", "num_train_epochs"} - comparison.args.open_arguments:
            raise ValueError(
                f"{' and '.join(sorted(taken))} is what the search chooses for each method: leave it out, or name a "
                "method."
            )
        names = list(dict.fromkeys([ALWAYS, *(METHODS if methods is None else methods)]))
        self._contenders: dict[str, Contender] = {}
        # The round of relearning that the original and each retrained model take for the table.
        overhead = comparison.relearning.visits * (1 + len(comparison.retrained))
        self.plan = plan(self._candidates(names, rates), budget, ALWAYS, overhead)

    def run(self, say: Callable[[str], None] = lambda text: None, **about: object) -> Found:
        """Try, choose, and leave the chosen model in "best" of the search's folder.

        Args:
            say: told every run as soon as it is measured.
            **about: provenance of the result, as JSON values.
        """
        rows, contenders = Rows(self.comparison, about), {}

        def score(candidate: Candidate, rounds: int) -> float | None:
            name, contender = self._run_of(candidate, rounds)
            contenders[name] = contender
            rows.add(name, contender)
            # A run that stops before its first step is the original, which may look good.
            value = None if name in rows.unchanged else retrain_free_score(rows.measured[name])
            say(f"{candidate.name}, {rounds} of {len(candidate.visits)} rounds: {number(value, 4)}")
            return value

        tried = self.plan.run(score)
        best = best_try(tried)
        if best is None:
            raise ValueError(
                f"None of the {len(tried)} runs changed a weight: each method stopped before its first step, and the "
                "model would be the original. Name a method that does not stop, such as margin_matching, or give more."
            )
        table = [vars(each) for each in tried]
        auto = {"budget": self.plan.budget, "rule": RULE, "tried": table, "left_out": list(self.plan.left_out)}
        auto["visited"] = self.plan.visited(tried)
        chosen = rows.choose(contenders, [self._note(tried, best)], auto=auto)
        assert chosen is not None and chosen["row"] == _row(best.name, best.rounds)
        self.comparison.forget_logits()
        assert self.comparison.best is not None
        return Found(UnlearningResult.from_json(self.comparison.best.folder / RESULTS), self.plan, tried, best)

    def _run_of(self, candidate: Candidate, rounds: int) -> tuple[str, Contender]:
        contender = self._contenders[candidate.name]
        if isinstance(contender.method, GradientMethod):
            contender = replace(contender, arguments={**contender.arguments, "num_train_epochs": float(rounds)})
        return _row(candidate.name, rounds), contender

    def _candidates(self, names: Sequence[str], rates: Sequence[float]) -> list[Candidate]:
        found: dict[str, list[Candidate]] = {}
        for name in names:
            found[name] = self._of_method(name, rates)
        turns = range(max(map(len, found.values())))
        return [found[name][turn] for turn in turns for name in names if turn < len(found[name])]

    def _of_method(self, name: str, rates: Sequence[float]) -> list[Candidate]:
        """A method at each rate, with what its rounds visit; one that takes no steps has no rate."""
        comparison, method = self.comparison, build_method(name)
        trainer = comparison.trainer(name, Contender(method))
        assert comparison.relearning is not None
        measuring = comparison.relearning.visits
        if isinstance(method, GradientMethod):
            visits = _visits(trainer)
        else:
            sides = (comparison.splits["forget"], comparison.splits["retain"])
            visits = [sum(num_samples(side) for side in sides if side is not None)]
        own = trainer.args.learning_rate
        trainer.accelerator.free_memory()
        del trainer
        gc.collect()
        candidates = []
        for factor in rates if isinstance(method, GradientMethod) else rates[:1]:
            assert own is not None
            label = name if factor == 1 else f"{name}-rate-{own * factor:.3g}"
            arguments: dict[str, Any] = {} if factor == 1 else {"learning_rate": own * factor}
            self._contenders[label] = Contender(method, arguments)
            # A restart is not over before its last rounds.
            candidates.append(Candidate(label, visits, measuring, isinstance(method, WarmRestart)))
        return candidates

    def _note(self, tried: Sequence[Try], best: Try) -> str:
        """All of it in one line, which results, record and card have."""
        runs = [each for each in tried if each.cost]
        told = "; ".join(f"{each.name}, {each.rounds} rounds: {number(each.score, 4)}" for each in runs)
        left = f" Left out for the budget: {', '.join(self.plan.left_out)}." if self.plan.left_out else ""
        return (
            f"Method and rate were chosen by the {RULE}, without a retrained model, among {len(runs)} runs that "
            f"visited {self.plan.visited(tried)} of {self.plan.budget} samples: {told}. Chosen: {best.name}, "
            f"{best.rounds} rounds.{left}"
        )


def tried_table(found: Found) -> str:
    """Every run as a Markdown table."""
    rows = [
        [str(each.rung + 1), plain(each.name), str(each.rounds), f"{each.cost:,}" if each.cost else "as before",
         number(each.score, 4) + (" (chosen)" if each == found.best else "")]
        for each in found.tried
    ]  # fmt: skip
    return markdown_table(["Turn", "Tried", "Rounds", "Samples visited", "Gap + |excess|"], rows)


def search_comparison(
    model: nn.Module, arguments: UnlearningArguments, output_dir: str | Path, **options: Any
) -> Comparison:
    """The comparison of a search whose model is to be left in an output folder.

    Args:
        model: the trained classifier.
        arguments: training arguments for all runs; learning rate and rounds open.
        output_dir: the folder that the chosen model is for.
        **options: of `Comparison`.
    """
    arguments = arguments.changed(output_dir=str(Path(output_dir) / FOLDER), push_to_hub=False)
    name = Path(output_dir).resolve().name
    return Comparison(model, arguments, measure_relearning=True, keep_best=True, best_name=name, **options)


def take_home(comparison: Comparison, output_dir: str | Path) -> None:
    """Put the chosen model, with its record and card, into the output folder itself; the first rank's job.

    The record is written last: until then it is of other weights than those beside it, and nothing is published.
    """
    if not PartialState().is_main_process:
        return
    source = Path(folder_of(comparison.args)) / BEST
    files = sorted(path for path in source.iterdir() if path.is_file() and path.name != CHOICE)
    for path in sorted(files, key=lambda path: path.name == RECORD):
        shutil.copy2(path, Path(output_dir) / path.name)


def _visits(trainer: UnlearningTrainer) -> list[int]:
    """Samples that a run of 1, 2, … rounds visits in training, by the batches that it would be given."""
    sampler = trainer.sampler
    visits: list[int] = []
    for index in range(math.ceil(trainer.args.num_train_epochs or 1)):
        sampler.set_epoch(index)
        round_visits = sum(len(batch) for batch in sampler) * trainer.args.world_size
        visits.append(round_visits + (visits[-1] if visits else 0))
    return visits


def _row(name: str, rounds: int) -> str:
    return f"{name}-rounds-{rounds}"
