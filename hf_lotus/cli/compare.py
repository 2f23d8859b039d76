"""`hf-lotus compare`: many methods on one model and forget set → one table, beside original and retrain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hf_lotus.benchmark.comparison import Comparison, Contender
from hf_lotus.benchmark.contenders import read_entry
from hf_lotus.cli.parsing import parse
from hf_lotus.data.loading import DataArguments, load_splits
from hf_lotus.evaluation.results import RETRAIN, ModelResult, UnlearningResult
from hf_lotus.methods import METHODS
from hf_lotus.models.loading import ModelArguments, load_model, load_processor
from hf_lotus.reporting.tables import summarize
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.utils.files import write_whole
from hf_lotus.utils.text import nearest

ALL = "all"


@dataclass
class CompareArguments:
    """Which methods to compare."""

    methods: list[str] = field(
        default_factory=lambda: [ALL],
        metadata={
            "nargs": "+",
            "help": f"Methods by name, or {ALL}. In the --config file, `methods:` may map a row's name to the "
            "method's fields and training arguments; --methods then chooses among these rows.",
        },
    )
    seeds: list[int] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "help": "One run a seed, which is also that of its forget split; mean ± deviation.",
        },
    )


def choose(wanted: list[str], recipe: Mapping[str, object], has_retrain: bool) -> dict[str, Contender]:
    """The rows of the comparison.

    Args:
        wanted: row names, or "all".
        recipe: row name → options, from the file.
        has_retrain: whether a retrained model is given, so that none is to be trained.

    Raises:
        ValueError: for a name that is neither a row of the recipe nor a method.
    """
    known = {**{name: None for name in METHODS}, **recipe}
    names = wanted
    if ALL in wanted:
        names = list(recipe or METHODS)
        if has_retrain:
            names = [name for name in names if (recipe.get(name) or {}).get("method", name) != RETRAIN]
    for name in names:
        if name not in known:
            raise ValueError(f"There is no method {name!r}. {nearest(name, [ALL, *known])}")
    return {name: Contender(*read_entry(name, known[name])) for name in names}


def run(argv: list[str]) -> int:
    """Parse, unlearn by every method, measure, print the table; return the exit status."""
    model_arguments, data_arguments, arguments, compared, recipe = parse(
        argv, [ModelArguments, DataArguments, UnlearningArguments, CompareArguments], "compare", section="methods"
    )
    contenders = choose(compared.methods, recipe, model_arguments.retrain_model is not None)
    folder = Path(arguments.output_dir)
    results = []
    for seed in compared.seeds or [None]:
        settings = {} if seed is None else {"seed": seed, "output_dir": str(folder / f"seed-{seed}")}
        if seed is not None:
            data_arguments.split_seed = seed
        result = _run_one(model_arguments, data_arguments, arguments.changed(**settings), contenders)
        if arguments.process_index == 0:
            results.append(result)
            result.to_json(Path(settings.get("output_dir", folder)) / "results.json")
    if arguments.process_index == 0:
        table = summarize(results)
        write_whole(folder / "comparison.md", table + "\n")
        print(f"\n{table}\n\nThe table is in {folder / 'comparison.md'}, the figures in results.json beside it.")
    return 0


def _run_one(
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    arguments: UnlearningArguments,
    contenders: Mapping[str, Contender],
) -> UnlearningResult:
    source = model_arguments.model_name_or_path, model_arguments.model_revision
    model, retrain = load_model(*source), model_arguments.retrain_model
    with arguments.main_process_first(desc="loading the data set"):
        data = load_splits(data_arguments, model.config.num_labels)

    def show(row: ModelResult) -> None:
        if arguments.process_index == 0:
            figures = {"forget": row.forget_accuracy, "retain": row.retain_accuracy, "Avg Gap": row.avg_gap}
            shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if value is not None)
            print(f"seed {arguments.seed} · {row.name}: {shown}, {row.seconds:.1f} s", flush=True)

    comparison = Comparison(
        model,
        arguments,
        forget_dataset=data.split.forget,
        retain_dataset=data.split.retain,
        unseen_dataset=data.unseen,
        eval_dataset=data.test,
        retrain_model=retrain and load_model(retrain),
        processing_class=load_processor(*source),
        on_measured=show,
        image_column=data_arguments.image_column,
        label_column=data_arguments.label_column,
    )
    about = {"model": model_arguments.model_name_or_path, "dataset": data_arguments.dataset_name}
    return comparison.run(contenders, **about, **data.provenance())
