"""`hf-lotus evaluate`: measure a checkpoint that has already been unlearned, by anything at all."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from hf_lotus.cli.parsing import parse
from hf_lotus.data.loading import DataArguments, load_splits
from hf_lotus.data.prepared import ready_splits
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.original import logits_on
from hf_lotus.evaluation.results import CONTROL_ROWS
from hf_lotus.models.checks import check_same_classes, require_single_label
from hf_lotus.models.loading import load_model, load_processor, on_device
from hf_lotus.publishing.evidence import write_evidence


@dataclass
class EvaluateArguments:
    """Which models to compare."""

    model_name_or_path: str = field(metadata={"help": "The unlearned model: a Hub id or a local folder."})
    original_model: str = field(metadata={"help": "The model before unlearning."})
    retrain_model: str | None = field(default=None, metadata={"help": "A model trained without the forget set."})
    output_dir: str = field(default="evaluation", metadata={"help": "Folder for results.json, the figure, the card."})
    name: str = field(default="unlearned", metadata={"help": "What to call the unlearned model in the table."})
    batch_size: int = field(default=256, metadata={"help": "Samples per forward pass."})
    device: str | None = field(default=None, metadata={"help": "Device. Default: a GPU if there is one."})
    seed: int = field(default=42, metadata={"help": "Seed of the null's resampling."})


def run(argv: list[str]) -> int:
    """Parse, measure, write; return the exit status."""
    arguments, data_arguments = parse(argv, [EvaluateArguments, DataArguments], "evaluate")
    if arguments.name in CONTROL_ROWS:
        raise ValueError(
            f"--name {arguments.name} is the name of another row; call the unlearned model something else."
        )
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    original, unlearned = (
        on_device(load_model(m), device) for m in (arguments.original_model, arguments.model_name_or_path)
    )
    retrain = on_device(load_model(arguments.retrain_model), device) if arguments.retrain_model else None
    for other, what in ((unlearned, "unlearned model"), (retrain, "retrained model")):
        if other is not None:
            check_same_classes(original, other, what)
    require_single_label(original)
    processor = load_processor(arguments.original_model)
    known = logits_on(original, processor, device, data_arguments.image_column)
    data = load_splits(data_arguments, original.config.num_labels, logits_of=known)
    splits, class_wise = ready_splits(
        data.sets,
        original.config,
        processor,
        image_column=data_arguments.image_column,
        label_column=data_arguments.label_column,
    )
    evaluator = Evaluator(
        splits,
        original,
        retrain,
        class_wise=class_wise,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
    )
    predictions = evaluator.predict_all(unlearned, arguments.name)
    result = evaluator.compare(
        {arguments.name: (predictions, None)},
        model=arguments.original_model,
        unlearned_model=arguments.model_name_or_path,
        dataset=data_arguments.dataset_name,
        **data.provenance(),
    )
    write_evidence(arguments.output_dir, result, arguments.name, predictions, evaluator)
    if data.duplicates:
        print(data.duplicates)
    print(f"\n{result.to_markdown()}\n\nresults.json, entropy.png and a card are in {arguments.output_dir}.")
    return 0
