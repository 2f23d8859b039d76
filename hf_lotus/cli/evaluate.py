"""`hf-lotus evaluate`: measure a checkpoint that has already been unlearned, by anything at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.utils.data import Dataset

from hf_lotus.cli.devices import DeviceArguments
from hf_lotus.cli.parsing import parse
from hf_lotus.data.loading import DataArguments, load_splits
from hf_lotus.data.prepared import ready_splits
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.original import logits_on
from hf_lotus.evaluation.results import ORIGINAL, is_control_row, retrained_row
from hf_lotus.models.checks import check_same_classes, require_single_label
from hf_lotus.models.loading import all_retrained, load_model, load_processor, on_device
from hf_lotus.models.tasks import TASKS, task_of
from hf_lotus.publishing.evidence import write_evidence
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.output_folder import OverwriteArguments, claimed, holds_model
from hf_lotus.trainer.relearning import RELEARNING, Relearning
from hf_lotus.utils.seeds import require_seed


@dataclass
class EvaluateArguments:
    """Which models to compare."""

    model_name_or_path: str = field(metadata={"help": "The unlearned model: a Hub id or a local folder."})
    original_model: str = field(metadata={"help": "The model before unlearning."})
    task: str | None = field(
        default=None,
        metadata={"choices": list(TASKS), "help": "What it classifies. Default: what its configuration says."},
    )
    retrain_model: str | None = field(default=None, metadata={"help": "A model trained without the forget set."})
    retrain_models: list[str] | None = field(
        default=None,
        metadata={"nargs": "+", "help": "Several such models, of different seeds: gaps are then from their mean."},
    )
    output_dir: str = field(default="evaluation", metadata={"help": "Folder for results.json, the figure, the card."})
    name: str = field(default="unlearned", metadata={"help": "What to call the unlearned model in the table."})
    batch_size: int = field(default=256, metadata={"help": "Samples per forward pass."})
    seed: int = field(default=42, metadata={"help": "Seed of the null's resampling and of the relearning's order."})
    measure_relearning: bool = field(
        default=False,
        metadata={
            "help": "Measure whether what was forgotten comes back in one round on the retain set (the relearning "
            "excess), of every model in the table. Costs such a round for each."
        },
    )


def run(argv: list[str]) -> int:
    """Parse, measure, write; return the exit status."""
    kinds = [EvaluateArguments, DeviceArguments, DataArguments, OverwriteArguments]
    arguments, at, data_arguments, output = parse(argv, kinds, "evaluate")
    if is_control_row(arguments.name):
        raise ValueError(
            f"--name {arguments.name} is the name of another row; call the unlearned model something else."
        )
    require_seed(arguments.seed, "seed")
    if arguments.batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {arguments.batch_size}.")
    models = {"original": arguments.original_model, "unlearned model": arguments.model_name_or_path}
    with claimed(
        arguments.output_dir,
        sources={**models, "data set": data_arguments.dataset_name},
        goes_on=not holds_model(arguments.output_dir),
        overwrite=output.overwrite_output_dir,
    ):
        return _evaluate(arguments, data_arguments, at)


def _evaluate(arguments: EvaluateArguments, data_arguments: DataArguments, at: DeviceArguments) -> int:
    device, inputs = at.chosen, data_arguments.inputs_by(at.dataloader_num_workers)
    original, unlearned = (
        on_device(load_model(name, task=arguments.task), device)
        for name in (arguments.original_model, arguments.model_name_or_path)
    )
    given_retrained = all_retrained(arguments.retrain_model, arguments.retrain_models)
    retrained = [on_device(load_model(name, task=arguments.task), device) for name in given_retrained]
    check_same_classes(original, unlearned, "unlearned model")
    for model in retrained:
        check_same_classes(original, model, "retrained model")
    require_single_label(original)
    processor = load_processor(arguments.original_model, task=arguments.task)
    known = logits_on(original, processor, device, **inputs)
    data = load_splits(data_arguments, original.config.num_labels, logits_of=known)
    splits, class_wise = ready_splits(data.sets, original.config, processor, **inputs)
    evaluator = Evaluator(
        splits,
        original,
        further_retrained=retrained,
        class_wise=class_wise,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
    )
    predictions = evaluator.predict_all(unlearned, arguments.name)
    given = {}
    if arguments.measure_relearning:
        models: dict[str, nn.Module] = {ORIGINAL: original, arguments.name: unlearned}
        models |= {retrained_row(number): model for number, model in enumerate(retrained)}
        given = _relearning(models, splits, class_wise, arguments, device)
    result = evaluator.compare(
        {arguments.name: (predictions, None)},
        given=given,
        model=arguments.original_model,
        unlearned_model=arguments.model_name_or_path,
        dataset=data_arguments.dataset_name,
        task=task_of(original),
        **data.provenance(),
    )
    write_evidence(arguments.output_dir, result, arguments.name, predictions, evaluator)
    if data.duplicates:
        print(data.duplicates)
    print(f"\n{result.to_markdown()}\n\nresults.json, entropy.png and a card are in {arguments.output_dir}.")
    return 0


def _relearning(
    models: Mapping[str, nn.Module],
    splits: Mapping[str, Dataset | None],
    class_wise: bool,
    given: EvaluateArguments,
    device: str,
) -> dict[str, dict[str, float]]:
    """Row → the relearning excess of its model; nothing where it cannot be measured."""
    args = UnlearningArguments(
        given.output_dir, seed=given.seed, per_device_eval_batch_size=given.batch_size, use_cpu=device == "cpu"
    )
    relearning = Relearning(args, splits, class_wise)
    if not relearning.is_possible:
        print("The relearning excess is left out: there is no unseen data of the forgotten classes.")
        return {}
    return {name: {RELEARNING: relearning.excess(model)} for name, model in models.items()}
