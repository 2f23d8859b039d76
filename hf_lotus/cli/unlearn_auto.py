"""`hf-lotus unlearn --method auto`: the method and its rate are chosen within a budget, without a retrained model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hf_lotus.benchmark.auto import FOLDER, METHODS, Search, search_comparison, take_home, tried_table
from hf_lotus.cli.launch import launch_help
from hf_lotus.cli.parsing import parse
from hf_lotus.data.loading import DataArguments, load_splits
from hf_lotus.evaluation.original import logits_on
from hf_lotus.models.loading import ModelArguments, load_model, load_processor, load_student
from hf_lotus.publishing.hub import push
from hf_lotus.publishing.record import salt_path
from hf_lotus.publishing.recording import RecordArguments, record_split
from hf_lotus.publishing.sources import model_source
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.output_folder import OverwriteArguments, claimed_for
from hf_lotus.trainer.same_choice import require_same_choice

AUTO = "auto"
AUTO_HELP = (
    "--method auto --auto_budget SAMPLES chooses method, rate and rounds without a retrained model "
    "(hf-lotus unlearn --method auto --help)."
)


@dataclass
class AutoArguments:
    """How the method is chosen."""

    auto_budget: int = field(
        metadata={
            "help": "Samples that all runs together may visit in training, the rounds of relearning that measure them "
            "included. A run of LoTUS visits its rounds times forget set and the retain samples that it draws."
        }
    )
    auto_methods: list[str] = field(
        default_factory=lambda: list(METHODS),
        metadata={"nargs": "+", "help": "Methods to choose among; lotus is always one of them."},
    )
    method: str = field(default=AUTO, metadata={"choices": [AUTO], "help": "Or the name of a method."})


def choose_and_unlearn(argv: list[str]) -> int:
    """Parse, try, choose, and leave the chosen model as `hf-lotus unlearn` leaves one; return the exit status."""
    kinds = [ModelArguments, DataArguments, RecordArguments, OverwriteArguments, UnlearningArguments, AutoArguments]
    source, data, recorded, output, arguments, auto = parse(argv, kinds, "unlearn", epilog=launch_help())
    if arguments.resume_from_checkpoint is not None:
        raise ValueError("A search goes on by itself where it was broken off: leave resume_from_checkpoint out.")
    goes_on = (Path(arguments.output_dir) / FOLDER).is_dir()
    overwrite = output.overwrite_output_dir
    with claimed_for(arguments, source, data, recorded.salt_file, goes_on=goes_on, overwrite=overwrite):
        return _choose(source, data, recorded, arguments, auto)


def _choose(
    source: ModelArguments,
    data_arguments: DataArguments,
    recorded: RecordArguments,
    arguments: UnlearningArguments,
    auto: AutoArguments,
) -> int:
    name = source.model_name_or_path, source.model_revision
    model, processor = load_student(source), load_processor(*name, source.task)
    inputs = data_arguments.inputs_by(arguments.dataloader_num_workers)
    known = logits_on(model, processor, arguments.device, **inputs)
    with arguments.main_process_first(desc="loading the data set"):
        data = load_splits(data_arguments, model.config.num_labels, logits_of=known)
    require_same_choice(data.split, arguments)
    first, record = arguments.process_index == 0, None
    if first:
        assert model.config.num_labels is not None  # every configuration counts its classes
        where: tuple[str, int] = arguments.output_dir, model.config.num_labels
        record = record_split(data.split, data_arguments, recorded, *where, base_model=model_source(*name))
    comparison = search_comparison(
        model,
        arguments,
        arguments.output_dir,
        forget_dataset=data.split.forget,
        retain_dataset=data.split.retain,
        unseen_dataset=data.unseen,
        eval_dataset=data.test,
        retrain_models=[load_model(retrained, task=source.task) for retrained in source.retrained],
        processing_class=processor,
        forget_set=record,
        **data_arguments.inputs,
    )
    search = Search(comparison, auto.auto_budget, auto.auto_methods)

    def say(text: str) -> None:
        if first:
            print(text, flush=True)

    made = search.plan
    say(f"{len(made.candidates)} candidates, at most {made.most:,} of {made.budget:,} samples.")
    if made.left_out:
        say(f"Left out for the budget: {', '.join(made.left_out)}.")
    about = {"model": source.model_name_or_path, "dataset": data_arguments.dataset_name, **data.provenance()}
    found = search.run(say, **about)
    take_home(comparison, arguments.output_dir)
    say(
        f"{data.duplicates}\n\n{tried_table(found)}\n\n{found.result.to_markdown()}\n\n"
        f"The model and forget_set.json, results.json, entropy.png, README.md: {arguments.output_dir}\n"
        "The salt, which proves what was forgotten; keep it, and to yourself: "
        f"{recorded.salt_file or salt_path(arguments.output_dir)}"
    )
    if first and arguments.push_to_hub:
        _push(arguments)
    return 0


def _push(arguments: UnlearningArguments) -> None:
    assert arguments.output_dir is not None
    commit = push(
        arguments.output_dir,
        arguments.hub_model_id or arguments.output_dir.rstrip("/").split("/")[-1],
        token=arguments.hub_token,
        private=arguments.hub_private_repo,
        revision=arguments.hub_revision,
    )
    print(f"Published: {commit.commit_url}")
