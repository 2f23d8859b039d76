"""Compare methods on a checkpoint and a data set that are named, once or once a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hf_lotus.benchmark.comparison import Comparison, Contender
from hf_lotus.benchmark.contenders import progress_line
from hf_lotus.data.loading import DataArguments, load_splits
from hf_lotus.evaluation.original import logits_on
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.models.loading import ModelArguments, load_model, load_processor, load_student
from hf_lotus.publishing.record import salt_path
from hf_lotus.publishing.recording import RecordArguments, record_split
from hf_lotus.publishing.sources import model_source
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.same_choice import require_same_choice


@dataclass(frozen=True)
class Measuring:
    """How often a comparison repeats what is drawn at random, and what it measures and keeps besides.

    Attributes:
        seeds: seeds of the unlearning and of the random splits, so that each has its own forget set; None for a single
            run by the seeds that the arguments have.
        training_seeds: seeds of the retrained models; every one is run with every seed. () for each run's own seed.
        evaluation_seeds: seeds of what measuring draws; () for each run's own seed.
        retrain_again: how many further models are retrained, where there is a `retrain` row.
        relearning: whether the relearning excess is measured.
        keep_best: whether the best row's model is kept, in "best" of a run's folder.
    """

    seeds: Sequence[int] | None = None
    training_seeds: Sequence[int] = ()
    evaluation_seeds: Sequence[int] = ()
    retrain_again: int = 0
    relearning: bool = False
    keep_best: bool = False

    def runs(self) -> list[tuple[int | None, int | None]]:
        """(training seed, seed) of every run, None for those that the arguments have."""
        trainings: Sequence[int | None] = self.training_seeds or [None]
        seeds: Sequence[int | None] = self.seeds or [None]
        return [(training, seed) for training in trainings for seed in seeds]

    def folder(self, training: int | None, seed: int | None) -> str:
        """The name of a run's folder; "" for that of the comparison itself."""
        parts = [f"training-{training}"] if len(self.training_seeds) > 1 else []
        return "-".join([*parts, *([f"seed-{seed}"] if seed is not None else [])])


def compare_methods(
    model: ModelArguments,
    data: DataArguments,
    arguments: UnlearningArguments,
    contenders: Mapping[str, Contender],
    seeds: Sequence[int] | None = None,
    say: Callable[[str], None] = lambda text: None,
    *,
    measuring: Measuring | None = None,
    recorded: RecordArguments | None = None,
) -> list[UnlearningResult]:
    """Unlearn by every method and measure, for each seed; on many ranks, all call it.

    Each result is in `results.json` of the output folder, or of `seed-N` in it, as soon as it is there.

    Args:
        model: the model to unlearn, and where there are any the retrained models.
        data: the data set, and what of it to forget.
        arguments: training arguments for all methods.
        contenders: row → method.
        seeds: one run each; also of the random splits, so that each has its own forget set. None for those of
            `measuring`, or a single run by the seeds that `arguments` and `data` have.
        say: told each row as soon as it is measured, by the first rank.
        measuring: seeds of training and evaluation, and what is measured and kept besides.
        recorded: what the record of a kept model tells.

    Returns:
        the results, those of one training seed after those of another, in the seeds' order.

    Raises:
        ValueError: if the data set or the methods cannot be had as they are asked for.
    """
    assert arguments.output_dir is not None  # transformers settles it
    measuring = measuring or Measuring()
    measuring = measuring if seeds is None else replace(measuring, seeds=seeds)
    results = []
    for training, seed in measuring.runs():
        where, own = (
            data,
            arguments.changed(output_dir=str(Path(arguments.output_dir) / measuring.folder(training, seed))),
        )
        if seed is not None:
            where, own = replace(data, split_seed=seed), own.changed(seed=seed)
        results.append(_compare(model, where, own, contenders, say, measuring, training, recorded))
    return results


def _compare(
    source: ModelArguments,
    where: DataArguments,
    arguments: UnlearningArguments,
    contenders: Mapping[str, Contender],
    say: Callable[[str], None],
    measuring: Measuring,
    training_seed: int | None,
    recorded: RecordArguments | None,
) -> UnlearningResult:
    """One run, written down by the first rank."""
    assert arguments.output_dir is not None
    folder = Path(arguments.output_dir)
    name = source.model_name_or_path, source.model_revision
    model, processor = load_student(source), load_processor(*name, source.task)
    inputs = where.inputs_by(arguments.dataloader_num_workers)
    known = logits_on(model, processor, arguments.device, **inputs)
    with arguments.main_process_first(desc="loading the data set"):
        data = load_splits(where, model.config.num_labels, logits_of=known)
    require_same_choice(data.split, arguments)
    first, record = arguments.process_index == 0, None
    if first and measuring.keep_best:
        recorded = recorded or RecordArguments()
        # Beside the folder of the run, not beside the model that is published out of it.
        recorded = replace(recorded, salt_file=recorded.salt_file or str(salt_path(folder)))
        assert model.config.num_labels is not None  # every configuration counts its classes
        base = model_source(*name)
        record = record_split(data.split, where, recorded, str(folder), model.config.num_labels, base_model=base)
    comparison = Comparison(
        model,
        arguments,
        forget_dataset=data.split.forget,
        retain_dataset=data.split.retain,
        unseen_dataset=data.unseen,
        eval_dataset=data.test,
        retrain_models=[load_model(retrained, task=source.task) for retrained in source.retrained],
        retrain_again=measuring.retrain_again,
        training_seed=training_seed,
        evaluation_seeds=measuring.evaluation_seeds,
        measure_relearning=measuring.relearning,
        keep_best=measuring.keep_best,
        forget_set=record,
        processing_class=processor,
        on_measured=lambda row: say(progress_line(arguments.seed, row)) if first else None,
        **where.inputs,
    )
    about = {"model": source.model_name_or_path, "dataset": where.dataset_name, **data.provenance()}
    result = comparison.run(contenders, **about)
    if first:
        result.to_json(folder / "results.json")
    return result
