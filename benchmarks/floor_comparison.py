"""The comparison with its floor: relearning, cost, and what two trainings differ by anyway.

    python benchmarks/floor_comparison.py --output_dir broad --cifar10 path/or/id

The settings of `cells.py`, each with three retrained models, our methods as they are now and tuned rivals; or
with `--methods all`, every method there is. Every method gets the same number of configurations. Every row has its
relearning excess and its cost in sample visits; no retrained model takes part in a choice. Broken off, it goes on
where it stopped; `--cells` divides the work between processes. `--known docs/floor_comparison.json` takes what was
measured for that page, so that only what is not on it is run.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from cells import DATA, FORGET, MODELS, SEEDS, Cell
from datasets import Dataset
from torch import Tensor, nn

from hf_lotus import (
    AMUN,
    CT,
    MSG,
    RUM,
    SCRUB,
    SSD,
    UNSIR,
    BadTeacher,
    Contender,
    Delete,
    Finetune,
    L1Sparse,
    LoTUS,
    MarginMatching,
    MUNBa,
    NegGradPlus,
    RandomLabels,
    SalUn,
    SFRon,
    UnlearningArguments,
    UnlearningTrainer,
    WarmRestart,
)
from hf_lotus.data.prepared import ready_splits
from hf_lotus.evaluation.attacks import ENTROPY
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.trainer.relearning import measured_relearning_excess
from hf_lotus.utils.files import write_whole

BATCH, EPOCHS = 64, 30
# The retrained model that JSD is measured from, and those that say what two trainings differ by.
RETRAINED = ("retrain", "retrain again", "retrain, third")


def configurations(model: str) -> dict[str, Contender]:
    """Two of each method, named method/number."""
    adam, sgd = {"optim": "adamw_torch_fused"}, {"optim": "sgd", "optim_args": "momentum=0.9"}
    annealed = {"lr_scheduler_type": "cosine", "warmup_steps": 0.05}
    grids: dict[str, list[tuple[object, Mapping[str, object]]]] = {
        "lotus": [(LoTUS(alpha=alpha, stop_margin=2.0), {**adam, "learning_rate": 1e-4}) for alpha in (2.0, 8.0)],
        "finetune": [(Finetune(), {**sgd, "learning_rate": rate}) for rate in (3e-2, 1e-1)],
        "finetune, annealed": [(Finetune(), {**sgd, **annealed, "learning_rate": rate}) for rate in (3e-2, 1e-1)],
        "neggrad_plus": [(NegGradPlus(alpha=alpha), {**sgd, "learning_rate": 1e-2}) for alpha in (0.95, 0.99)],
        "scrub_r": [(SCRUB(alpha=alpha, rewind=True), {**adam, "learning_rate": 5e-4}) for alpha in (0.001, 0.5)],
        "salun": [
            (SalUn(saliency=share), {**sgd, "learning_rate": rate}) for share, rate in ((0.1, 1e-3), (0.5, 1e-2))
        ],
        "matching, open loop": [
            (MarginMatching(gain=0.0, unseen_margins="original"), {**adam, **annealed, "learning_rate": rate})
            for rate in (3e-4, 1e-3)
        ],
        "margin_matching": [(MarginMatching(), {**adam, **annealed, "learning_rate": rate}) for rate in (1e-3, 2e-3)],
        # Without mirroring, as the models were trained; at their family's first rate, and at half of it.
        "warm_restart": [
            (WarmRestart(restart_rounds=8, restart_flip=False), {"learning_rate": rate, "num_train_epochs": 11})
            for rate in ((0.1, 0.05) if model == "resnet" else (5e-3, 2.5e-3))
        ],
    }
    return _numbered(grids)


def other_configurations(model: str) -> dict[str, Contender]:
    """Two of each further method; of those that mend what they break, at what the model family is trained at."""
    sgd, adam = {"optim": "sgd", "optim_args": "momentum=0.9"}, {"optim": "adamw_torch_fused"}
    mending = (0.05, 0.1) if model == "resnet" else (1e-3, 2e-3)
    stepping = {
        "random_labels": (RandomLabels(), adam, (1e-4, 5e-4)),
        "bad_teacher": (BadTeacher(), {**adam, "num_train_epochs": 3}, (1e-4, 5e-4)),
        "unsir": (UNSIR(), {**sgd, "num_train_epochs": 2}, (1e-3, 1e-2)),
        "delete": (Delete(), {**sgd, "num_train_epochs": 5}, (1e-3, 3e-3)),
        "munba": (MUNBa(), {"optim": "sgd"}, (1e-3, 1e-2)),
        "sfron": (SFRon(), sgd, (1e-2, 3e-2)),
        "amun": (AMUN(), sgd, (1e-2, 3e-2)),
        "msg": (MSG(), {}, mending),
        "ct": (CT(), {}, mending),
    }
    grids: dict[str, list[tuple[object, Mapping[str, object]]]] = {
        name: [(method, {**arguments, "learning_rate": rate}) for rate in rates]
        for name, (method, arguments, rates) in stepping.items()
    }
    grids["l1_sparse"] = [(L1Sparse(alpha=alpha), {**sgd, "learning_rate": 3e-2}) for alpha in (1e-5, 1e-4)]
    grids["ssd"] = [(SSD(alpha=alpha), {}) for alpha in (10.0, 3.0)]
    grids["rum"] = [(RUM(), {"num_train_epochs": 20, "learning_rate": rate}) for rate in (1e-2, 3e-2)]
    if model == "vit":
        del grids["ct"]  # it has no kernels to transpose, and is refused
    return _numbered(grids)


def _numbered(grids: Mapping[str, list[tuple[object, Mapping[str, object]]]]) -> dict[str, Contender]:
    return {
        f"{name}/{number}": Contender(method, arguments)
        for name, grid in grids.items()
        for number, (method, arguments) in enumerate(grid)
    }


@dataclass
class FloorCell(Cell):
    """A cell with several retrained models, whose every row is measured while its model is at hand."""

    @property
    def contenders(self) -> dict[str, Contender]:
        """What is compared."""
        more = other_configurations(self.model) if self.options.methods == "all" else {}
        return {**configurations(self.model), **more}

    def run(self) -> None:
        """Train, retrain, unlearn by every configuration, measure, and write the rows as they come."""
        rows = json.loads(self.path.read_text(encoding="utf-8"))["rows"] if self.path.exists() else {}
        contenders = self.contenders
        if {*RETRAINED, "original", *contenders} <= rows.keys():
            return
        original, retrained, sets = self.models_and_sets()
        sets, _ = ready_splits(sets, original.config, self.processor)
        evaluator: Evaluator | None = None
        todo = {"original": original, **dict(zip(RETRAINED, retrained, strict=True)), **contenders}
        for name, what in todo.items():
            if name in rows:
                continue
            contender = what if isinstance(what, Contender) else Contender(Finetune())
            trainer = self.trainer(original if what is contender else what, contender, sets, retrained[0], evaluator)
            evaluator, visits = trainer.evaluator, 0
            if what is contender:
                with counted_visits(trainer.run.student) as count:
                    trainer.train()
                visits = count[0]
            rows[name] = {**self.measured(name, trainer), "visits": visits}
            self.keep(rows)

    @property
    def path(self) -> Path:
        """Of its rows."""
        return Path(self.options.output_dir) / f"{self.name}.json"

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What tells it from others."""
        return self.data, self.model, self.forget, self.seed

    def keep(self, rows: Mapping[str, Mapping[str, object]]) -> None:
        """Write the rows."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps({"cell": self.key, "rows": rows}, indent=1) + "\n")

    def trainer(
        self, model: nn.Module, contender: Contender, sets: Mapping, retrained: nn.Module, evaluator: Evaluator | None
    ) -> UnlearningTrainer:
        """With a copy of the model."""
        arguments = UnlearningArguments(
            str(Path(self.options.output_dir) / "runs" / self.name), num_train_epochs=10, save_strategy="no",
            per_device_train_batch_size=BATCH, seed=self.seed, use_cpu=True, disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        return UnlearningTrainer(
            copy.deepcopy(model), arguments.changed(**contender.arguments), contender.method,
            forget_dataset=sets["forget"], retain_dataset=sets["retain"], unseen_dataset=sets["unseen"],
            eval_dataset=sets["test"], retrain_model=retrained, evaluator=evaluator, processing_class=self.processor,
        )  # fmt: skip

    def measured(self, name: str, trainer: UnlearningTrainer) -> dict[str, object]:
        """Every metric of the trainer's model as it is; what it says of unseen data, weighted as the forget set."""
        predictions, yardstick = trainer.student_predictions(), trainer.evaluator.yardstick
        row = yardstick.measure(name, predictions, trainer.unlearning_seconds)
        rates = ENTROPY.run(predictions)
        return {
            **row.metrics(),
            "own_unseen_accuracy": predictions["unseen"].accuracy_weighted(predictions["forget"].labels),
            "own_unseen_member_rate": rates.unseen,
            "relearning_excess": measured_relearning_excess(trainer),
        }

    def models_and_sets(self) -> tuple[nn.Module, list[nn.Module], dict[str, Dataset]]:
        """The original, the retrained models, and the sets by name."""
        settings = self.settings()
        sets = {name: settings[f"{name}_dataset"] for name in ("forget", "retain", "unseen")}
        sets["test"] = settings["eval_dataset"]
        shared = self.forget.removesuffix(", few unseen")
        name = f"{self.data}-{self.model}-{shared}-seed{self.seed}".replace(" ", "_")
        retrained = [settings["retrain_model"]]
        for number in range(1, len(RETRAINED)):
            folder = Path(self.options.output_dir) / "models" / f"{name}-{number}"
            retrained.append(replace(self, seed=self.seed + 100 * number).trained(folder, sets["retain"]))
        return settings["model"], retrained, sets


@contextmanager
def counted_visits(model: nn.Module) -> Iterator[list[int]]:
    """Samples that are learned from: those that pass through the model while it trains and gradients are wanted."""
    count = [0]

    def add(module: nn.Module, args: tuple, given: Mapping[str, Tensor], output: object) -> None:
        if module.training and torch.is_grad_enabled():
            count[0] += len(given["pixel_values"])

    handle = model.register_forward_hook(add, with_kwargs=True)
    try:
        yield count
    finally:
        handle.remove()


def main() -> None:
    """Run the cells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", default="floor_comparison", help="folder for models and results")
    parser.add_argument("--cifar10", default="uoft-cs/cifar10", help="the data set, by id or folder")
    parser.add_argument("--cells", default="0/1", help="part/parts: do each parts-th cell, from the part-th on")
    parser.add_argument("--only", default="", help="do the cells with this in their names")
    parser.add_argument("--methods", choices=["ours", "all"], default="ours", help="ours and tuned rivals, or all")
    parser.add_argument("--known", type=Path, help="JSON file of a page: its rows are not measured again")
    options = parser.parse_args()
    part, parts = map(int, options.cells.split("/"))
    cells = [FloorCell(*which, options) for which in product(DATA, MODELS, FORGET, SEEDS)]
    cells = sorted(cells, key=lambda cell: cell.seed)
    page = json.loads(options.known.read_text(encoding="utf-8")) if options.known else []
    known = {tuple(entry["cell"]): entry["rows"] for entry in page}
    for cell in [cell for cell in cells if options.only in cell.name][part::parts]:
        started = time.perf_counter()
        if cell.key in known and not cell.path.exists():
            cell.keep(known[cell.key])
        cell.run()
        sys.stdout.write(f"{cell.name}: {time.perf_counter() - started:.0f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
