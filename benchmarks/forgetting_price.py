"""What forgetting for good costs: warm restarts of growing length, and what each leaves behind.

    python benchmarks/forgetting_price.py broad --cifar10 path/or/id --output docs/forgetting_price

On the small ResNet and ViT of `floor_comparison.py` (its folder is the first argument; 10 % of each class), and on a
real checkpoint where `--checkpoint` gives a folder with `original`, `retrain` and `forget_rows.json`. Each point is a
restart of some rounds at a share of the first rate, then three rounds of margin matching. Measured: the relearning
excess, a linear probe of the labels, forget, retain and test accuracy, and the cost in sample visits as a share of
retraining. Broken off, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
from cells import parser_beside
from datasets import load_dataset
from floor_comparison import BATCH, EPOCHS, FloorCell, counted_visits
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_lotus import (
    Finetune,
    ForgetRetainSplit,
    LoTUS,
    MarginMatching,
    UnlearningArguments,
    UnlearningTrainer,
    WarmRestart,
)
from hf_lotus.data.prepared import ready_splits
from hf_lotus.evaluation.features import penultimate_features
from hf_lotus.functional.linear_probe import label_probe
from hf_lotus.methods import UnlearningMethod
from hf_lotus.trainer.relearning import measured_relearning_excess
from hf_lotus.utils.files import write_whole
from hf_lotus.utils.text import markdown_table

# Rounds that the models were first trained for.
ROUNDS = {"small ResNet": EPOCHS, "small ViT": EPOCHS, "CIFAR-10 checkpoint": 12}
LENGTHS = {"small ResNet": (1, 2, 4, 8, 12), "small ViT": (1, 2, 4, 8, 12), "CIFAR-10 checkpoint": (1, 2, 4)}
RATES = {"small ResNet": (0.1, 0.03), "small ViT": (5e-3, 1.5e-3), "CIFAR-10 checkpoint": (0.1,)}
HEADS = {
    "cost": ("Cost", 3), "relearning_excess": ("Relearning", 3), "probe": ("Probe", 3),
    "forget_accuracy": ("Forget", 3), "own_unseen_accuracy": ("Unseen", 3), "retain_accuracy": ("Retain", 3),
    "test_accuracy": ("Test", 3), "avg_gap": ("Avg Gap", 4),
}  # fmt: skip


ABOUT = """# What forgetting for good costs

A warm restart trains on, on retained data alone and at the rate of the first training, and then takes three rounds of
margin matching. How long must it be? Two small models that were trained for 30 rounds on 5,000 images of CIFAR-10,
and the ResNet of [Metrics](metrics.md), which was trained for 12 on all of it. *Cost*: samples learned from, as a
share of retraining. *Relearning*: the [relearning excess](metrics.md#how-to-read-the-table), how much of what was
forgotten a round of training on retained data brings back, about 0 where it is gone. *Probe*: how well a linear
classifier tells the forgotten samples' classes from the features before the head; *Unseen*: the model's own accuracy
on unseen data of the same classes. One seed. *Avg Gap* is to the first retrained model, and charges a model for being
better than retraining too.

![Relearning excess and test accuracy by cost](forgetting_price.png)

- **Quick.** LoTUS and margin matching take ten rounds of a part of the data: 4 to 14 % of the small models'
  retraining, but a third of it where that takes only 12 rounds. Margin matching looks as retraining does and keeps
  the rest. On the model that knows its data by heart a quarter of what was forgotten is back after one round; on the
  other two little or nothing is. LoTUS's excess is small because there is nothing to come back: it still knows what
  it was to forget.
- **Thorough.** A restart at the full first rate brings the probe to retraining's from the first round on, and the
  excess to 0.03 and less; what it takes longer for is to learn the retained data again. At a third of the rate it
  keeps more of them sooner and forgets less. Of the small models, from about a third of retraining's cost on, forget
  and unseen accuracy agree, and test accuracy is not below retraining's. The large one forgets in one round (0.19 of
  the cost), has its test accuracy back after two (0.27), and lacks 0.02 of retain accuracy after four (0.44, the
  default).
- **Certain.** Retraining. Everything else is evidence.

`python benchmarks/forgetting_price.py broad --cifar10 … --checkpoint … --output docs/forgetting_price` makes the page.
"""


class Subject:
    """A model, its sets, and the models that were trained without the forget set."""

    def __init__(self, name: str, options: argparse.Namespace):
        self.name, self.options = name, options
        if name.startswith("small"):
            cell = FloorCell("cifar10", name.split()[1].lower(), "10 %", 0, options)
            self.original, self.retrained, sets = cell.models_and_sets()
            self.processor, self.batch = cell.processor, BATCH
        else:
            folder = Path(options.checkpoint)
            data = load_dataset(options.cifar10)
            whole = ForgetRetainSplit.from_file(data["train"], folder / "forget_rows.json")
            held_out = ForgetRetainSplit.from_fraction(data["test"], 0.5)
            sets = {"forget": whole.forget, "retain": whole.retain, "unseen": held_out.forget, "test": held_out.retain}
            self.original, *self.retrained = (
                AutoModelForImageClassification.from_pretrained(folder / kind) for kind in ("original", "retrain")
            )
            self.processor, self.batch = AutoImageProcessor.from_pretrained(folder / "original", backend="pil"), None
        self.sets, _ = ready_splits(sets, self.original.config, self.processor)
        self.evaluator = None

    def rows(self) -> dict[str, tuple[nn.Module, UnlearningMethod | None, Mapping[str, object]]]:
        """Row name → the model to begin from, the method or None to measure it as it is, and its arguments."""
        again = {f"retrain {number}": (model, None, {}) for number, model in enumerate(self.retrained, 1)}
        rows = {"original": (self.original, None, {}), **again}
        rows["lotus"] = self.original, LoTUS(), {}
        rows["margin_matching"] = self.original, MarginMatching(), {}
        flip = None if self.batch is None else False
        for rounds, rate in product(LENGTHS[self.name], RATES[self.name]):
            method = WarmRestart(restart_rounds=rounds, restart_flip=flip)
            rows[f"restart, {rounds} rounds at {rate}"] = self.original, method, {"learning_rate": rate}
        return rows

    def measured(self, name: str) -> dict[str, float]:
        """One row's figures."""
        model, method, more = self.rows()[name]
        batch = {} if self.batch is None else {"per_device_train_batch_size": self.batch}
        arguments = UnlearningArguments(
            str(Path(self.options.output_dir) / "price"), save_strategy="no", logging_strategy="no", seed=0,
            use_cpu=True, disable_tqdm=True, **batch, **more,
        )  # fmt: skip
        trainer = UnlearningTrainer(
            copy.deepcopy(model), arguments, method or Finetune(), forget_dataset=self.sets["forget"],
            retain_dataset=self.sets["retain"], unseen_dataset=self.sets["unseen"], eval_dataset=self.sets["test"],
            retrain_model=self.retrained[0], evaluator=self.evaluator, processing_class=self.processor,
        )  # fmt: skip
        self.evaluator, visits = trainer.evaluator, 0
        if method is not None:
            with counted_visits(trainer.run.student) as count:
                trainer.train()
            visits = count[0]
        predictions = trainer.student_predictions()
        row = trainer.evaluator.yardstick.measure(name, predictions, trainer.unlearning_seconds)
        student, labels = trainer.run.student, predictions["forget"].labels
        features = penultimate_features(student, self.sets["forget"], student.config.num_labels, progress=False)
        return {
            **row.metrics(),
            "own_unseen_accuracy": predictions["unseen"].accuracy_weighted(labels),
            "relearning_excess": measured_relearning_excess(trainer),
            "probe": label_probe(features, labels),
            "cost": visits / (ROUNDS[self.name] * len(self.sets["retain"])),
        }


def draw(found: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Cost against relearning excess and test accuracy, a column a model; a line a rate."""
    figure = Figure(figsize=(4.2 * len(found), 6), layout="constrained")
    panels = np.atleast_2d(figure.subplots(2, len(found), sharex="col", squeeze=False))
    for column, (title, rows) in enumerate(found.items()):
        for panel, metric, label in zip(
            panels[:, column], ("relearning_excess", "test_accuracy"), ("Relearning excess", "Test accuracy"),
            strict=True,
        ):  # fmt: skip
            for rate, color in zip(RATES[title], ("#D55E00", "#0072B2"), strict=False):
                points = [row for name, row in rows.items() if name.endswith(f" at {rate}")]
                place = [row["cost"] for row in points], [row[metric] for row in points]
                panel.plot(*place, color=color, marker="o", label=f"restart at {rate}")
            for name, marker in (("lotus", "s"), ("margin_matching", "D")):
                panel.plot(rows[name]["cost"], rows[name][metric], marker, color="#009E73", label=name)
            panel.axhline(rows["retrain 1"][metric], color="#000000", linewidth=1, linestyle="--", label="retrain")
            panel.set_ylabel(label)
            panel.grid(alpha=0.25)
        panels[0, column].set_title(title)
        panels[1, column].set_xlabel("Sample visits, as a share of retraining")
        panels[0, column].legend(fontsize=8)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure what is not measured yet, and write all of it."""
    parser = parser_beside(__doc__, "forgetting_price")
    parser.add_argument("--checkpoint", help="folder of a real model: original, retrain, forget_rows.json")
    options = parser.parse_args()
    kept = options.output.with_suffix(".json")
    found = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for title in [name for name in LENGTHS if name.startswith("small") or options.checkpoint]:
        subject, rows = Subject(title, options), found.setdefault(title, {})
        for name in [name for name in subject.rows() if name not in rows]:
            rows[name] = {key: round(value, 5) for key, value in subject.measured(name).items()}
            write_whole(kept, json.dumps(found, indent=1) + "\n")
            sys.stdout.write(f"{title} · {name}: {rows[name]}\n")
            sys.stdout.flush()
    tables = [ABOUT.rstrip()]
    for title, rows in found.items():
        cells = [[name, *(f"{row.get(m, 0):.{d}f}" for m, (_, d) in HEADS.items())] for name, row in rows.items()]
        tables += [f"## {title}", markdown_table(["Model", *(head for head, _ in HEADS.values())], cells)]
    options.output.with_suffix(".md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    draw(found, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
