"""`hf-lotus compare`: many methods on one model and forget set → one table, beside original and retrain."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hf_lotus.benchmark.contenders import ALL, choose
from hf_lotus.benchmark.seeds import compare_methods
from hf_lotus.cli.parsing import parse
from hf_lotus.data.loading import DataArguments
from hf_lotus.models.loading import ModelArguments
from hf_lotus.reporting.tables import summarize
from hf_lotus.trainer.arguments import UnlearningArguments
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
            "help": "One run a seed, which is also that of its forget split; mean ± deviation.",
        },
    )


def run(argv: list[str]) -> int:
    """Parse, unlearn by every method, measure, print the table; return the exit status."""
    kinds = [ModelArguments, DataArguments, UnlearningArguments, CompareArguments]
    model, data, arguments, compared, recipe = parse(argv, kinds, "compare", section="methods")
    contenders = choose(compared.methods, recipe, model.retrain_model is not None)
    results = compare_methods(
        model, data, arguments, contenders, compared.seeds, say=lambda text: print(text, flush=True)
    )
    if arguments.process_index == 0:
        table, folder = summarize(results), Path(arguments.output_dir)
        write_whole(folder / "comparison.md", table + "\n")
        print(f"\n{table}\n\nThe table is in {folder / 'comparison.md'}, the figures in results.json beside it.")
    return 0
