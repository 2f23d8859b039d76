"""Where the defaults of the methods of 2023 to 2025 come from: three settings of each on a real checkpoint.

    python benchmarks/default_rates.py checkpoint --cifar10 path/or/id --output docs/default_rates

The folder holds `original`, `retrain` and `forget_rows.json`. A share of the data is used, and rounds are capped, so
that a row takes a minute on one core: its figures rank the settings of a method, not the methods. Settings are ranked
by what needs no retrained model (`retrain_free_score`); the accuracies beside it tell which destroy
the model. Rows are written as they come, and a run that was broken off goes on. The CSV is written last.

With `--small_vit` the folder is that of `floor_comparison.py`, whose small ViT is unlearned by the methods' defaults.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path
from typing import NamedTuple

from cells import Cell
from datasets import Dataset, load_dataset
from docs_tables import write_csv
from torch import nn
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_lotus import (
    AMUN,
    CT,
    MSG,
    RUM,
    Delete,
    Finetune,
    ForgetRetainSplit,
    L1Sparse,
    MUNBa,
    SFRon,
    UnlearningArguments,
    UnlearningTrainer,
)
from hf_lotus.data.columns import find_label_column, read_labels
from hf_lotus.data.prepared import ready_splits
from hf_lotus.data.splits import stratified_rows
from hf_lotus.evaluation.choice import retrain_free_score
from hf_lotus.evaluation.results import ModelResult
from hf_lotus.methods import UnlearningMethod
from hf_lotus.methods.amun import Adversaries
from hf_lotus.methods.base import Run
from hf_lotus.trainer.relearning import measured_relearning_excess
from hf_lotus.utils.files import write_whole

CONTROLS = ("original", "retrain")
BATCH = 128
METRICS = {
    "Score": "score", "Retrain-free gap": "retrain_free_gap", "Relearning excess": "relearning_excess",
    "Forget acc.": "forget_accuracy", "Retain acc.": "retain_accuracy", "Test acc.": "test_accuracy",
}  # fmt: skip


class Setting(NamedTuple):
    """One row: a method with its learning rate and number of rounds, or with its defaults."""

    method: UnlearningMethod
    rate: float | None = None
    rounds: int | None = None

    @property
    def told(self) -> str:
        """The fields that are not the defaults, the rate and the rounds."""
        if self.rate is None:
            return "defaults"
        fields = [f"α = {self.method.alpha:g}"] if isinstance(self.method, L1Sparse) else []
        return ", ".join([*fields, f"rate {self.rate:g}", f"{self.rounds} rounds"])

    @property
    def arguments(self) -> dict[str, object]:
        """Training arguments that are not left to the method."""
        return {} if self.rate is None else {"learning_rate": self.rate, "num_train_epochs": self.rounds}


class SearchedOnceAMUN(AMUN):
    """AMUN whose adversarial examples are those that a run before it has found: the rate does not matter to them."""

    found: Adversaries | None = None

    def prepare(self, run: Run) -> Adversaries:
        """As AMUN, once."""
        if SearchedOnceAMUN.found is None:
            SearchedOnceAMUN.found = super().prepare(run)
        return SearchedOnceAMUN.found


def defaults() -> list[Setting]:
    """Each method that is defined for transformers, as it is."""
    return [Setting(method()) for method in (Delete, MUNBa, SFRon, L1Sparse, AMUN, MSG, RUM)]


def settings() -> list[Setting]:
    """Three of each method, the one in the middle first of all: a run that is broken off has all methods."""
    columns = [
        [Setting(Delete(), rate, 2) for rate in (1e-3, 3e-3, 1e-2)],
        [Setting(MUNBa(), rate, 2) for rate in (1e-3, 3e-3, 1e-2)],
        [Setting(SFRon(), rate, 3) for rate in (0.01, 0.003, 0.03)],
        [Setting(L1Sparse(alpha=alpha), rate, 4) for alpha, rate in ((1e-5, 0.01), (1e-4, 0.01), (1e-5, 0.03))],
        [Setting(SearchedOnceAMUN(), rate, 4) for rate in (0.01, 0.003, 0.03)],
        [Setting(MSG(), rate, rounds) for rate, rounds in ((0.05, 4), (0.015, 4), (0.05, 8))],
        [Setting(CT(), rate, rounds) for rate, rounds in ((0.05, 4), (0.05, 8), (0.015, 4))],
        [Setting(RUM(low_rounds=3, middle_rounds=3), rate, 6) for rate in (0.01, 0.003, 0.03)],
    ]
    return [column[number] for number in range(3) for column in columns]


class Subject:
    """A model, the one retrained without the forget set, and the sets."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        models, sets, self.processor = self._small_vit() if options.small_vit else self._checkpoint()
        self.models = dict(zip(CONTROLS, models, strict=True))
        self.batch = {} if options.small_vit else {"per_device_train_batch_size": BATCH}
        self.sets, _ = ready_splits(sets, self.models["original"].config, self.processor)
        self.evaluator = None

    def _checkpoint(self) -> tuple[list[nn.Module], dict[str, Dataset], object]:
        options, folder = self.options, Path(self.options.folder)
        data = load_dataset(options.cifar10)
        whole = ForgetRetainSplit.from_file(data["train"], folder / "forget_rows.json")
        held_out = ForgetRetainSplit.from_fraction(data["test"], 0.5)
        sets = {
            "forget": share(whole.forget, options.forget), "retain": share(whole.retain, options.retain),
            "unseen": share(held_out.forget, options.unseen), "test": share(held_out.retain, options.test),
        }  # fmt: skip
        models = [AutoModelForImageClassification.from_pretrained(folder / name) for name in CONTROLS]
        return models, sets, AutoImageProcessor.from_pretrained(folder / "original", backend="pil")

    def _small_vit(self) -> tuple[list[nn.Module], dict[str, Dataset], object]:
        given = argparse.Namespace(output_dir=self.options.folder, cifar10=self.options.cifar10)
        cell = Cell("cifar10", "vit", "10 %", 0, given)
        settings = cell.settings()
        sets = {name: settings[f"{name}_dataset"] for name in ("forget", "retain", "unseen")}
        models = [settings["model"], settings["retrain_model"]]
        return models, {**sets, "test": settings["eval_dataset"]}, cell.processor

    def measured(self, model: nn.Module, name: str, setting: Setting | None = None) -> dict[str, float]:
        """The figures of a model, after it was unlearned if a setting is given."""
        given = self.batch | ({} if setting is None else setting.arguments)
        arguments = UnlearningArguments(
            str(Path(self.options.output).parent / "runs"), save_strategy="no", logging_strategy="no", seed=0,
            use_cpu=True, disable_tqdm=True, **given,
        )  # fmt: skip
        trainer = UnlearningTrainer(
            copy.deepcopy(model), arguments, Finetune() if setting is None else setting.method,
            forget_dataset=self.sets["forget"], retain_dataset=self.sets["retain"], eval_dataset=self.sets["test"],
            unseen_dataset=self.sets["unseen"], retrain_model=self.models["retrain"], evaluator=self.evaluator,
            processing_class=self.processor,
        )  # fmt: skip
        self.evaluator = trainer.evaluator
        if setting is not None:
            trainer.train()
        row = trainer.evaluator.yardstick.measure(name, trainer.student_predictions(), trainer.unlearning_seconds)
        whole = ModelResult(name, values={**row.values, "relearning_excess": measured_relearning_excess(trainer)})
        return {**whole.values, "score": retrain_free_score(whole) or 0.0}


def share(data: Dataset, count: int) -> Dataset:
    """About so many rows of a set, of each class in proportion."""
    labels = read_labels(data, find_label_column(data))
    return data.select(stratified_rows(labels, min(1.0, count / len(labels)), 0))


def main() -> None:
    """Measure what is not measured yet, and write all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of a real model: original, retrain, forget_rows.json")
    parser.add_argument("--cifar10", default="uoft-cs/cifar10", help="the data set, by id or folder")
    parser.add_argument("--output", type=Path, default=Path("default_rates"), help="path without suffix")
    for name, count in {"forget": 700, "retain": 6000, "unseen": 1000, "test": 2000}.items():
        parser.add_argument(f"--{name}", type=int, default=count, help=f"rows of the {name} set (default: {count})")
    parser.add_argument("--small_vit", action="store_true", help="the small ViT of a folder of floor_comparison.py")
    parser.add_argument("--methods", nargs="*", help="names of methods (default: all eight)")
    options = parser.parse_args()
    kept = options.output.with_suffix(".json")
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    todo = {name: None for name in CONTROLS} | {
        f"{setting.method.name} · {setting.told}": setting
        for setting in (defaults() if options.small_vit else settings())
        if not options.methods or setting.method.name in options.methods
    }
    subject = Subject(options)
    for name, setting in todo.items():
        if name in found:
            continue
        model = subject.models[name if setting is None else "original"]
        figures = subject.measured(model, "finetune" if setting is None else setting.method.name, setting)
        found[name] = {key: round(value, 5) for key, value in figures.items()}
        write_whole(kept, json.dumps(found, indent=1) + "\n")
        sys.stdout.write(f"{name}: {' '.join(f'{found[name][key]:.3f}' for key in METRICS.values())}\n")
        sys.stdout.flush()
    methods = [*CONTROLS, *dict.fromkeys(name.split(" · ")[0] for name in todo if name not in CONTROLS)]
    names = sorted(todo, key=lambda name: methods.index(name.split(" · ")[0]))
    rows = [[name, *(f"{found[name][key]:.3f}" for key in METRICS.values())] for name in names]
    write_csv(options.output.with_suffix(".csv"), [["Setting", *METRICS], *rows])


if __name__ == "__main__":
    main()
