"""Do the tiers of an audit agree? Seven ways to forget, three forget sets, and a pool of 32 reference models.

    python benchmarks/audit_table.py sets audit_table --cifar10 path/or/id
    hf-lotus pool --output_dir audit_table/pool --forget_sets audit_table/sets/*.json --dataset_name path/or/id
    python benchmarks/audit_table.py unlearn audit_table --cifar10 path/or/id
    python benchmarks/audit_table.py probe audit_table --cifar10 path/or/id
    python benchmarks/audit_table.py table audit_table --output docs/audit_table

The pool (recipe cifar10-pool) deals the forget sets out so that each is wholly in half of the models (originals, to be
unlearned) and wholly absent from the others (retrained models). `unlearn` unlearns each set from each of its originals
by every method, `probe` takes what needs the models once more (one round of relearning, features), and `table` judges
all of it by the audit's own tiers. Each stage may be started several times at once and goes on where it stopped. What
the methods may look at (the pool's unseen part) and what the audit looks at (its test part) are different samples.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
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
    """The settings that the retrain-free choice of the broad comparison took most often for this model, or defaults.

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
    from dataclasses import replace

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


def turned(todo: list, part: str) -> list:
    """The same in another order for each process, so that they meet late."""
    number, parts = map(int, part.split("/"))
    start = len(todo) * number // parts
    return todo[start:] + todo[:start]


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["sets", "unlearn"])
    parser.add_argument("folder")
    parser.add_argument("--cifar10", default="uoft-cs/cifar10", help="the data set, by id or folder")
    parser.add_argument("--models", type=int, default=None, help="so many originals a forget set; all by default")
    parser.add_argument("--part", default="0/1", help="number/processes: where a process begins")
    options = parser.parse_args()
    {"sets": write_sets, "unlearn": unlearn}[options.stage](options)


if __name__ == "__main__":
    main()
