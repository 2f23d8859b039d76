"""Whose margins on unseen data are the goal of margin matching: four answers, where the deletion changes unseen data.

    python benchmarks/whose_margins.py broad --cifar10 path/or/id --output docs/whose_margins

The settings of `floor_comparison.py` in which half of the data is forgotten, or most of two classes; its folder is the
first argument, and has the models that were trained already. `original`, `student` and `mean` are what
`MarginMatching` offers. `prior` takes the original's logits on unseen data, each class's moved by the logarithm of how
much rarer the deletion makes it, which is what a calibrated model would do if nothing else changed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import cast

import numpy as np
from cells import parser_beside
from docs_tables import write_csv
from floor_comparison import RETRAINED, FloorCell
from floor_report import Run

from hf_lotus import Contender, MarginMatching
from hf_lotus.data.prepared import ready_splits
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.functional.margins import margins, matched_margins
from hf_lotus.methods import base
from hf_lotus.methods.margin_matching import UNSEEN_MARGINS, Prepared
from hf_lotus.utils.files import write_whole

FORGET, SIDES = ("10 %, skewed", "50 %"), ("retain", "forget")
METRICS = {
    "Forget acc.": "forget_accuracy", "Own unseen acc.": "own_unseen_accuracy", "Retain acc.": "retain_accuracy",
    "Test acc.": "test_accuracy", "Retrain-free gap": "retrain_free_gap", "Relearning excess": "relearning_excess",
}  # fmt: skip
ADAM = {"optim": "adamw_torch_fused", "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 0.05}


@dataclass(frozen=True)
class ByPrior(MarginMatching):
    """The original's margins on unseen data, after a shift of its logits by the change of class frequencies."""

    def _goals(self, run: base.Run) -> np.ndarray:
        prepared, unseen = cast(Prepared, run.prepared), run.teacher_predictions("unseen")
        left, gone = (np.bincount(run.labels(split).numpy(), minlength=unseen.logits.shape[1]) for split in SIDES)
        shifted = unseen.logits + np.log(np.maximum(left, 1) / np.maximum(left + gone, 1)).astype(np.float32)
        beside = (prepared.trained, prepared.trained_labels) if len(prepared.trained) else ()
        there = margins(shifted, unseen.labels)
        return matched_margins(prepared.forget, prepared.forget_labels, there, unseen.labels, self.pool_below, *beside)


METHODS = {**{who: MarginMatching(unseen_margins=who) for who in UNSEEN_MARGINS}, "prior": ByPrior()}


def measured(cell: FloorCell, rows: dict[str, dict[str, float]]) -> None:
    """Add the rows of a cell that are not there yet, and the retrained models' from the comparison."""
    compared = json.loads(cell.path.read_text(encoding="utf-8"))["rows"]
    rows.update({name: compared[name] for name in RETRAINED})
    todo = [name for name in METHODS if name not in rows]
    if not todo:
        return
    original, retrained, sets = cell.models_and_sets()
    sets, _ = ready_splits(sets, original.config, cell.processor)
    evaluator: Evaluator | None = None
    for name in todo:
        trainer = cell.trainer(original, Contender(METHODS[name], ADAM), sets, retrained[0], evaluator)
        evaluator = trainer.evaluator
        trainer.train()
        rows[name] = cell.measured(name, trainer)
        sys.stdout.write(f"{cell.name}, {name}: forget accuracy {rows[name]['forget_accuracy']:.3f}\n")
        sys.stdout.flush()


def table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[list[str]]:
    """Heads, and a row of each cell and answer, the mean of the retrained models first."""
    lines = [["Goal", *METRICS, "Avg Gap"]]
    for cell, rows in found.items():
        gold = {metric: mean(rows[name][metric] for name in RETRAINED) for metric in METRICS.values()}
        run = Run((cell,), 0, {name: rows[name] for name in METHODS}, [rows[name] for name in RETRAINED])
        entries = {"retrain": (gold, run.floor), **{name: (rows[name], run.gap(name)) for name in METHODS}}
        for name, (row, gap) in entries.items():
            lines.append([f"{cell}: {name}", *(f"{row[metric]:.3f}" for metric in METRICS.values()), f"{gap:.4f}"])
    return lines


def main() -> None:
    """Measure, and write all of it."""
    options = parser_beside(__doc__, "whose_margins").parse_args()
    options.methods, kept = "ours", Path(options.output_dir) / "whose_margins.json"
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for model in ("resnet", "vit"):
        for forget in FORGET:
            rows = found.setdefault(f"{model}, {forget}", {})
            measured(FloorCell("cifar10", model, forget, 0, options), rows)
            write_whole(kept, json.dumps(found, indent=1) + "\n")
    write_csv(options.output.with_suffix(".csv"), table(found))


if __name__ == "__main__":
    main()
