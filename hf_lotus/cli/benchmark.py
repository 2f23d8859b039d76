"""`hf-lotus benchmark`: a recipe → models trained, unlearned by every method and measured, seed by seed; a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hf_lotus.benchmark.contenders import ALL, choose
from hf_lotus.benchmark.recipe import Recipe, load_recipe, recipe_names
from hf_lotus.benchmark.runner import Benchmark
from hf_lotus.cli.parsing import parse
from hf_lotus.methods import Retrain
from hf_lotus.reporting.paper import require_setting
from hf_lotus.reporting.report import write_report
from hf_lotus.trainer.arguments import UnlearningArguments

_REDUCTIONS = ("max_train_rows", "max_test_rows", "max_rounds", "max_training_rounds")


@dataclass
class BenchmarkArguments:
    """What of the recipe to run, on what, and how. All else is the recipe's."""

    methods: list[str] = field(
        default_factory=lambda: [ALL], metadata={"nargs": "+", "help": f"Rows of the recipe, or {ALL}."}
    )
    seeds: list[int] | None = field(default=None, metadata={"nargs": "+", "help": "Default: the recipe's."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "The recipe's data set in a local folder, or another of the same columns."}
    )
    output_dir: str = field(
        default="benchmark", metadata={"help": "Folder of the results, a folder each, and of the trained models."}
    )
    original_model: str | None = field(
        default=None, metadata={"help": "A trained model to unlearn, in place of one trained here for every seed."}
    )
    retrain_model: str | None = field(default=None, metadata={"help": "A model trained without the forget set."})
    retrain_models: list[str] | None = field(
        default=None,
        metadata={"nargs": "+", "help": "Several such models, of different seeds: gaps are then from their mean."},
    )
    retrain_again: int | None = field(
        default=None,
        metadata={
            "help": "How many further models are retrained, with other seeds: what two trainings lie apart is the "
            "floor of every gap. Each costs as much as the first. Default: 1; 0 with --paper_protocol, "
            "whose gaps are from one."
        },
    )
    training_seed: list[int] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "aliases": ["--training_seeds"],
            "help": "Seed of the original and the retrained models, in place of each run's own. Several: every one "
            "with every one of --seeds; what each kind of seed adds to the spread is then told.",
        },
    )
    evaluation_seed: list[int] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "aliases": ["--evaluation_seeds"],
            "help": "Seed of what measuring draws (the null's resamples, the attack's folds, the relearning's order), "
            "in place of each run's own. Several: each row is measured with each.",
        },
    )
    measure_relearning: bool = field(
        default=True,
        metadata={
            "help": "Measure whether what was forgotten comes back in one round on the retain set (the relearning "
            "excess). Costs such a round for each row."
        },
    )
    paper_protocol: bool = field(
        default=False,
        metadata={
            "help": "Repeat the paper's single forget split (the first rows of each class, for every seed) and print "
            "the paper's figures beside ours, in the convention of its code. By default each seed has its own split."
        },
    )
    ready_images_dir: str | None = field(
        default=None, metadata={"help": "Folder where decoded images are kept for other runs and commands."}
    )
    max_train_rows: int | None = field(
        default=None, metadata={"help": "Reduced size: so many rows of train, by class in proportion."}
    )
    max_test_rows: int | None = field(default=None, metadata={"help": "Reduced size: the same of every other split."})
    max_rounds: int | None = field(default=None, metadata={"help": "Reduced size: no method takes more rounds."})
    max_training_rounds: int | None = field(
        default=None, metadata={"help": "Reduced size: nor does the training of the original and retrained model."}
    )
    tiny_model: bool = field(
        default=False, metadata={"help": "Reduced size: a small random model of the family in the recipe's place."}
    )
    use_cpu: bool = field(default=False, metadata={"help": "Use no GPU."})
    bf16: bool = field(default=False, metadata={"help": "Train in bfloat16 mixed precision."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Evaluation batch size."})
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "Processes that load data, and decode what --ready_images_dir lacks."}
    )
    disable_tqdm: bool = field(default=False, metadata={"help": "Show no progress bars."})

    def further(self) -> int:
        """How many models are retrained beside the first."""
        if self.retrain_again is None:
            return 0 if self.paper_protocol else 1
        if self.retrain_again < 0:
            raise ValueError(f"retrain_again must be 0 or more further models, got {self.retrain_again}.")
        return self.retrain_again

    def reduced(self, recipe: Recipe) -> Recipe:
        """The recipe on the data set and at the size that the flags ask for."""
        given = {name: getattr(self, name) for name in ("dataset_name", "ready_images_dir")}
        own = {name: value for name, value in given.items() if value is not None}
        recipe = replace(recipe, dataset={**recipe.dataset, **own})
        limits = {name: getattr(self, name) for name in _REDUCTIONS if getattr(self, name) is not None}
        recipe = replace(recipe, **limits)
        return recipe.tiny() if self.tiny_model else recipe

    def training_arguments(self) -> UnlearningArguments:
        """The training arguments that are no recipe's."""
        return UnlearningArguments(
            self.output_dir,
            use_cpu=self.use_cpu,
            bf16=self.bf16,
            per_device_eval_batch_size=self.per_device_eval_batch_size,
            dataloader_num_workers=self.dataloader_num_workers,
            disable_tqdm=self.disable_tqdm,
        )


def _reductions(arguments: BenchmarkArguments) -> list[str]:
    """In what a run is smaller than its recipe, in words."""
    given = {name: getattr(arguments, name) for name in _REDUCTIONS}
    told = [f"{name} {value}" for name, value in given.items() if value is not None]
    return [*told, *(["tiny_model"] if arguments.tiny_model else [])]


def run(argv: Sequence[str]) -> int:
    """Parse, run the recipe, print the table, write the report; return the exit status."""
    argv = list(argv)
    name = argv.pop(0) if argv and not argv[0].startswith("-") else None
    shipped = f"RECIPE is a YAML file or one of: {', '.join(recipe_names())}."
    (arguments,) = parse(argv, [BenchmarkArguments], "benchmark RECIPE", epilog=shipped)
    if name is None:
        raise ValueError(f"Name a recipe: hf-lotus benchmark RECIPE. {shipped}")
    recipe = arguments.reduced(load_recipe(name))
    if arguments.paper_protocol:
        require_setting(name)  # before hours of training, and of the recipe as it is shipped
    contenders = choose(arguments.methods, recipe.methods, has_retrain=True)
    if retrains := [row for row, contender in contenders.items() if isinstance(contender.method, Retrain)]:
        raise ValueError(f"{retrains[0]!r} is no row of a benchmark, which trains the retrained model itself.")
    benchmark = Benchmark(
        recipe,
        arguments.output_dir,
        arguments.training_arguments(),
        arguments.paper_protocol,
        arguments.original_model,
        arguments.retrain_model,
        arguments.retrain_models or (),
        arguments.further(),
        arguments.training_seed or (),
        arguments.evaluation_seed or (),
        arguments.measure_relearning,
        say=lambda text: print(text, flush=True),
    )
    results = benchmark.run(arguments.seeds or recipe.seeds, contenders)
    table = write_report(
        benchmark.folder,
        results,
        title=recipe.title,
        paper=recipe.name if arguments.paper_protocol else None,
        reduced=_reductions(arguments),
    )
    print(f"\n{table}\n\nreport.html, report.md and results.json are in {benchmark.folder}.")
    return 0
