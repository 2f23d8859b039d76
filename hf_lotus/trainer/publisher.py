"""What `UnlearningTrainer` leaves for others: the forget-set record, the results, the card, and a push to the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from huggingface_hub import CommitInfo, HfApi
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy
from transformers.utils import logging

from hf_lotus.data.batches import read_dataset_labels
from hf_lotus.data.columns import SAMPLE_COLUMNS
from hf_lotus.data.prepared import num_samples
from hf_lotus.data.samples import are_ready
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.provenance import provenance
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.methods import describe
from hf_lotus.models.adapters import save_config
from hf_lotus.models.tasks import task_of
from hf_lotus.publishing.digests import Salt, weights_digest
from hf_lotus.publishing.disclosure import publishable, publishable_result, write_owners_record
from hf_lotus.publishing.evidence import write_evidence
from hf_lotus.publishing.hub import PublishError, explain, push
from hf_lotus.publishing.model_card import write_recorded_card
from hf_lotus.publishing.record import FINISHED, IN_PROGRESS, RECORD, ForgetSetRecord, owner_path, salt_path
from hf_lotus.publishing.sources import HTTP_ERROR, dataset_source, inherited_license, source
from hf_lotus.utils.clock import now
from hf_lotus.utils.text import counted

if TYPE_CHECKING:
    from hf_lotus.trainer.given import Given
    from hf_lotus.trainer.trainer import UnlearningTrainer

logger = logging.get_logger(__name__)

UNCHANGED = (
    "Nothing was unlearned: no step of the method changed a weight, and the model is the original, bit for bit. Take "
    "another method; margin_matching serves a single sample too."
)
# Training arguments that say how the weights came about; the record and the results have them.
ARGUMENTS = ("optim", "optim_args", "learning_rate", "lr_scheduler_type", "weight_decay", "num_train_epochs")


class Publisher(TrainerCallback):
    """What one trainer leaves in its folders for others to read, and pushes; nothing in here changes a weight.

    Args:
        trainer: the trainer, which need not be made to its end.
        given: what it is given; `hub_strategy` is taken over, so that `Trainer` pushes no checkpoint of its own.
        record: what is known of the forget set; made when it is first needed, if None.

    Attributes:
        record: the record of what is to be forgotten, or None before it is made.
        measured: the comparison and the student's predictions behind it; None where the weights were not measured.

    Raises:
        ValueError: if the record is of another number of samples.
    """

    def __init__(self, trainer: UnlearningTrainer, given: Given, record: ForgetSetRecord | None):
        rows = num_samples(given.forget)
        if record is not None and record.rows != rows:
            raise ValueError(
                f"forget_set is the record of {counted(record.rows, 'sample')}, and the forget set has {rows}. Make "
                "it of the split that forget_dataset comes from, after identical images were moved or dropped."
            )
        self._trainer, self.record = trainer, record
        self.measured: tuple[UnlearningResult, Mapping[str, Predictions]] | None = None
        # Were one of Trainer's methods renamed, it would push nothing, rather than optimizer states.
        self._strategy, given.args.hub_strategy = HubStrategy(given.args.hub_strategy), HubStrategy.END

    def follow(self, previous: ForgetSetRecord) -> None:
        """Go on from another record: what it tells of is in this run's record too (`ForgetSetRecord.following`)."""
        if self.record is not None:
            self.record = self.record.following(previous)

    @contextmanager
    def without_token(self) -> Iterator[None]:
        """Keep the token out of `training_args.bin`, which is written in here."""
        args = self._trainer.args
        token, args.hub_token = args.hub_token, None
        try:
            yield
        finally:
            args.hub_token = token

    def saved(self, folder: str, by_user: bool) -> None:
        """Write the record beside weights that the user had saved; push, where `push_to_hub` is set.

        Beside an adapter, whoever had it saved, the classifier's configuration.
        """
        args = self._trainer.args
        if args.should_save:
            save_config(self._trainer.run.student, folder)
        if not by_user:
            return
        if self._trainer.is_world_process_zero():
            self.write_record(folder)
        if args.push_to_hub:
            self._trainer.push_to_hub(commit_message="Model save", revision=args.hub_revision)

    @contextmanager
    def making_repository(self) -> Iterator[None]:
        """Refuse to publish optimizer states, which know the forgotten data too, and explain what the Hub refuses."""
        if self._strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise ValueError(
                f"hub_strategy={self._strategy.value!r} would publish optimizer states and checkpoints, which "
                "know what is to be forgotten. Use 'every_save' or 'end'."
            )
        try:
            yield
        except (HTTP_ERROR, OSError) as error:
            args = self._trainer.args
            name = args.hub_model_id or Path(args.output_dir).name
            raise PublishError(f"The repository {name} cannot be made: {explain(error)}.") from error

    def write_card(self, tags: str | list[str] | None, **metadata: str | None) -> None:
        """Write card, record, results and figure beside the weights; the first rank's job, once they are measured.

        Args:
            tags: further tags.
            **metadata: `language`, `license` and `model_name` of the card.
        """
        trainer = self._trainer
        if not trainer.is_world_process_zero():
            return
        assert self.measured is not None
        result, predictions = self.measured
        folder = Path(trainer.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        full = self.full_record()
        own = [tags] if isinstance(tags, str) else list(tags or [])
        tags = own + [tag for tag in getattr(trainer.model, "model_tags", None) or [] if tag not in own]
        write_owners_record(owner_path(folder), full, result)
        record = publishable(full)
        published = publishable_result(result, record)
        name, evaluator = trainer.method_name, trainer.evaluator
        write_evidence(folder, published, name, predictions, evaluator, record, tags=tags, **metadata)

    def push(
        self,
        commit_message: str | None,
        blocking: bool,
        token: str | None,
        revision: str | None,
        private: bool | None,
        card: dict[str, Any],
    ) -> CommitInfo | Future | None:
        """As `UnlearningTrainer.push_to_hub`, where the arguments are told."""
        trainer, args = self._trainer, self._trainer.args
        trainer.callback_handler.on_push_begin(args, trainer.state, trainer.control)
        token = token or args.hub_token
        if trainer.hub_model_id is None:
            trainer.init_hf_repo(token=token, private=private)
        if trainer.hub_model_id is not None:
            card.setdefault("model_name", trainer.hub_model_id.split("/")[-1])
        trainer.create_model_card(**card)
        if not trainer.is_world_process_zero():
            return None
        assert trainer.hub_model_id is not None
        options: dict[str, Any] = {
            "token": token,
            "revision": revision or args.hub_revision,
            "commit_message": commit_message,
        }
        if blocking:
            return push(args.output_dir, trainer.hub_model_id, **options)
        return HfApi().run_as_future(push, args.output_dir, trainer.hub_model_id, **options)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Push a checkpoint's weights, marked as unfinished; a push that fails does not stop the run."""
        trainer = self._trainer
        if not args.push_to_hub or self._strategy == HubStrategy.END or not trainer.is_world_process_zero():
            return
        with trainer.stopwatch.paused():
            trainer.callback_handler.on_push_begin(args, state, control)
            folder = Path(trainer.args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            assert trainer.hub_model_id is not None
            self.write_record(folder, IN_PROGRESS, model_name=trainer.hub_model_id.split("/")[-1])
            write_recorded_card(folder)
            message = f"Unlearning in progress, step {state.global_step}"
            options: dict[str, Any] = {
                "token": args.hub_token,
                "revision": args.hub_revision,
                "commit_message": message,
            }
            try:
                push(folder, trainer.hub_model_id, **options)
            except PublishError as error:
                logger.warning(f"{error} The run goes on.")

    @property
    def unchanged(self) -> bool:
        """Whether the weights are, to the bit, those from before; of divided ones, whether no step was made."""
        student = self._trainer.run.student
        if any(hasattr(parameter, "device_mesh") for parameter in student.parameters()):
            return self._trainer.state.global_step == 0
        return weights_digest(student) == self._trainer.checkpoints.identity["model"]

    # ---- the record ----

    def write_record(self, folder: str | Path, status: str = FINISHED, **card: str) -> None:
        """Write the record of what is in a folder, as it may be published, and the full one beside it for the owner.

        It is the first rank's job.

        Args:
            folder: with the weights.
            status: of them.
            **card: as in `ForgetSetRecord.listing`.
        """
        full = self.full_record(status)
        if status == FINISHED:
            write_owners_record(owner_path(folder), full, None if self.measured is None else self.measured[0])
        publishable(full).listing(folder, **card).to_json(Path(folder) / RECORD)

    def full_record(self, status: str = FINISHED) -> ForgetSetRecord:
        """The record of the weights as they are, with all that is known: for the owner."""
        trainer = self._trainer
        if self.record is None:
            self.record = self._forget_set()
        if self.record.base_model["name"] is None:
            self.record = replace(self.record, base_model=self._base_model())
        record = replace(
            self.record,
            status=status,
            base_weights=trainer.checkpoints.identity["model"],
            unchanged=status == FINISHED and self.unchanged,
            method=describe(trainer.method),
            arguments=self.recorded_arguments(),
            seeds=self._seeds(),
            seconds=trainer.unlearning_seconds,
            task=task_of(trainer.run.student),
            created=now(),
        )
        if self.measured is not None and status == FINISHED:
            record = record.measured(self.measured[0], trainer.method_name)
        else:
            about = provenance()
            versions = cast(Mapping[str, str | None], about["versions"])
            hardware = cast(Mapping[str, object], about["hardware"])
            record = replace(record, results=None, versions=versions, hardware=hardware)
        return record

    def _seeds(self) -> dict[str, int]:
        args = self._trainer.args
        seeds = {"seed": args.seed, "data_seed": self._trainer.given.settled_data_seed}
        return seeds if args.evaluation_seed is None else {**seeds, "evaluation_seed": args.evaluation_seed}

    def _forget_set(self) -> ForgetSetRecord:
        """What the forget set alone can tell: not by what it was chosen, nor from which revision."""
        ready = self._trainer.given.forget
        samples, labels = ready.source if are_ready(ready) else ready, read_dataset_labels(ready).numpy()
        config = getattr(self._trainer.run.student, "config", None)
        what: dict[str, Any] = {"class_names": getattr(config, "id2label", None), "dataset": dataset_source(samples)}
        what |= {name: value for name, value in self._trainer.given.options.items() if name in SAMPLE_COLUMNS}
        salt = Salt.read_or_create(salt_path(self._trainer.args.output_dir))
        try:
            return ForgetSetRecord.of(samples, labels, salt, **what)
        except ValueError as error:
            logger.warning(f"The record has no digests of the samples: {error}")
            return ForgetSetRecord.of(samples, labels, None, **what)

    def _base_model(self) -> dict[str, object]:
        """What the model says of itself; which commit it was, newer transformers do not keep."""
        config = getattr(self._trainer.run.student, "config", None)
        name, revision = getattr(config, "_name_or_path", None), getattr(config, "_commit_hash", None)
        return {**source(name, revision), "license": inherited_license(name, revision)}

    def recorded_arguments(self) -> dict[str, object]:
        """The training arguments that results and record have."""
        args = self._trainer.args
        samples = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        chosen = {name: value for name, value in args.to_dict().items() if name in ARGUMENTS}
        return {**chosen, "batch_size": samples}
