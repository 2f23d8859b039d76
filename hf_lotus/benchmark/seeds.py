"""Compare methods on a checkpoint and a data set that are named, once or once a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hf_lotus.benchmark.comparison import Comparison, Contender
from hf_lotus.benchmark.contenders import progress_line
from hf_lotus.data.loading import DataArguments, load_splits
from hf_lotus.evaluation.original import logits_on
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.models.loading import ModelArguments, load_model, load_processor
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.same_choice import require_same_choice


def compare_methods(
    model: ModelArguments,
    data: DataArguments,
    arguments: UnlearningArguments,
    contenders: Mapping[str, Contender],
    seeds: Sequence[int] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[UnlearningResult]:
    """Unlearn by every method and measure, for each seed; on many ranks, all call it.

    Each result is in `results.json` of the output folder, or of `seed-N` in it, as soon as it is there.

    Args:
        model: the model to unlearn, and where there is one the retrained model.
        data: the data set, and what of it to forget.
        arguments: training arguments for all methods.
        contenders: row → method.
        seeds: one run each; also of the random splits, so that each has its own forget set. None for a single run by
            the seeds that `arguments` and `data` have.
        say: told each row as soon as it is measured, by the first rank.

    Returns:
        the results in the seeds' order.

    Raises:
        ValueError: if the data set or the methods cannot be had as they are asked for.
    """
    if seeds is None:
        return [_compare(model, data, arguments, contenders, say)]
    assert arguments.output_dir is not None  # transformers settles it
    folder = Path(arguments.output_dir)
    return [
        _compare(
            model,
            replace(data, split_seed=seed),
            arguments.changed(seed=seed, output_dir=str(folder / f"seed-{seed}")),
            contenders,
            say,
        )
        for seed in seeds
    ]


def _compare(
    source: ModelArguments,
    where: DataArguments,
    arguments: UnlearningArguments,
    contenders: Mapping[str, Contender],
    say: Callable[[str], None],
) -> UnlearningResult:
    """One run, written down by the first rank."""
    name = source.model_name_or_path, source.model_revision
    model, retrain = load_model(*name), source.retrain_model
    processor = load_processor(*name)
    known = logits_on(model, processor, arguments.device, where.image_column)
    with arguments.main_process_first(desc="loading the data set"):
        data = load_splits(where, model.config.num_labels, logits_of=known)
    require_same_choice(data.split, arguments)
    first = arguments.process_index == 0
    comparison = Comparison(
        model,
        arguments,
        forget_dataset=data.split.forget,
        retain_dataset=data.split.retain,
        unseen_dataset=data.unseen,
        eval_dataset=data.test,
        retrain_model=load_model(retrain) if retrain else None,
        processing_class=processor,
        on_measured=lambda row: say(progress_line(arguments.seed, row)) if first else None,
        image_column=where.image_column,
        label_column=where.label_column,
    )
    about = {"model": source.model_name_or_path, "dataset": where.dataset_name, **data.provenance()}
    result = comparison.run(contenders, **about)
    if first:
        assert arguments.output_dir is not None
        result.to_json(Path(arguments.output_dir) / "results.json")
    return result
