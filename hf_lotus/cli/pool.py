"""`hf-lotus pool`: train reference models once, for audits; and unlearn from each of them by a method."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from transformers import AutoConfig, AutoModelForImageClassification, BaseImageProcessor, PreTrainedModel

from hf_lotus.audit.pool_design import KINDS
from hf_lotus.audit.pool_training import PoolSettings, train_pool
from hf_lotus.benchmark.contenders import read_entry
from hf_lotus.benchmark.data import class_names, load_benchmark_data
from hf_lotus.benchmark.models import image_processor, initial_model
from hf_lotus.benchmark.recipe import Recipe, load_recipe, recipe_names
from hf_lotus.cli import pool_unlearn
from hf_lotus.cli.parsing import parse
from hf_lotus.data.loading import LoadedData
from hf_lotus.data.splits import ForgetRetainSplit
from hf_lotus.models.loading import load_processor
from hf_lotus.models.tasks import IMAGE
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.utils.seeds import random_state_kept

# Names of forget sets become names of files and folders.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass
class PoolArguments:
    """Which reference models to train, and on what."""

    recipe: str = field(
        default="cifar10-pool",
        metadata={"help": "Data, model and training: a YAML file, or the name of one that comes with the package."},
    )
    models: int = field(default=32, metadata={"help": "How many models."})
    kind: str = field(
        default="halves",
        metadata={
            "choices": list(KINDS),
            "help": "halves: each row in a random half of the models, the rows of a forget set all together (serves "
            "every tier, for every set); retrained: all rows but the forget set; originals: all rows.",
        },
    )
    output_dir: str = field(default="pool", metadata={"help": "The pool's folder. One that is there is gone on with."})
    forget_sets: list[str] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "help": "Files of row numbers of train (.json, .csv, or text, one a line), each a forget set, named after "
            "its file. Default: none for halves, else what the recipe forgets, as `recipe`.",
        },
    )
    seed: int = field(default=0, metadata={"help": "Seed of the halves and of the models."})
    split_seed: int = field(
        default=0,
        metadata={"help": "Seed of which half of a test split is unseen, as --split_seed of the other commands."},
    )
    dataset_name: str | None = field(
        default=None, metadata={"help": "The recipe's data set in a local folder, or another of the same columns."}
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Train models like this one, in place of the recipe's: its configuration with random weights, and "
            "its image processor."
        },
    )
    max_train_rows: int | None = field(
        default=None, metadata={"help": "So many rows of train, by class in proportion. Default: the recipe's."}
    )
    max_test_rows: int | None = field(default=None, metadata={"help": "The same of every other split."})
    max_training_rounds: int | None = field(default=None, metadata={"help": "No more epochs than this."})
    ready_images_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder where decoded images are kept for every process of the pool, and for other commands."
        },
    )
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "Processes that load data, and decode what --ready_images_dir lacks."}
    )
    use_cpu: bool = field(default=False, metadata={"help": "Use no GPU."})
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bar of the model in training."})

    @property
    def takes_the_recipes_set(self) -> bool:
        """Whether the forget set is what the recipe forgets."""
        return self.forget_sets is None and self.kind != "halves"

    def reduced(self) -> Recipe:
        """The recipe on the data set and at the size that the flags ask for."""
        recipe = load_recipe(self.recipe)
        if recipe.training is None:
            raise ValueError(f"The recipe {recipe.name!r} trains no model (it has no `training`). Name another.")
        if self.dataset_name is not None:
            recipe = replace(recipe, dataset={**recipe.dataset, "dataset_name": self.dataset_name})
        given = {name: getattr(self, name) for name in ("max_train_rows", "max_test_rows", "max_training_rounds")}
        return replace(recipe, **{name: value for name, value in given.items() if value is not None})

    def training(self, recipe: Recipe) -> UnlearningArguments:
        """The training arguments of every model."""
        _, given = read_entry("training", {"method": "finetune", **(recipe.training or {})})
        if recipe.max_training_rounds is not None:
            given["num_train_epochs"] = min(given.get("num_train_epochs", 3.0), float(recipe.max_training_rounds))
        return UnlearningArguments(
            self.output_dir,
            use_cpu=self.use_cpu,
            dataloader_num_workers=self.dataloader_num_workers,
            disable_tqdm=self.disable_tqdm,
            **given,
        )


def run(argv: Sequence[str]) -> int:
    """Parse, train what is not trained yet, tell of each model; return the exit status."""
    if pool_unlearn.is_unlearning(argv):
        return pool_unlearn.run(argv)
    shipped = (
        f"Recipes: {', '.join(recipe_names())}. Started several times on one folder, the processes share the work; a "
        "model whose process was killed is taken up by another. "
        "With --unlearn METHOD a forget set is unlearned from the models: --unlearn METHOD --help."
    )
    (arguments,) = parse(list(argv), [PoolArguments], "pool", epilog=shipped)
    recipe = arguments.reduced()
    loaded = load_benchmark_data(
        recipe if arguments.takes_the_recipes_set else pool_unlearn.forgetting_nothing_of_its_own(recipe),
        arguments.split_seed,
    )
    processor = image_processor(recipe)
    build = _from_recipe(recipe, loaded)
    if arguments.model_name_or_path is not None:
        processor = cast(BaseImageProcessor, load_processor(arguments.model_name_or_path, task=IMAGE))
        build = _like(arguments.model_name_or_path, loaded)
    settings = PoolSettings(
        arguments.kind,
        arguments.models,
        arguments.seed,
        forget_sets(arguments, loaded),
        {"recipe": recipe.settings(), "model": arguments.model_name_or_path, "split_seed": arguments.split_seed},
    )
    pool = train_pool(
        arguments.output_dir,
        pool_unlearn.pool_data(
            recipe, loaded, processor, arguments.ready_images_dir, arguments.dataloader_num_workers
        ),
        build,
        arguments.training(recipe),
        settings,
        say=lambda text: print(text, flush=True),
    )
    print(f"{pool.num_models} models of {pool.planned} ({pool.kind}) and what they say are in {arguments.output_dir}.")
    return 0


def forget_sets(arguments: PoolArguments, loaded: LoadedData) -> dict[str, np.ndarray]:
    """Name → row numbers of train.

    Raises:
        ValueError: for two files of one name, or a name that no folder can have.
    """
    if arguments.takes_the_recipes_set:
        return {"recipe": loaded.split.forget_rows}
    if arguments.forget_sets is None:
        return {}
    names = [Path(file).stem for file in arguments.forget_sets]
    for name in names:
        if names.count(name) > 1 or not _NAME.fullmatch(name):
            raise ValueError(
                f"A forget set is named after its file, so that each needs another name, of letters, digits, '_', '.' "
                f"and '-'; got {', '.join(names)}."
            )
    train = loaded.split.dataset
    return {
        name: ForgetRetainSplit.from_file(train, file).forget_rows
        for name, file in zip(names, arguments.forget_sets, strict=True)
    }


def _from_recipe(recipe: Recipe, loaded: LoadedData) -> Callable[[int], PreTrainedModel]:
    names = class_names(loaded.split.dataset, recipe.dataset.get("label_column"))
    return lambda seed: initial_model(recipe, names, seed)


def _like(name: str, loaded: LoadedData) -> Callable[[int], PreTrainedModel]:
    config = AutoConfig.from_pretrained(name)

    def build(seed: int) -> PreTrainedModel:
        import torch

        with random_state_kept():
            torch.manual_seed(seed)
            return AutoModelForImageClassification.from_config(config)

    return build
