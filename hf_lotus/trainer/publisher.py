"""What `UnlearningTrainer` leaves for others: the forget-set record, the results, the card, and a push to the Hub."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from hf_lotus.data.batches import read_dataset_labels
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.provenance import provenance
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.methods import describe, name_of
from hf_lotus.publishing.digests import Salt
from hf_lotus.publishing.hub import PublishError, explain, push
from hf_lotus.publishing.model_card import FIGURE, write_model_card
from hf_lotus.publishing.record import FINISHED, IN_PROGRESS, RECORD, ForgetSetRecord, now, salt_path, weight_digests
from hf_lotus.publishing.sources import HTTP_ERROR, dataset_source, inherited_license, source
from hf_lotus.publishing.verification import RESULTS
from hf_lotus.reporting.entropy_figure import comparison_figure

logger = logging.get_logger(__name__)

# Training arguments that say how the weights came about; the record and the results have them.
ARGUMENTS = ("optim", "optim_args", "learning_rate", "lr_scheduler_type", "weight_decay", "num_train_epochs")
# Ends of model classes' names → the Hub's names of their tasks.
_TASKS = {"ForImageClassification": "image-classification", "ForSequenceClassification": "text-classification"}


class Publishing(Trainer):
    """The part of `UnlearningTrainer` that others will read: nothing in here changes a weight.

    Attributes:
        forget_set: the record of what is to be forgotten; made when it is first needed, unless it was given.
        measured: the comparison and the student's predictions behind it; None where the weights were not measured.
    """

    forget_set: ForgetSetRecord | None = None
    measured: tuple[UnlearningResult, Mapping[str, Predictions]] | None = None

    def take_record(self, record: ForgetSetRecord | None) -> None:
        """Go on with a record of the user's, checked against the forget set as far as that costs nothing."""
        rows = len(self.splits["forget"])
        if record is not None and record.rows != rows:
            raise ValueError(
                f"forget_set is the record of {record.rows} samples, and the forget set has {rows}. Make it of the "
                "split that forget_dataset comes from, after identical images were moved or dropped."
            )
        self.forget_set = record

    @property
    def salt_path(self) -> Path:
        """Where the salt of a record is kept that the trainer makes itself: beside `output_dir`, never in it."""
        return salt_path(self.args.output_dir)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in `Trainer`, and `forget_set.json` beside the weights; pushes where `push_to_hub` is set."""
        super().save_model(output_dir, _internal_call=True)
        if _internal_call:
            return
        folder = output_dir or self.args.output_dir
        if self.is_world_process_zero():
            self._write_record(folder)
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """As in `Trainer`, but `training_args.bin` gets no token."""
        token, self.args.hub_token = self.args.hub_token, None
        try:
            super()._save(output_dir, state_dict)
        finally:
            self.args.hub_token = token

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
    ) -> None:
        """Save the model, and write its card with `results.json`, `entropy.png` and `forget_set.json` beside it.

        Saved first, so that the figures are of the weights in the folder; measured where `compare` has not been called
        since the student was trained. Call it on every rank.

        Args:
            language: of the data, for the card's header.
            license: of the model, instead of the base model's.
            tags: further tags.
            model_name: instead of the folder's name.
        """
        self.save_model(_internal_call=True)
        if self.measured is None:
            self.compare()
        if not self.is_world_process_zero():
            return
        result, predictions = self.measured
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        record = self._write_record(folder)
        self._published(result, record).to_json(folder / RESULTS)
        comparison_figure(self.evaluator.yardstick, self.method_name, predictions, folder / FIGURE)
        own = [tags] if isinstance(tags, str) else list(tags or [])
        tags = own + [tag for tag in getattr(self.model, "model_tags", None) or [] if tag not in own]
        metadata = {"language": language, "license": license, "tags": tags, "model_name": model_name}
        write_model_card(folder, result, self.method_name, record, **metadata)

    def push_to_hub(
        self,
        commit_message: str | None = "End of unlearning",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **card: object,
    ) -> CommitInfo | Future | None:
        """Save, measure, write the card, and upload all of it in one commit. Call it on every rank.

        Uploaded are weights, configuration, processor, card, record, results and figure, and nothing else.

        Args:
            commit_message: of the commit.
            blocking: whether to wait for the upload.
            token: of the Hub, instead of `hub_token`.
            revision: the branch, instead of `hub_revision`.
            private: whether to make the repository private, if it is made.
            **card: as in `create_model_card`.

        Returns:
            the commit, or a future of it if not blocking; None on other ranks than the first.

        Raises:
            PublishError: if there is no token, or the Hub refuses, or cannot be reached.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        token = token or self.args.hub_token
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        if self.hub_model_id is not None:
            card.setdefault("model_name", self.hub_model_id.split("/")[-1])
        self.create_model_card(**card)
        if not self.is_world_process_zero():
            return None
        options = {"token": token, "revision": revision or self.args.hub_revision, "commit_message": commit_message}
        if blocking:
            return push(self.args.output_dir, self.hub_model_id, **options)
        return HfApi().run_as_future(push, self.args.output_dir, self.hub_model_id, **options)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in `Trainer`; optimizer states, which know the forgotten data too, are not published."""
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise ValueError(
                f"hub_strategy={self.args.hub_strategy.value!r} would publish optimizer states and checkpoints, which "
                "know what is to be forgotten. Use 'every_save' or 'end'."
            )
        try:
            super().init_hf_repo(token=token, private=private)
        except (HTTP_ERROR, OSError) as error:
            name = self.args.hub_model_id or Path(self.args.output_dir).name
            raise PublishError(f"The repository {name} cannot be made: {explain(error)}.") from error

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push a checkpoint's weights, marked as unfinished; a push that fails does not stop the run."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        started = time.time()
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        record = self._write_record(checkpoint_folder, IN_PROGRESS)
        name = self.hub_model_id.split("/")[-1]
        write_model_card(checkpoint_folder, None, self.method_name, record, model_name=name)
        message = f"Unlearning in progress, step {self.state.global_step}"
        options = {"token": self.args.hub_token, "revision": self.args.hub_revision, "commit_message": message}
        try:
            push(checkpoint_folder, self.hub_model_id, **options)
        except PublishError as error:
            logger.warning(f"{error} The run goes on.")
        self._evaluation_seconds += time.time() - started

    # ---- the record ----

    def _write_record(self, folder: str | Path, status: str = FINISHED) -> ForgetSetRecord:
        """Write the record of the weights in a folder; the first rank's job."""
        if self.forget_set is None:
            self.forget_set = self._forget_set()
        if self.forget_set.base_model["name"] is None:
            self.forget_set = replace(self.forget_set, base_model=self._base_model())
        record = replace(
            self.forget_set,
            status=status,
            weights=weight_digests(folder),
            method=describe(self.method),
            arguments=self.recorded_arguments(),
            seeds={"seed": self.args.seed, "data_seed": self.args.data_seed},
            seconds=self.unlearning_seconds,
            task=next((task for end, task in _TASKS.items() if type(self.run.student).__name__.endswith(end)), None),
            created=now(),
        )
        if self.measured is not None and status == FINISHED:
            record = record.measured(self.measured[0], self.method_name)
        else:
            about = provenance()
            record = replace(record, results=None, versions=about["versions"], hardware=about["hardware"])
        record.to_json(Path(folder) / RECORD)
        return record

    def _published(self, result: UnlearningResult, record: ForgetSetRecord) -> UnlearningResult:
        """The result without what tells more of the selection than the record does."""
        kept = {key: value for key, value in result.provenance.items() if key != "split_digest"}
        if "selector" in kept:
            kept["selector"] = dict(record.selector)
        return replace(result, provenance=kept)

    def _forget_set(self) -> ForgetSetRecord:
        """What the forget set alone can tell: not by what it was chosen, nor from which revision."""
        ready = self.splits["forget"]
        samples, labels = getattr(ready, "images", ready), read_dataset_labels(ready).numpy()
        config = getattr(self.run.student, "config", None)
        what = {"class_names": getattr(config, "id2label", None), "dataset": dataset_source(samples)}
        what["image_column"] = self._columns["image_column"]
        salt = Salt.read_or_create(self.salt_path)
        try:
            return ForgetSetRecord.of(samples, labels, salt, **what)
        except ValueError as error:
            logger.warning(f"The record has no digests of the samples: {error}")
            return ForgetSetRecord.of(samples, labels, None, **what)

    def _base_model(self) -> dict[str, object]:
        """What the model says of itself; which commit it was, newer transformers do not keep."""
        config = getattr(self.run.student, "config", None)
        name, revision = getattr(config, "_name_or_path", None), getattr(config, "_commit_hash", None)
        return {**source(name, revision), "license": inherited_license(name, revision)}

    def recorded_arguments(self) -> dict[str, object]:
        """The training arguments that results and record have."""
        samples = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        chosen = {name: value for name, value in self.args.to_dict().items() if name in ARGUMENTS}
        return {**chosen, "batch_size": samples}

    @property
    def method_name(self) -> str:
        """The method's name in tables: its registered name, or its class's."""
        return name_of(self.method)
