"""`hf-lotus request run`: unlearn what is open in the queue, measure every request again, record, publish."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset

from hf_lotus.cli.parsing import parse
from hf_lotus.cli.request import QueueArguments
from hf_lotus.data.columns import read_labels
from hf_lotus.data.loading import DatasetArguments, LoadedData, load_splits
from hf_lotus.data.prepared import ready_splits
from hf_lotus.data.splits import ForgetRetainSplit
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.models.loading import ModelArguments, load_model, load_processor
from hf_lotus.publishing.digests import Salt, salted_digests, sample_contents, weights_digest
from hf_lotus.publishing.hub import push
from hf_lotus.publishing.record import RECORD, ForgetSetRecord, now
from hf_lotus.publishing.record_making import RecordArguments, make_record
from hf_lotus.publishing.sources import model_source
from hf_lotus.requests.history import history_figure, history_table, measure_requests
from hf_lotus.requests.inbox import receive
from hf_lotus.requests.queue import RequestQueue, RequestRun
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.checkpoints import last_whole_checkpoint
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.files import write_whole

HISTORY, HISTORY_FIGURE = "history.md", "history.png"
_UNNAMED = "trainer_output"  # what Trainer sets where no output_dir is given


class _NothingNew(Exception):
    """What the requests ask for has been forgotten already, or is not there."""


@dataclass
class _Found:
    """What the data set has of the requests, by row numbers.

    Attributes:
        rows: request id → rows of its samples, of this run's and of all earlier ones.
        forgotten: rows that earlier runs have forgotten.
        refused: request id → why it cannot be served; it stays open.
    """

    rows: dict[str, np.ndarray] = field(default_factory=dict)
    forgotten: np.ndarray | None = None
    refused: dict[str, str] = field(default_factory=dict)


def serve(argv: list[str]) -> int:
    """Serve what is open; return 0, or 1 if a request had to stay open."""
    model_arguments, data_arguments, recorded, at, arguments, method = parse(
        argv,
        [ModelArguments, DatasetArguments, RecordArguments, QueueArguments, UnlearningArguments],
        "request run",
        method="lotus",
    )
    _refuse(arguments, recorded)
    queue, first = RequestQueue(at.queue), arguments.process_index == 0
    refused: dict[str, str] = {}
    if at.queue_repo is None:
        queue.require()
    with queue.lock() if first else nullcontext():
        if at.queue_repo is not None and first:
            receive(queue, at.queue_repo, arguments.hub_token)
        with arguments.main_process_first(desc="reading the queue"):
            to_do = bool(queue.open() or queue.unfinished())
        if to_do:
            refused = Service(queue, model_arguments, data_arguments, recorded, arguments, method).run()
        if first:
            _tell(queue, refused)
            if arguments.push_to_hub:
                _push(queue, arguments)
    return 1 if refused else 0


def _refuse(arguments: UnlearningArguments, recorded: RecordArguments) -> None:
    """Options of `unlearn` that the queue decides itself."""
    for name, given in {
        "--output_dir": arguments.output_dir not in (None, _UNNAMED),
        "--salt_file": recorded.salt_file is not None,
        "--record_rows": recorded.record_rows,
        "--resume_from_checkpoint": arguments.resume_from_checkpoint is not None,
    }.items():
        if given:
            raise ValueError(
                f"{name} is not for `request run`: models and salt are kept in the queue's folder, row numbers are "
                "not published, and what was broken off goes on by itself. Leave it out."
            )
    if arguments.push_to_hub and arguments.hub_model_id is None:
        raise ValueError("--push_to_hub needs --hub_model_id: each run's model is another folder.")


class Service:
    """One run over the queue: the one that was begun and not finished, or else a new one over all that is open.

    Args:
        queue: the queue; nobody else is at work on it.
        model: the flags of the model.
        data: the flags of the data set.
        recorded: the flags of the record.
        arguments: the training arguments.
        method: the method.
    """

    def __init__(
        self,
        queue: RequestQueue,
        model: ModelArguments,
        data: DatasetArguments,
        recorded: RecordArguments,
        arguments: UnlearningArguments,
        method: object,
    ):
        self.queue, self.model, self.data, self.recorded = queue, model, data, recorded
        self.arguments, self.method = arguments, method
        self.found = _Found()
        self.request_run: RequestRun | None = None

    def run(self) -> dict[str, str]:
        """Make the model and finish; return id → reason of each request that cannot be served."""
        self.request_run = self.queue.unfinished()
        if self.request_run is None or self.request_run.model is None:
            try:
                self._make()
            except _NothingNew as reason:
                if self.arguments.process_index == 0:
                    print(reason)
        if self.request_run is not None and self.arguments.process_index == 0:
            self.request_run.finish(now())
        return self.found.refused

    def _make(self) -> None:
        """Unlearn, measure, and leave the model and what was measured in the run's folder."""
        source = self.model.model_name_or_path, self.model.model_revision
        original, latest = load_model(*source), self.queue.latest()
        self.original_digest = weights_digest(original)
        if latest is not None and latest.plan["original"] != self.original_digest:
            raise ValueError(
                f"{source[0]} is not the model that run {latest.number} of this queue began from. Give that model "
                "again, or begin another queue."
            )
        with self.arguments.main_process_first(desc="loading the data set"):
            data = load_splits(self.data, original.config.num_labels, self._select)
        previous = latest and ForgetSetRecord.from_json(latest.model / RECORD)
        trainer = self._trainer(original, latest, previous, data)
        self._train(trainer)
        self._measure(trainer, original, data)
        if trainer.is_world_process_zero():
            self.request_run.keep(measure_requests(trainer.evaluator, trainer.measured[1], self._positions(data)))
        trainer.end()

    def _train(self, trainer: UnlearningTrainer) -> None:
        """Unlearn, from the last whole checkpoint on where the run was broken off."""
        work = trainer.args.output_dir
        try:
            trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
        except ValueError as error:
            raise ValueError(f"{error} (To begin run {self.request_run.number} anew, delete {work}.)") from error

    def _select(self, train: Dataset, _: DatasetArguments, label_column: str) -> ForgetRetainSplit:
        """Find the samples of all requests by their salted digests; begin the run where none was begun."""
        salt = Salt.read_or_create(self.queue.salt_path)
        _, contents = sample_contents(train, self.data.image_column)
        digests = np.array(salted_digests(contents, read_labels(train, label_column), salt))
        # Asked again: on several ranks the first may have begun it since.
        self.request_run = self.queue.unfinished() or self._begin(train, label_column, digests)
        number = self.request_run.number
        for run in self.queue.runs():
            for name, asked in run.plan["requests"].items() if run.number <= number else ():
                # Every row with the same picture and class: forgetting one of two that are alike would be in vain.
                self.found.rows[name] = np.flatnonzero(np.isin(digests, asked["samples"]))
        latest = self.queue.latest()
        record = latest and ForgetSetRecord.from_json(latest.model / RECORD)
        forgotten = record.digests["samples"] if record else []
        self.found.forgotten = np.flatnonzero(np.isin(digests, forgotten))
        for name, request in self.request_run.plan["requests"].items():
            gone = set(request["samples"]).difference(digests.tolist(), forgotten)
            if gone:
                raise ValueError(
                    f"{len(gone)} samples of request {name}, which run {number} is to forget, are no longer in the "
                    "data set. Give the data set that still has them; they can be deleted once the run has ended."
                )
        asked = [self.found.rows[name] for name in self.request_run.plan["requests"]]
        new = np.setdiff1d(np.unique(np.concatenate(asked)), self.found.forgotten)
        if not len(new):
            raise _NothingNew(f"Run {number}: all that was asked for has been forgotten before.")
        retain = np.setdiff1d(np.arange(len(train)), np.union1d(new, self.found.forgotten))
        return ForgetRetainSplit(train, new, retain, {"by": "requests"})

    def _begin(self, train: Dataset, label_column: str, digests: np.ndarray) -> RequestRun:
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
        return self.queue.begin(plan, self.original_digest)

    def _trainer(
        self,
        original: object,
        latest: RequestRun | None,
        previous: ForgetSetRecord | None,
        data: LoadedData,
    ) -> UnlearningTrainer:
        arguments = self.arguments.changed(output_dir=str(self.request_run.work), push_to_hub=False)
        requests = list(self.request_run.plan["requests"])
        record = None
        if arguments.process_index == 0:
            self.recorded.salt_file = str(self.queue.salt_path)
            where = arguments.output_dir, original.config.num_labels
            base = model_source(self.model.model_name_or_path, self.model.model_revision)
            record = make_record(data.split, self.data, self.recorded, *where, base_model=base, requests=requests)
        trainer = UnlearningTrainer(
            model=copy.deepcopy(original) if latest is None else load_model(str(latest.model)),
            args=arguments,
            method=self.method,
            forget_dataset=data.split.forget,
            retain_dataset=data.split.retain,
            unseen_dataset=data.unseen,
            eval_dataset=data.test,
            processing_class=load_processor(self.model.model_name_or_path, self.model.model_revision),
            image_column=self.data.image_column,
            label_column=self.data.label_column,
            forget_set=record,
        )
        if previous is not None:
            trainer.follow(previous)
        return trainer

    def _measure(self, trainer: UnlearningTrainer, original: object, data: LoadedData) -> None:
        """Measure against the original on all that was ever forgotten: what the record and the card are of."""
        retrain = self.model.retrain_model and load_model(self.model.retrain_model)
        forgotten = data.split.dataset.select(self._all_forgotten(data))
        sets = {"forget": forgotten, "retain": data.split.retain, "unseen": data.unseen, "test": data.test}
        columns = {"image_column": self.data.image_column, "label_column": self.data.label_column}
        splits, class_wise = ready_splits(sets, original.config, trainer.processing_class, **columns)
        models = [model and model.to(trainer.args.device) for model in (original, retrain)]
        options = {"class_wise": class_wise, "seed": trainer.args.seed, **trainer.evaluator.options}
        trainer.measure_with(Evaluator(splits, *models, **options))
        about = {"model": self.model.model_name_or_path, "dataset": self.data.dataset_name, **data.provenance()}
        result = trainer.compare(**about)
        name = self.arguments.hub_model_id
        trainer.create_model_card(model_name=name.split("/")[-1] if name else self.queue.folder.resolve().name)
        if trainer.is_world_process_zero():
            print(f"{data.duplicates}\n\n{result.to_markdown()}\n")

    def _all_forgotten(self, data: LoadedData) -> np.ndarray:
        return np.union1d(data.split.forget_rows, self.found.forgotten)

    def _positions(self, data: LoadedData) -> dict[str, np.ndarray]:
        """Request id → places of its samples among all that was ever forgotten."""
        everything = self._all_forgotten(data)
        return {name: np.searchsorted(everything, rows) for name, rows in self.found.rows.items()}


def _tell(queue: RequestQueue, refused: Mapping[str, str]) -> None:
    """Write and print the history; name what stays open."""
    runs = [run for run in queue.runs() if run.is_done]
    if any(run.measured for run in runs):
        table = history_table(runs)
        write_whole(queue.folder / HISTORY, table + "\n")
        history_figure(runs, queue.folder / HISTORY_FIGURE)
        print(f"{table}\n\nThe same in {queue.folder / HISTORY}, as a figure in {queue.folder / HISTORY_FIGURE}.")
    latest = queue.latest()
    print(f"The model: {latest.model}." if latest else "No run has made a model yet.")
    waiting = [request for request in queue.open() if request.id not in refused]
    print(
        f"{len(waiting)} requests are open."
        if waiting
        else "No other request is open."
        if refused
        else "Nothing is open."
    )
    for name, reason in refused.items():
        print(f"Request {name} cannot be served and stays open: {reason}", file=sys.stderr)


def _push(queue: RequestQueue, arguments: UnlearningArguments) -> None:
    """Publish the latest model, unless it is there already: a push that failed is made up for by the next run."""
    latest = queue.latest()
    if latest is None or (latest.pushed or {}).get("repo_id") == arguments.hub_model_id:
        return
    commit = push(
        latest.model,
        arguments.hub_model_id,
        token=arguments.hub_token,
        private=arguments.hub_private_repo,
        revision=arguments.hub_revision,
        commit_message=f"Run {latest.number} of deletion requests",
    )
    latest.mark_pushed(arguments.hub_model_id, commit.oid)
    print(f"Published: {commit.commit_url}")
