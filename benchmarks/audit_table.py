"""Do the tiers of an audit agree? Seven ways to forget, three forget sets, and a pool of 32 reference models.

    python benchmarks/audit_table.py sets audit_table --cifar10 path/or/id
    hf-lotus pool --output_dir audit_table/pool --forget_sets audit_table/sets/*.json --dataset_name path/or/id
    python benchmarks/audit_table.py unlearn audit_table --cifar10 path/or/id
    python benchmarks/audit_table.py probe audit_table --cifar10 path/or/id
    python benchmarks/audit_report.py audit_table --output docs/audit_table

The pool (recipe cifar10-pool) deals the forget sets out so that each is wholly in half of the models (originals, to be
unlearned) and wholly absent from the others (retrained models). `unlearn` unlearns each set from each of its originals
by every method, and `probe` takes what needs the models once more (one round of relearning, features). Each stage may
be started several times at once and goes on where it stopped. `audit_report.py` judges all of it by the audit's own
tiers. What the methods look at (the pool's unseen part) and what the audit looks at (its test part) are different
samples.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hf_lotus import SCRUB, Contender, LoTUS, MarginMatching, SalUn, UnlearningArguments, WarmRestart
from hf_lotus.audit.pool import Pool
from hf_lotus.audit.pool_training import PoolData, share_work
from hf_lotus.audit.pool_unlearning import unlearn_pool
from hf_lotus.benchmark.data import load_benchmark_data
from hf_lotus.benchmark.recipe import load_recipe
from hf_lotus.cli.pool_unlearn import data_of
from hf_lotus.evaluation.features import penultimate_features
from hf_lotus.models.loading import load_model
from hf_lotus.trainer.relearning import Relearning

RECIPE, SIZE, SKEW, ONE_CLASS = "cifar10-pool", 200, 0.8, 3  # cats


def forget_sets(labels: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Three sets of 200 rows that share none: of every class alike; of two classes for the most part; of one class."""
    rng = np.random.default_rng(seed)
    free = rng.permutation(len(labels))

    def take(rows: np.ndarray, count: int) -> np.ndarray:
        nonlocal free
        taken = rows[:count]
        free = free[~np.isin(free, taken)]
        return taken

    classes = np.unique(labels)
    one = take(free[labels[free] == ONE_CLASS], SIZE)
    two = rng.choice(np.setdiff1d(classes, [ONE_CLASS]), 2, replace=False)
    within = take(free[np.isin(labels[free], two)], round(SKEW * SIZE))
    outside = take(free[~np.isin(labels[free], [*two, ONE_CLASS])], SIZE - len(within))
    each = [take(free[labels[free] == label], SIZE // len(classes)) for label in classes]
    return {
        "random": np.sort(np.concatenate(each)),
        "two-classes": np.sort(np.concatenate([within, outside])),
        "one-class": np.sort(one),
    }


def methods() -> dict[str, Contender]:
    """The settings that the retrain-free choice of the comparison took most often for this model, or defaults.

    Less is run than there, for 14 epochs retrain such a model: SCRUB and SalUn, which see all of D_r in every round,
    take 5 rounds in place of 10, and a restart takes 6 in place of its default's 15.
    """
    common = {"num_train_epochs": 5, "per_device_train_batch_size": 64}
    adam = {**common, "optim": "adamw_torch_fused"}
    sgd = {**common, "optim": "sgd", "optim_args": "momentum=0.9"}
    return {
        "lotus": Contender(LoTUS(alpha=8.0), {**adam, "learning_rate": 1e-3, "num_train_epochs": 10}),
        "scrub": Contender(SCRUB(alpha=0.001, rewind=True), {**adam, "learning_rate": 5e-4}),
        "salun": Contender(SalUn(saliency=0.5), {**sgd, "learning_rate": 1e-2}),
        "margin_matching": Contender(MarginMatching(), {}),
        "warm_restart": Contender(WarmRestart(restart_rounds=6), {}),
    }


def arguments(**own: Any) -> UnlearningArguments:
    """Of one run, on a CPU."""
    return UnlearningArguments("audit_table", use_cpu=True, disable_tqdm=True, report_to=[], **own)


def say(text: str) -> None:
    """A line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_sets(options: argparse.Namespace) -> None:
    """The forget sets as files of row numbers."""
    recipe = load_recipe(RECIPE)
    recipe = replace(recipe, dataset={**recipe.dataset, "dataset_name": options.cifar10})
    train = load_benchmark_data(recipe, 0).split.dataset
    folder = Path(options.folder) / "sets"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in forget_sets(np.asarray(train[recipe.dataset["label_column"]])).items():
        (folder / f"{name}.json").write_text(json.dumps(rows.tolist()) + "\n", encoding="utf-8")


def unlearn(options: argparse.Namespace) -> None:
    """Every forget set by every method, from as many of its originals as are asked for."""
    pool = Pool.open(Path(options.folder) / "pool")
    data = data_of(pool, options.cifar10)
    todo = [(name, each) for name in pool.forget_sets for each in methods().items()]
    for name, (label, contender) in turned(todo, options.part):
        told: Callable[[str], None] = lambda text, of=f"{name} {label}": say(f"{of} {text}")  # noqa: E731
        own = arguments(**contender.arguments)
        unlearn_pool(pool, data, contender.method, name, own, label=label, limit=options.models, say=told)


@dataclass(frozen=True)
class Cast:
    """Who is who for one forget set, by numbers of the pool's models.

    Attributes:
        originals: had the set, and are unlearned by every method.
        retrained: never had it, and are judged as the row "retrain".
        again: others like them, the row "retrain again".
        references: the others that never had it: what all rows are held against.
    """

    originals: list[int]
    retrained: list[int]
    again: list[int]
    references: list[int]

    @classmethod
    def of(cls, pool: Pool, forget_set: str, models: int) -> Cast:
        """The first so many of each kind."""
        contents = pool.digests["train"][pool.forget_sets[forget_set]]
        had, never = pool.with_all(contents).tolist(), pool.with_none(contents).tolist()
        return cls(had[:models], never[:models], never[models : 2 * models], never[2 * models :])

    def of_row(self, label: str) -> list[int]:
        """The models of a row, or those that they were unlearned from."""
        return {"retrain": self.retrained, "retrain again": self.again}.get(label, self.originals)


def probe(options: argparse.Namespace) -> None:
    """What needs the models once more: a round of relearning, and their features."""
    folder = Path(options.folder)
    pool = Pool.open(folder / "pool")
    data = data_of(pool, options.cifar10)
    rows = {label: None for label in ("original", "retrain", "retrain again")} | methods()
    for label, name in turned([(label, name) for label in rows for name in pool.forget_sets], options.part):
        who = Cast.of(pool, name, options.models)
        numbers = who.of_row(label)
        if label in methods():
            made = pool.path / "unlearned" / label / name
            numbers = [number for number in numbers if (made / f"{number:03d}.json").is_file()]
        told: Callable[[str], None] = lambda text, of=f"{name} {label}": say(f"{of} {text}")  # noqa: E731
        share_work(folder / "probed" / label / name, numbers, _prober(pool, data, label, name), told)


def _prober(
    pool: Pool, data: PoolData, label: str, name: str
) -> Callable[[int], tuple[dict[str, np.ndarray], dict[str, Any]]]:
    forget = np.isin(np.arange(len(pool.labels["train"])), pool.forget_sets[name])

    def work(number: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        started = time.perf_counter()
        unlearned = pool.path / "unlearned" / label / name / f"{number:03d}"
        model = load_model(str(unlearned)) if label in methods() else pool.model(number)
        train = data.ready("train")
        splits = {
            "forget": train.select(np.flatnonzero(forget)),
            "retain": train.select(np.flatnonzero(pool.members[number] & ~forget)),
            "unseen": data.ready("test"),
        }
        outcome = Relearning(arguments(seed=0), splits).outcome(model)
        arrays = {
            f"{side}_{when}": getattr(outcome, side)[place]
            for side in ("forget", "unseen")
            for place, when in enumerate(("before", "after"))
        }
        for side in ("forget", "unseen"):
            arrays[f"{side}_features"] = penultimate_features(model, splits[side], pool.num_classes, progress=False)
        return arrays, {"number": number, "seconds": time.perf_counter() - started}

    return work


def turned(todo: list, part: str) -> list:
    """The same in another order for each process, so that they meet late."""
    number, parts = map(int, part.split("/"))
    start = len(todo) * number // parts
    return todo[start:] + todo[:start]


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["sets", "unlearn", "probe"])
    parser.add_argument("folder", help="where all is kept")
    parser.add_argument("--cifar10", default="uoft-cs/cifar10", help="the data set, by id or folder")
    parser.add_argument("--models", type=int, default=4, help="so many of each row and forget set")
    parser.add_argument("--part", default="0/1", help="number/processes: where a process begins")
    options = parser.parse_args()
    {"sets": write_sets, "unlearn": unlearn, "probe": probe}[options.stage](options)


if __name__ == "__main__":
    main()
