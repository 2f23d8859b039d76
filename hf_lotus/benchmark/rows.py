"""The rows of one comparison: measured, or taken as they were kept; and the model of the best."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from torch import nn
from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_lotus.benchmark.best import BestModel
from hf_lotus.benchmark.kept import MEASURED, keep_row, kept_row
from hf_lotus.evaluation.choice import best_model, retrain_free_score, rule_of
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.metrics import ORIGINAL
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.results import ModelResult, UnlearningResult, retrained_row
from hf_lotus.evaluation.row_details import row_details
from hf_lotus.evaluation.yardstick import Yardstick
from hf_lotus.publishing.digests import weights_digest
from hf_lotus.trainer.fingerprint import identity_digest
from hf_lotus.trainer.relearning import RELEARNING
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.text import number

if TYPE_CHECKING:
    from hf_lotus.benchmark.comparison import Comparison, Contender

# Counts up when a kept row holds something else than before: older ones are then measured anew.
ROW_VERSION = 4


class Rows:
    """The rows of one comparison as they are measured.

    Args:
        comparison: what they are rows of.
        about: provenance of the best row's model.

    Attributes:
        measured: row → its metrics.
        details: row → what a report shows of it.
        evaluations: evaluation seed → row → metrics.
        left_out: what is said of methods that are not defined for the model.
        unchanged: rows whose method changed no weight: they are the original, and are not taken for the best.
    """

    def __init__(self, comparison: Comparison, about: Mapping[str, object]):
        self.comparison, self.about = comparison, about
        self.measured: dict[str, ModelResult] = {}
        self.details: dict[str, dict[str, Any]] = {}
        self.evaluations: dict[str, dict[str, dict[str, float]]] = {str(s): {} for s in comparison.evaluation_seeds}
        self.keys: dict[str, str] = {}
        self.left_out: list[str] = []
        self.unchanged: set[str] = set()
        self.evaluator: Evaluator | None = None
        self._excesses: dict[str, dict[str, float]] | None = None
        self._original = weights_digest(comparison.model)
        relearning = comparison.relearning
        # Every row's excess is of the same round, whatever the method's own batch size.
        how = None if relearning is None else relearning.identity(comparison.model)
        retrained = [weights_digest(model) for model in comparison.retrained]
        seeds = [comparison.args.evaluation_seed, *comparison.evaluation_seeds]
        self._shared = [ROW_VERSION, retrained, how, seeds, comparison.rf_jsd_on]

    @property
    def ready(self) -> Evaluator:
        """The evaluator, which the first row has made."""
        assert self.evaluator is not None
        return self.evaluator

    def add(self, name: str, contender: Contender, anew: bool = False) -> None:
        """Measure a row, or take what was kept of it.

        Args:
            name: of the row.
            contender: its method.
            anew: do not take what was kept, but the model again.
        """
        comparison = self.comparison
        # The original's and the retrained models' predictions are made once for all.
        trainer = comparison.trainer(name, contender, self.evaluator)
        self.evaluator = trainer.evaluator
        path = Path(folder_of(trainer.args)) / MEASURED
        self.keys[name] = key = identity_digest(trainer.checkpoints.identify(ended=True), self._shared)
        kept = None if anew else kept_row(path, key)
        if kept is None:
            trainer.train()
            _delete_checkpoints(trainer.args)
            predictions = trainer.student_predictions()
            excess = self._excess(trainer.run.student)
            measured = self._by_seed(name, predictions, excess, trainer.unlearning_seconds)
            details = row_details(self.ready.yardstick, predictions, trainer.state.log_history, comparison.rf_jsd_on)
            details["passes"] = trainer.unlearning_passes
            is_same = weights_digest(trainer.run.student) == self._original
            kept = {"measured": measured[0].to_dict(), "details": details, "unchanged": is_same}
            if comparison.evaluation_seeds:
                kept["evaluations"] = [row.metrics() for row in measured]
            if self.comparison.best is not None and not is_same and (anew or self._is_best(measured[0])):
                self._take(self.comparison.best, trainer, measured[0], predictions)
            keep_row(path, key, kept)
        self.measured[name] = ModelResult(**{**kept["measured"], "name": name})
        self.details[name] = kept["details"]
        if kept["unchanged"]:
            self.unchanged.add(name)
        for seed, metrics in zip(comparison.evaluation_seeds, kept.get("evaluations", ()), strict=False):
            self.evaluations[str(seed)][name] = metrics
        trainer.accelerator.free_memory()
        del trainer
        gc.collect()

    def _excess(self, model: nn.Module) -> list[float | None]:
        """The relearning excess of a model, by evaluation seed; of the one seed where none are named."""
        relearning, seeds = self.comparison.relearning, self.comparison.evaluation_seeds
        if relearning is None:
            return [None] * max(len(seeds), 1)
        rounds = [replace(relearning, seed=seed) for seed in seeds] or [relearning]
        return [each.excess(model) for each in rounds]

    @cached_property
    def _yardsticks(self) -> list[Yardstick]:
        own = self.ready.yardstick
        return [own, *(own.reseeded(seed) for seed in self.comparison.evaluation_seeds[1:])]

    def _by_seed(
        self, name: str, predictions: Mapping[str, Predictions], excess: Sequence[float | None], seconds: float | None
    ) -> list[ModelResult]:
        return [
            yardstick.measure(name, predictions, seconds, {RELEARNING: value})
            for yardstick, value in zip(self._yardsticks, excess, strict=True)
        ]

    # ---- the best ----

    def _is_best(self, row: ModelResult) -> bool:
        return best_model([*self._changed, row]) is row

    @property
    def _changed(self) -> list[ModelResult]:
        return [row for name, row in self.measured.items() if name not in self.unchanged]

    def _take(
        self,
        best: BestModel,
        trainer: UnlearningTrainer,
        row: ModelResult,
        predictions: Mapping[str, Predictions],
    ) -> None:
        """Keep the model of a row."""
        given = {**self.excesses_of_controls(0), trainer.method_name: {RELEARNING: row.relearning_excess}}
        seconds = self.comparison.retrain_seconds
        best.take(trainer, row.name, self.keys[row.name], predictions, seconds, given, **self.about)

    def choose(
        self, contenders: Mapping[str, Contender], notes: Sequence[str] | None = None, **about: object
    ) -> dict[str, Any] | None:
        """The best row, whose model is kept; as provenance.

        None where no row can be chosen without retraining, or none has changed a weight.

        Args:
            contenders: row → method, of all rows.
            notes: what the kept model's results, record and card say of the choice; that it was one among these rows,
                by which rule and with which scores, if None.
            **about: the same for programs, as further provenance of its results.
        """
        best, chosen = self.comparison.best, best_model(self._changed)
        assert best is not None
        if chosen is None:
            return None
        if not best.holds(chosen.name, self.keys[chosen.name]):
            # What is there is of another row, or was not written to its end: the same steps give the same model.
            self.add(chosen.name, contenders[chosen.name], anew=True)
        scores = {row.name: retrain_free_score(row) for row in self._changed}
        told = {"row": chosen.name, "rule": rule_of(chosen), "scores": scores, "folder": str(best.folder)}
        if PartialState().is_main_process:
            shown = {key: told[key] for key in ("row", "rule", "scores")}
            best.explain([choice_note(told)] if notes is None else notes, best=shown, **about)
        return told

    # ---- the table ----

    def excesses_of_controls(self, place: int) -> dict[str, dict[str, float | None]]:
        """Row → values given for the original and the retrained models, by an evaluation seed's place."""
        if self.comparison.relearning is None:
            return {}
        if self._excesses is None:
            models = {ORIGINAL: self.comparison.model}
            models |= {retrained_row(count): model for count, model in enumerate(self.comparison.retrained)}
            self._excesses = {name: self._kept_excess(name, model) for name, model in models.items()}
        return {name: {RELEARNING: values[str(place)]} for name, values in self._excesses.items()}

    def _kept_excess(self, name: str, model: nn.Module) -> dict[str, float]:
        path = Path(folder_of(self.comparison.args)) / name.replace(" ", "_") / "relearning.json"
        key = identity_digest({"model": weights_digest(model)}, self._shared[2:4])
        kept = kept_row(path, key)
        if kept is None:
            kept = {str(place): value for place, value in enumerate(self._excess(model))}
            keep_row(path, key, kept)
        return kept

    def result(self, run: Mapping[str, Any]) -> UnlearningResult:
        """The whole table."""
        yardsticks = self._yardsticks
        tables = []
        for place, yardstick in enumerate(yardsticks):
            given = self.excesses_of_controls(place)
            original = yardstick.measure(ORIGINAL, yardstick.original, given=given.get(ORIGINAL))
            tables.append((original, yardstick.measure_retrained(self.comparison.retrain_seconds, given)))
        original, retrained = tables[0]
        for seed, (first, golds) in zip(self.comparison.evaluation_seeds, tables, strict=False):
            controls = {row.name: row.metrics() for row in (first, *golds)}
            self.evaluations[str(seed)] = {**self.evaluations[str(seed)], **controls}
        yardstick, on = yardsticks[0], self.comparison.rf_jsd_on
        details = {ORIGINAL: row_details(yardstick, yardstick.original, rf_jsd_on=on), **self.details}
        for row, predictions in zip(retrained, yardstick.all_retrained, strict=True):
            details[row.name] = row_details(yardstick, predictions, rf_jsd_on=on)
        run = {**run, "details": details}
        if self.evaluations:
            run |= {"evaluation_seed": self.comparison.evaluation_seeds[0], "evaluations": self.evaluations}
        models = (original, *self.measured.values(), *retrained)
        notes = [f"{name} changed no weight: its model is the original." for name in sorted(self.unchanged)]
        return UnlearningResult(models, yardstick.controls, (*yardstick.notes, *self.left_out, *notes), run)


def choice_note(told: Mapping[str, Any]) -> str:
    """How the best row was chosen, as a note of its results."""
    shown = ", ".join(f"{name} {number(score, 4)}" for name, score in told["scores"].items())
    return f"Chosen among {len(told['scores'])} rows of a comparison by the {told['rule']}: {shown}."


def _delete_checkpoints(args: TrainingArguments) -> None:
    if PartialState().is_main_process:
        for folder in Path(folder_of(args)).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
            shutil.rmtree(folder)


def folder_of(args: TrainingArguments) -> str:
    """The output folder, which transformers settles where none was given."""
    assert args.output_dir is not None
    return args.output_dir
