"""Serve a queue of deletion requests: unlearn what is open, measure every request again, record, publish."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset
from huggingface_hub import CommitInfo
from transformers import PreTrainedModel

from hf_lotus.data.columns import InputOptions, find_image_column, read_labels
from hf_lotus.data.loading import DatasetArguments, LoadedData, load_splits
from hf_lotus.data.perceptual import find_lookalikes, perceptual_hashes
from hf_lotus.data.pixel_store import forget_pictures
from hf_lotus.data.prepared import ready_splits
from hf_lotus.data.splits import ForgetRetainSplit
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.methods import LoTUS, UnlearningMethod
from hf_lotus.models.loading import ModelArguments, load_model, load_processor, load_student, on_device
from hf_lotus.publishing.chain import require_chain
from hf_lotus.publishing.digests import salted_digests, sample_contents, weights_digest
from hf_lotus.publishing.hub import push
from hf_lotus.publishing.record import RECORD, ForgetSetRecord
from hf_lotus.publishing.recording import RecordArguments, record_split
from hf_lotus.publishing.sources import model_source
from hf_lotus.requests.digest_rows import RowsByDigest
from hf_lotus.requests.history import measure_requests, write_history
from hf_lotus.requests.inbox import receive
from hf_lotus.requests.queue import RequestQueue, RequestRun
from hf_lotus.requests.retained import Retained
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.checkpoints import last_whole_checkpoint
from hf_lotus.trainer.publisher import UNCHANGED
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.clock import now
from hf_lotus.utils.text import counted


class _NothingNew(Exception):
    """What the requests ask for has been forgotten already, or is not there."""


@dataclass
class _Found:
    """What the data set has of the requests, by row numbers.

    Attributes:
        rows: request id → rows of its samples, of this run's and of all earlier ones.
        forgotten: rows that earlier runs have forgotten.
        digests: of all rows of the data set, salted.
        refused: request id → why it cannot be served; it stays open.
    """

    rows: dict[str, np.ndarray] = field(default_factory=dict)
    forgotten: np.ndarray | None = None
    digests: np.ndarray | None = None
    refused: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Served:
    """What a call of `serve` did.

    Attributes:
        run: the run that was finished; None where nothing was open, or nothing of it can be served.
        refused: request id → why it cannot be served; it stays open.
        history: what became of every request so far, as a Markdown table; None where no run has measured any. On the
            first rank only.
    """

    run: RequestRun | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    history: str | None = None


def serve(
    queue: RequestQueue,
    model: ModelArguments,
    data: DatasetArguments,
    arguments: UnlearningArguments,
    method: UnlearningMethod | None = None,
    *,
    record_classes: bool = True,
    queue_repo: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Served:
    """Serve what is open in a queue, or finish the run that was broken off; on many ranks, all call it.

    The models, their records, the salt and what was measured are in the queue's folder. Nothing is published: that is
    `publish_latest`.

    Args:
        queue: the queue; nobody else may be at work on it.
        model: the model before all unlearning, and where there is one the retrained one.
        data: the data set that has the samples.
        arguments: the training arguments; `output_dir` and what resumes a run are the queue's to say.
        method: the method; by default LoTUS.
        record_classes: publish how many samples of each class the record has.
        queue_repo: a private data set repository on the Hub, from which new requests are copied first.
        say: told what is going on, by the first rank.

    Raises:
        ValueError: if there is no such queue, another process is at work on it, the model is not the one that the
            queue began from, or samples that an unfinished run must forget are no longer there.
        PublishError: if the repository cannot be had.
    """
    first = arguments.process_index == 0
    if queue_repo is None:
        queue.require()
    with queue.lock() if first else nullcontext():
        if queue_repo is not None and first:
            receive(queue, queue_repo, arguments.hub_token)
        with arguments.main_process_first(desc="reading the queue"):
            to_do = bool(queue.open() or queue.unfinished())
        service = None
        if to_do and first:
            queue.salt()  # before the models are loaded: without it nothing can be served
        if to_do:
            tell = say if first else lambda text: None
            service = Service(queue, model, data, arguments, method or LoTUS(), record_classes, tell)
            service.run()
        history = write_history(queue) if first else None
    return Served(history=history) if service is None else Served(service.request_run, service.found.refused, history)


def publish_latest(
    queue: RequestQueue,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
) -> CommitInfo | None:
    """Publish the latest model, unless it is there already: a push that failed is made up for by the next.

    Args:
        queue: the queue.
        repo_id: the model's repository, as namespace/name.
        token: of the Hub; by default that of `hf auth login` or HF_TOKEN.
        private: whether to make the repository private, if it is made.
        revision: branch to push to.

    Returns:
        the commit; None where there is no model yet, or it is there already.

    Raises:
        ValueError: if another process is at work on the queue.
        PublishError: if the Hub refuses, or cannot be reached.
    """
    with queue.lock():
        latest = queue.latest()
        if latest is None or (latest.pushed or {}).get("repo_id") == repo_id:
            return None
        message = f"Run {latest.number} of deletion requests"
        assert latest.model is not None
        commit = push(latest.model, repo_id, token=token, private=private, revision=revision, commit_message=message)
        latest.mark_pushed(repo_id, commit.oid)
    return commit


class Service:
    """One run over the queue: the one that was begun and not finished, or else a new one over all that is open.

    Args:
        queue: the queue; nobody else is at work on it.
        model: the original, and where there is one the retrained model.
        data: the data set.
        arguments: the training arguments.
        method: the method.
        record_classes: publish how many samples of each class the record has.
        say: told what is going on.
    """

    def __init__(
        self,
        queue: RequestQueue,
        model: ModelArguments,
        data: DatasetArguments,
        arguments: UnlearningArguments,
        method: UnlearningMethod,
        record_classes: bool,
        say: Callable[[str], None],
    ):
        self.queue, self.model, self.data, self.arguments = queue, model, data, arguments
        self.method, self.record_classes, self.say = method, record_classes, say
        self.found = _Found()
        self.request_run: RequestRun | None = None

    def run(self) -> None:
        """Make the model and finish: `request_run` is then the run, and `found` what there was of the requests."""
        self.request_run = self.queue.unfinished()
        if self.request_run is None or self.request_run.model is None:
            try:
                self._make()
            except _NothingNew as reason:
                self.say(str(reason))
        if self.request_run is not None and self.arguments.process_index == 0:
            self.request_run.finish(now())

    def _make(self) -> None:
        """Unlearn, measure, and leave the model and what was measured in the run's folder."""
        if self.arguments.process_index == 0:  # before a run is begun
            require_chain(self.queue.models())
        source = self.model.model_name_or_path, self.model.model_revision
        original, latest = load_student(self.model), self.queue.latest()
        self.original_digest = weights_digest(original)
        if latest is not None and latest.plan["original"] != self.original_digest:
            raise ValueError(
                f"{source[0]} is not the model that run {latest.number} of this queue began from. Give that model "
                "again, or begin another queue."
            )
        with self.arguments.main_process_first(desc="loading the data set"):
            data = load_splits(self.data, original.config.num_labels, self._select)
        self._clear_store(data)
        self._tell_of_lookalikes(data)
        previous = _record_of(latest)
        trainer = self._trainer(original, latest, previous, data)
        self._train(trainer)
        if trainer.publisher.unchanged:
            self._withdraw(trainer)
            return
        self._measure(trainer, original, data)
        if trainer.is_world_process_zero():
            assert self.request_run is not None and trainer.measured is not None
            predictions = trainer.measured[1]
            self.request_run.keep(
                measure_requests(trainer.evaluator, predictions, self._positions(data)),
                self._retained(data, trainer.evaluator.yardstick.original["retain"], predictions["retain"]),
            )
        trainer.end()

    @property
    def _inputs(self) -> InputOptions:
        """How rows become model inputs. Nothing of what is to be forgotten is kept for other runs."""
        return {**self.data.inputs_by(self.arguments.dataloader_num_workers), "keep_forgotten": False}

    def _clear_store(self, data: LoadedData) -> None:
        """Take out of the store what is to be forgotten, before anything is made that could be called served."""
        folder = self.data.ready_images_dir
        if folder is None or self.arguments.process_index:
            return
        forgotten = data.split.dataset.select(self._all_forgotten(data))
        gone = forget_pictures(folder, forgotten, self.data.image_column)
        if gone:
            self.say(f"{counted(gone, 'picture')} to be forgotten had pixels in {folder}; they are deleted there.")

    def _tell_of_lookalikes(self, data: LoadedData) -> None:
        """Say which retained pictures look like one that is to be forgotten; whether they go too is their owner's."""
        column = find_image_column(data.split.dataset, self.data.image_column)
        if column is None or self.data.duplicates == "ignore" or self.arguments.process_index:
            return
        hashes = perceptual_hashes(row[column] for row in data.split.retain.select_columns([column]))
        near = {
            data.split.retain_rows[row]
            for picture in data.split.forget.select_columns([column])
            for row in find_lookalikes(picture[column], hashes).rows
        }
        if near:
            shown = ", ".join(map(str, sorted(near)[:10])) + (", …" if len(near) > 10 else "")
            self.say(
                f"{len(near)} retained pictures look like one that is to be forgotten, and stay (rows {shown}). Where "
                "they are copies of it, request them too."
            )

    def _withdraw(self, trainer: UnlearningTrainer) -> None:
        """Leave the requests open: a model that has not changed has forgotten nothing."""
        assert self.request_run is not None
        self.found.refused |= dict.fromkeys(self.request_run.plan["requests"], UNCHANGED)
        trainer.accelerator.wait_for_everyone()  # until every rank has read the plan
        trainer.end()
        if trainer.is_world_process_zero():
            self.request_run.withdraw()
        self.request_run = None

    def _train(self, trainer: UnlearningTrainer) -> None:
        """Unlearn, from the last whole checkpoint on where the run was broken off."""
        work = trainer.args.output_dir
        assert work is not None and self.request_run is not None
        try:
            trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
        except ValueError as error:
            raise ValueError(f"{error} (To begin run {self.request_run.number} anew, delete {work}.)") from error

    def _select(self, train: Dataset, _: DatasetArguments, label_column: str) -> ForgetRetainSplit:
        """Find the samples of all requests by their salted digests; begin the run where none was begun."""
        salt = self.queue.salt()
        contents = sample_contents(train, **self.data.columns)[1]
        digests: np.ndarray = np.array(salted_digests(contents, read_labels(train, label_column), salt))
        self.found.digests = digests
        rows_with = RowsByDigest(digests)
        # Asked again: on several ranks the first may have begun it since.
        self.request_run = self.queue.unfinished() or self._begin(train, label_column, digests, salt.commitment)
        number = self.request_run.number
        for run in self.queue.runs():
            for name, asked in run.plan["requests"].items() if run.number <= number else ():
                # Every row with the same picture and class: forgetting one of two that are alike would be in vain.
                self.found.rows[name] = rows_with(asked["samples"])
        record = _record_of(self.queue.latest())
        found = record and record.digests
        assert record is None or found is not None  # the queue's own records have them
        forgotten = found["samples"] if found else []
        self.found.forgotten = np.flatnonzero(np.isin(digests, forgotten))
        for name, request in self.request_run.plan["requests"].items():
            gone = set(request["samples"]).difference(digests.tolist(), forgotten)
            if gone:
                raise ValueError(
                    f"{counted(len(gone), 'sample')} of request {name}, which run {number} is to forget, "
                    f"{'is' if len(gone) == 1 else 'are'} no longer in the data set. Give the data set that still has "
                    "them; they can be deleted once the run has ended."
                )
        asked = [self.found.rows[name] for name in self.request_run.plan["requests"]]
        new = np.setdiff1d(np.unique(np.concatenate(asked)), self.found.forgotten)
        if not len(new):
            raise _NothingNew(f"Run {number}: all that was asked for has been forgotten before.")
        retain = np.setdiff1d(np.arange(len(train)), np.union1d(new, self.found.forgotten))
        return ForgetRetainSplit(train, new, retain, {"by": "requests"})

    def _begin(self, train: Dataset, label_column: str, digests: np.ndarray, salt_commitment: str) -> RequestRun:
        """Plan a run of every open request that can be served."""
        plan: dict[str, Mapping[str, object]] = {}
        for request in self.queue.open():
            try:
                rows = request.rows(train, label_column)
            except ValueError as error:
                self.found.refused[request.id] = str(error)
            else:
                plan[request.id] = {"date": request.date, "samples": sorted(set(digests[rows].tolist()))}
        if not plan:
            raise _NothingNew("No open request can be served.")
        return self.queue.begin(plan, self.original_digest, salt_commitment)

    def _trainer(
        self,
        original: PreTrainedModel,
        latest: RequestRun | None,
        previous: ForgetSetRecord | None,
        data: LoadedData,
    ) -> UnlearningTrainer:
        assert self.request_run is not None
        arguments = self.arguments.changed(output_dir=str(self.request_run.work), push_to_hub=False)
        requests = list(self.request_run.plan["requests"])
        record = None
        if arguments.process_index == 0:
            recorded = RecordArguments(str(self.queue.salt_path), record_classes=self.record_classes)
            base = model_source(self.model.model_name_or_path, self.model.model_revision)
            where, num_labels = arguments.output_dir, original.config.num_labels
            assert where is not None and num_labels is not None
            record = record_split(
                data.split, self.data, recorded, where, num_labels, base_model=base, requests=requests
            )
        trainer = UnlearningTrainer(
            model=copy.deepcopy(original) if latest is None else load_model(str(latest.model), task=self.model.task),
            args=arguments,
            method=self.method,
            forget_dataset=data.split.forget,
            retain_dataset=data.split.retain,
            unseen_dataset=data.unseen,
            eval_dataset=data.test,
            processing_class=load_processor(self.model.model_name_or_path, self.model.model_revision, self.model.task),
            forget_set=record,
            **self._inputs,
        )
        if previous is not None:
            trainer.follow(previous)
        return trainer

    def _measure(self, trainer: UnlearningTrainer, original: PreTrainedModel, data: LoadedData) -> None:
        """Measure against the original on all that was ever forgotten: what the record and the card are of."""
        task, device = self.model.task, trainer.args.device
        retrained = [on_device(load_model(name, task=task), device) for name in self.model.retrained]
        forgotten = data.split.dataset.select(self._all_forgotten(data))
        sets = {"forget": forgotten, "retain": data.split.retain, "unseen": data.unseen, "test": data.test}
        splits, class_wise = ready_splits(sets, original.config, trainer.processing_class, **self._inputs)
        options: dict[str, Any] = {
            "further_retrained": retrained,
            "class_wise": class_wise,
            "seed": trainer.args.seed,
            **trainer.evaluator.options,
        }
        trainer.measure_with(Evaluator(splits, on_device(original, trainer.args.device), **options))
        about: dict[str, Any] = {
            "model": self.model.model_name_or_path,
            "dataset": self.data.dataset_name,
            **data.provenance(),
        }
        result = trainer.compare(**about)
        name = self.arguments.hub_model_id
        trainer.create_model_card(model_name=name.split("/")[-1] if name else self.queue.folder.resolve().name)
        if trainer.is_world_process_zero():
            self.say(f"{data.duplicates}\n\n{result.to_markdown()}\n")

    def _retained(self, data: LoadedData, original: Predictions, model: Predictions) -> Retained:
        assert self.found.digests is not None
        right = [found.predicted == found.labels for found in (original, model)]
        return Retained.of(self.found.digests[data.split.retain_rows], *right)

    def _all_forgotten(self, data: LoadedData) -> np.ndarray:
        assert self.found.forgotten is not None
        return np.union1d(data.split.forget_rows, self.found.forgotten)

    def _positions(self, data: LoadedData) -> dict[str, np.ndarray]:
        """Request id → places of its samples among all that was ever forgotten."""
        everything = self._all_forgotten(data)
        return {name: np.searchsorted(everything, rows) for name, rows in self.found.rows.items()}


def _record_of(run: RequestRun | None) -> ForgetSetRecord | None:
    """What the model of a finished run was made to forget; None where there is no such run yet."""
    if run is None:
        return None
    assert run.model is not None
    return ForgetSetRecord.from_json(run.model / RECORD)
