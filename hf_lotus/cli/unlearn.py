"""`hf-lotus unlearn`: a checkpoint, its data and what to forget → an unlearned checkpoint and the evidence."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from hf_lotus.cli.launch import launch, launch_help, split_launch
from hf_lotus.cli.parsing import asked_method, parse
from hf_lotus.cli.unlearn_auto import AUTO, AUTO_HELP, choose_and_unlearn
from hf_lotus.data.loading import DataArguments, load_splits
from hf_lotus.evaluation.original import logits_on
from hf_lotus.methods import UnlearningMethod
from hf_lotus.models.loading import ModelArguments, load_model, load_processor, load_student
from hf_lotus.publishing.record import salt_path
from hf_lotus.publishing.recording import RecordArguments, record_split
from hf_lotus.publishing.sources import model_source
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.output_folder import OutputArguments, claimed_for, remove_work
from hf_lotus.trainer.publisher import UNCHANGED
from hf_lotus.trainer.relearning import relearning_of_rows
from hf_lotus.trainer.same_choice import require_same_choice
from hf_lotus.trainer.trainer import UnlearningTrainer


@dataclass
class MeasuringArguments:
    """What to measure besides."""

    measure_relearning: bool = field(
        default=False,
        metadata={
            "help": "Measure whether what was forgotten comes back in one round on the retain set (the relearning "
            "excess), of the unlearned, the original and the retrained model. Costs such a round for each."
        },
    )


def run(argv: list[str]) -> int:
    """Parse, unlearn, measure, save; return the exit status. With flags of `accelerate launch`, on many devices.

    The status is 3 where the method changed no weight; the card and the record say so, and nothing is pushed.
    """
    launching, argv = split_launch(argv)
    if launching:
        return launch("unlearn", launching, argv)
    if asked_method(argv) == AUTO:
        return choose_and_unlearn(argv)
    kinds = [ModelArguments, DataArguments, RecordArguments, MeasuringArguments, OutputArguments, UnlearningArguments]
    parsed = parse(argv, kinds, "unlearn", method="lotus", epilog=f"{AUTO_HELP} {launch_help()}")
    model, data, recorded, measuring, output, arguments, method = parsed
    goes_on, overwrite = arguments.resume_from_checkpoint is not None, output.overwrite_output_dir
    with claimed_for(arguments, model, data, recorded.salt_file, goes_on=goes_on, overwrite=overwrite):
        status = _unlearn(model, data, recorded, measuring, arguments, method)
        if arguments.process_index == 0 and not output.keep_checkpoints:
            remove_work(arguments.output_dir)
    return status


def _unlearn(
    model_arguments: ModelArguments,
    data_arguments: DataArguments,
    recorded: RecordArguments,
    measuring: MeasuringArguments,
    arguments: UnlearningArguments,
    method: UnlearningMethod,
) -> int:
    source = model_arguments.model_name_or_path, model_arguments.model_revision
    task = model_arguments.task
    model, processor = load_student(model_arguments), load_processor(*source, task)
    retrained = [load_model(name, task=task) for name in model_arguments.retrained]
    num_labels = model.config.num_labels
    inputs = data_arguments.inputs_by(arguments.dataloader_num_workers)
    known = logits_on(model, processor, arguments.device, **inputs)
    with arguments.main_process_first(desc="loading the data set"):
        data = load_splits(data_arguments, num_labels, logits_of=known)
    require_same_choice(data.split, arguments)
    record = None
    if arguments.process_index == 0:
        assert num_labels is not None  # every configuration counts its classes
        where: tuple[str, int] = arguments.output_dir, num_labels
        record = record_split(data.split, data_arguments, recorded, *where, base_model=model_source(*source))
    trainer = UnlearningTrainer(
        model=model,
        args=arguments,
        method=method,
        forget_dataset=data.split.forget,
        retain_dataset=data.split.retain,
        unseen_dataset=data.unseen,
        eval_dataset=data.test,
        retrain_models=retrained,
        processing_class=processor,
        forget_set=record,
        **data_arguments.inputs,
    )
    resume = arguments.resume_from_checkpoint
    trainer.train(resume_from_checkpoint=True if str(resume).lower() == "true" else resume)
    given = relearning_of_rows(trainer) if measuring.measure_relearning else {}
    if measuring.measure_relearning and not given and trainer.is_world_process_zero():
        print("The relearning excess is left out: there is no unseen data of the forgotten classes.")
    result = trainer.compare(
        given=given,
        model=model_arguments.model_name_or_path,
        dataset=data_arguments.dataset_name,
        **data.provenance(),
    )
    first = trainer.is_world_process_zero()
    if first:
        print(f"{data.duplicates}\n\n{result.to_markdown()}\n")
    unchanged = trainer.publisher.unchanged
    if arguments.push_to_hub and not unchanged:
        trainer.push_to_hub()
    else:
        trainer.create_model_card()
    if first:
        print(
            f"The model and forget_set.json, results.json, entropy.png, README.md: {arguments.output_dir}\n"
            "The salt, which proves what was forgotten; keep it, and to yourself: "
            f"{recorded.salt_file or salt_path(arguments.output_dir)}"
        )
        if unchanged:
            print(UNCHANGED, file=sys.stderr)
    trainer.end()
    return 3 if unchanged else 0
