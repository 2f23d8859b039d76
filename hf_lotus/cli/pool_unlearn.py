"""`hf-lotus pool --unlearn METHOD`: unlearn a forget set from every model of a pool that had it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from transformers import BaseImageProcessor

from hf_lotus.audit.pool import Pool
from hf_lotus.audit.pool_training import PoolData
from hf_lotus.audit.pool_unlearning import unlearn_pool
from hf_lotus.benchmark.data import load_benchmark_data, require_split
from hf_lotus.benchmark.recipe import Recipe
from hf_lotus.cli.parsing import parse
from hf_lotus.data.loading import LoadedData
from hf_lotus.models.loading import load_processor
from hf_lotus.models.tasks import IMAGE
from hf_lotus.trainer.arguments import UnlearningArguments

UNLEARN = "--unlearn"


@dataclass
class PoolUnlearnArguments:
    """What is unlearned; `output_dir` is the pool."""

    forget_set: str = field(metadata={"help": "Name of one of the pool's forget sets."})
    label: str | None = field(
        default=None, metadata={"help": "What the method is called in the pool. Default: its name."}
    )
    limit: int | None = field(default=None, metadata={"help": "So many models, the first. Default: all that had it."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "The pool's data set in another place than it was made from."}
    )
    ready_images_dir: str | None = field(
        default=None, metadata={"help": "Folder where decoded images are kept for other runs and commands."}
    )


def is_unlearning(argv: Sequence[str]) -> bool:
    """Whether a command line of `hf-lotus pool` asks to unlearn."""
    return any(flag == UNLEARN or flag.startswith(f"{UNLEARN}=") for flag in argv)


def run(argv: Sequence[str]) -> int:
    """Parse, unlearn from each model, tell of each; return the exit status.

    Args:
        argv: `--unlearn METHOD`, the flags of `PoolUnlearnArguments`, of the method and of training.
    """
    kinds: list[type] = [PoolUnlearnArguments, UnlearningArguments]
    # The parser knows the method's own flags by its name.
    named = [f"--method{flag[len(UNLEARN) :]}" if is_unlearning([flag]) else flag for flag in argv]
    arguments, training, method = parse(named, kinds, "pool --unlearn", method="lotus")
    pool = Pool.open(training.output_dir)
    made = unlearn_pool(
        pool,
        data_of(pool, arguments.dataset_name, arguments.ready_images_dir, training.dataloader_num_workers),
        method,
        arguments.forget_set,
        training,
        label=arguments.label,
        limit=arguments.limit,
        say=lambda text: print(text, flush=True),
    )
    print(f"{len(made.records)} models without {made.forget_set!r} by {made.label} are in {made.folder}.")
    return 0


def data_of(
    pool: Pool, dataset_name: str | None = None, ready_images_dir: str | None = None, decoding_workers: int = 0
) -> PoolData:
    """The samples of a pool that `hf-lotus pool` made, loaded again.

    Args:
        pool: the pool.
        dataset_name: the data set in another place than the pool was made from.
        ready_images_dir: as in `PoolData`.
        decoding_workers: likewise.

    Raises:
        ValueError: if the pool was made in Python, and does not say from what.
    """
    if not isinstance(pool.plan.get("recipe"), dict):
        raise ValueError(f"{pool.path} does not say what it was made from: unlearn by hf_lotus.audit.unlearn_pool.")
    recipe = Recipe(**{"title": "", "methods": {"lotus": None}, "seeds": [0], **pool.plan["recipe"]})
    if dataset_name is not None:
        recipe = replace(recipe, dataset={**recipe.dataset, "dataset_name": dataset_name})
    loaded = load_benchmark_data(forgetting_nothing_of_its_own(recipe), pool.plan["split_seed"])
    processor = cast(BaseImageProcessor, load_processor(pool.path / "models" / pool.records[0]["folder"], task=IMAGE))
    return pool_data(recipe, loaded, processor, ready_images_dir, decoding_workers)


def pool_data(
    recipe: Recipe,
    loaded: LoadedData,
    processor: BaseImageProcessor,
    ready_images_dir: str | None = None,
    decoding_workers: int = 0,
) -> PoolData:
    """The parts of a recipe's data set as a pool takes them; all else as in `PoolData`."""
    sets = loaded.split.dataset, require_split(loaded, "unseen"), require_split(loaded, "test")
    columns = recipe.dataset.get("image_column"), recipe.dataset.get("label_column")
    return PoolData(*sets, processor, *columns, ready_images_dir, decoding_workers)


def forgetting_nothing_of_its_own(recipe: Recipe) -> Recipe:
    """The recipe with any row as its forget set: where others are given, what it forgets may be no row of few."""
    return replace(recipe, forget={"first": 1})
