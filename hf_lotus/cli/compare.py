"""`hf-lotus compare`: many methods on one model and forget set → one table, beside original and retrain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hf_lotus.benchmark.comparison import Contender
from hf_lotus.benchmark.contenders import ALL, choose
from hf_lotus.benchmark.seeds import Measuring, compare_methods
from hf_lotus.cli.parsing import parse
from hf_lotus.data.loading import DataArguments
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.models.loading import ModelArguments
from hf_lotus.publishing.recording import RecordArguments
from hf_lotus.reporting.differences import whole_table
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.output_folder import OverwriteArguments, claimed_for, holds_model
from hf_lotus.utils.files import write_whole


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
            "help": "One run a seed: that of the unlearning and of its forget split and, unless these have their own, "
            "of training and evaluation; mean ± deviation.",
        },
    )
    training_seed: list[int] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "aliases": ["--training_seeds"],
            "help": "Seed of the retrained models, in place of --seed. Several: every one with every one of --seeds, "
            "each at the cost of its retraining; what each kind of seed adds to the spread is then told.",
        },
    )
    evaluation_seeds: list[int] | None = field(
        default=None,
        metadata={
            "nargs": "+",
            "help": "Several seeds of what measuring draws, in place of --evaluation_seed: each row is measured with "
            "each. A seed costs a round of relearning a row.",
        },
    )
    retrain_again: int = field(
        default=1,
        metadata={
            "help": "How many further models the row retrain trains, with other seeds: gaps are then from the mean, "
            "and what two trainings lie apart is the floor of every gap. Each costs as much as the first; 0 for none."
        },
    )
    measure_relearning: bool = field(
        default=True,
        metadata={
            "help": "Measure whether what was forgotten comes back in one round on the retain set (the relearning "
            "excess). Costs such a round for each row."
        },
    )
    keep_best: bool = field(
        default=True,
        metadata={
            "help": "Keep the model of the best row in the folder `best`, with record and card, ready to be pushed: "
            "the row with the least mean of the retrain-free gap's four differences and |relearning excess|. No "
            "retrained model takes part."
        },
    )

    def measuring(self) -> Measuring:
        """What of it the comparison is run by."""
        return Measuring(
            self.seeds,
            self.training_seed or (),
            self.evaluation_seeds or (),
            self.retrain_again,
            self.measure_relearning,
            self.keep_best,
        )


def run(argv: list[str]) -> int:
    """Parse, unlearn by every method, measure, print the tables; return the exit status."""
    kinds = [ModelArguments, DataArguments, RecordArguments, OverwriteArguments, UnlearningArguments, CompareArguments]
    model, data, recorded, output, arguments, compared, recipe = parse(argv, kinds, "compare", section="methods")
    contenders = choose(compared.methods, recipe, bool(model.retrained))
    goes_on, overwrite = not holds_model(arguments.output_dir), output.overwrite_output_dir
    with claimed_for(arguments, model, data, recorded.salt_file, goes_on=goes_on, overwrite=overwrite):
        return _compare(model, data, recorded, arguments, compared, contenders)


def _compare(
    model: ModelArguments,
    data: DataArguments,
    recorded: RecordArguments,
    arguments: UnlearningArguments,
    compared: CompareArguments,
    contenders: Mapping[str, Contender],
) -> int:
    results = compare_methods(
        model,
        data,
        arguments,
        contenders,
        say=lambda text: print(text, flush=True),
        measuring=compared.measuring(),
        recorded=recorded,
    )
    if arguments.process_index == 0:
        table, folder = whole_table(results), Path(arguments.output_dir)
        write_whole(folder / "comparison.md", table + "\n")
        print(f"\n{table}\n\nThe table is in {folder / 'comparison.md'}, the figures in results.json beside it.")
        for result in results:
            print(_taken_home(result, compared.keep_best))
    return 0


def _taken_home(result: UnlearningResult, asked: bool) -> str:
    """Where the best row's model is, in a line; "" where none was asked for."""
    best = result.provenance.get("best")
    if best is not None:
        return f"The best row is {best['row']} ({best['rule']}). Its model, ready for hf-lotus push: {best['folder']}"
    return (
        "No row that changed a weight can be chosen without a retrained model, so no model is kept." if asked else ""
    )
