"""A queue of deletion requests in a folder: what was asked for, what was begun, and what was served.

    requests/ID.json         a request; written once and never changed
    runs/0001/plan.json      the requests that a run serves, and the salted digests of the samples they are of
    runs/0001/model.part/    the run's work
    runs/0001/model/         the model that it ends with, with its record and card
    runs/0001/retained.npz   which retained samples it classifies correctly
    runs/0001/measured.json  what every request's samples look like to it
    runs/0001/done.json      the run has served its requests
    runs/0001/pushed.json    where its model was published
    salt                     of the digests in plans and records

What state the queue is in is told by which of these files are there. Each appears whole, in this order, so a run that
was killed at any moment is found and finished before another begins; a request is served once `done.json` is there.
The queue may name people: it is its owner's alone and no part of it but the folder `model` is ever published.
"""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lotus.utils.documents import first_problem, parse_document, read_document, read_text
from hf_lotus.utils.files import only_one, sync, write_private
from hf_lotus.utils.text import counted

# To add and to list requests is done in a moment: what takes seconds to import is imported where it is used.
if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

    from hf_lotus.publishing.digests import Salt
    from hf_lotus.requests.retained import Retained

FORMAT, FORMAT_VERSION = "hf-lotus deletion request", 1
_SCHEMA = "hf_lotus.requests/deletion_request"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_RETAINED = "retained.npz"


@dataclass(frozen=True)
class DeletionRequest:
    """Samples of the training set that a model is to forget.

    Attributes:
        id: what to call it. It is published in the record of the model that serves it, so it should name nobody.
        date: the day it is of, as YYYY-MM-DD; requests are served in this order.
        selector: by what the samples are chosen: {"by": "rows", "rows": […]}, {"by": "column", "column": …,
            "values": […]} or {"by": "class", "classes": […]}.
        received: when it was added to a queue: UTC, ISO 8601.

    Raises:
        ValueError: for an id, a date or a selector that is none.
    """

    id: str
    date: str
    selector: Mapping[str, Any]
    received: str

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise ValueError(
                f"A request's id has 1 to 64 letters, digits, '.', '_' and '-', and begins with a letter or a digit; "
                f"got {self.id!r}."
            )
        try:
            date.fromisoformat(self.date)
        except ValueError as error:
            raise ValueError(f"The date of request {self.id} must be YYYY-MM-DD, got {self.date!r}.") from error
        if not self._is_ordinary() and (problem := first_problem(self._document(), _SCHEMA, "the request")):
            raise ValueError(f"Request {self.id} is not one that this version understands: {problem}")

    @staticmethod
    def new_id(day: str) -> str:
        """An id that no other request has, beginning with its date."""
        return f"{day}-{secrets.token_hex(4)}"

    def rows(self, dataset: Dataset, label_column: str | None = None) -> np.ndarray:
        """The numbers of the rows it is of, sorted.

        Raises:
            ValueError: if the data set has not all that it names, or nothing else.
        """
        from hf_lotus.data.splits import ForgetRetainSplit

        chosen = self.selector
        if chosen["by"] == "rows":
            split = ForgetRetainSplit.from_indices(dataset, chosen["rows"])
        elif chosen["by"] == "column":
            split = ForgetRetainSplit.from_column(dataset, chosen["column"], chosen["values"])
        else:
            split = ForgetRetainSplit.from_class(dataset, chosen["classes"], label_column)
        return split.forget_rows

    def __str__(self) -> str:
        """By what it chooses, without naming whom."""
        chosen = self.selector
        if chosen["by"] == "column":
            return f"{len(chosen['values'])} of column {chosen['column']}"
        if chosen["by"] == "rows":
            return counted(len(chosen["rows"]), "row")
        return f"classes {', '.join(chosen['classes'])}"

    def to_text(self) -> str:
        """The request as JSON."""
        return json.dumps(self._document(), indent=1) + "\n"

    @classmethod
    def from_text(cls, text: str, where: str) -> DeletionRequest:
        """Read what `to_text` wrote; `where` it stands is for the error.

        Raises:
            ValueError: if it is not a request, or one of another format version.
        """
        document = parse_document(text, where)
        if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
            raise ValueError(f"{where} is not a deletion request of hf-lotus.")
        version = document.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ValueError(f"{where} is of format version {version!r}; this version reads {FORMAT_VERSION}.")
        for name in ("id", "date"):
            if not isinstance(document.get(name, ""), str):
                raise ValueError(f"{where}: {name} must be text, got {document[name]!r}.")
        try:
            return cls(**document)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where} is not a deletion request that this version understands: {error}") from error

    def _is_ordinary(self) -> bool:
        """Whether it is plainly as the schema says; for what is not, the schema is asked, which is slow to load."""
        chosen = self.selector
        if not (isinstance(self.received, str) and _DAY.fullmatch(self.date) and isinstance(chosen, dict)):
            return False
        match chosen:
            case {"by": "rows", "rows": list(rows), **others}:
                return bool(rows) and not others and all(type(row) is int and row >= 0 for row in rows)
            case {"by": "column", "column": str(), "values": list(names), **others}:
                return bool(names) and not others and all(isinstance(name, str) for name in names)
            case {"by": "class", "classes": list(names), **others}:
                return bool(names) and not others and all(isinstance(name, str) for name in names)
        return False

    def _document(self) -> dict[str, Any]:
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}


@dataclass(frozen=True)
class RequestRun:
    """One run over the queue, by its folder.

    Attributes:
        folder: of the run.
    """

    folder: Path

    @property
    def number(self) -> int:
        """From 1."""
        return int(self.folder.name)

    @property
    def plan(self) -> dict[str, Any]:
        """What the run is to do.

        `requests`: id → `date` and `samples` (salted digests); `original`: the digest of the original's weights;
        `salt_commitment`: of the digests' salt, where it is told.
        """
        path = self.folder / "plan.json"
        try:
            stat = path.stat()
        except OSError:
            return self._read("plan.json", "run_plan")  # which says what is wrong
        return _plan(self, stat.st_mtime_ns, stat.st_size)

    @property
    def is_done(self) -> bool:
        """Whether its requests are served."""
        return (self.folder / "done.json").is_file()

    @property
    def work(self) -> Path:
        """Where the model is made."""
        return self.folder / "model.part"

    @property
    def model(self) -> Path | None:
        """The folder of the finished model; None before that, or where there was nothing new to forget."""
        folder = self.folder / "model"
        return folder if folder.is_dir() else None

    @property
    def measured(self) -> dict[str, Any] | None:
        """What was measured of every request; None where nothing was."""
        return self._read("measured.json", "run_measured") if (self.folder / "measured.json").is_file() else None

    @property
    def has_measured(self) -> bool:
        """Whether anything was."""
        return (self.folder / "measured.json").is_file()

    @property
    def retained(self) -> Retained | None:
        """Who was right on which retained sample; None where an earlier version made the run, or it made no model."""
        from hf_lotus.requests.retained import Retained

        path = self.folder / _RETAINED
        return Retained.read(path) if path.is_file() else None

    @property
    def pushed(self) -> dict[str, str] | None:
        """`repo_id` and `commit` of where its model was published; None if it was not."""
        return self._read("pushed.json", "run_pushed") if (self.folder / "pushed.json").is_file() else None

    def keep(self, measured: Mapping[str, object], retained: Retained) -> None:
        """Take what was measured, and the model as it is in `work`: the run needs nothing but `finish` any more."""
        from hf_lotus.trainer.output_folder import remove_work

        remove_work(self.work)
        write_private(self.folder / _RETAINED, retained.to_bytes())
        for path in (*self.work.iterdir(), self.work):
            sync(path)
        self._write("measured.json", measured)
        os.rename(self.work, self.folder / "model")
        sync(self.folder)

    def finish(self, when: str) -> None:
        """Its requests are served."""
        self._write("done.json", {"finished": when})

    def withdraw(self) -> None:
        """Undo it before a model was kept: its requests are open again."""
        if self.work.exists():  # first: what is left of it must not be gone on from by another run of this number
            shutil.rmtree(self.work)
        (self.folder / "plan.json").unlink()
        sync(self.folder)

    def mark_pushed(self, repo_id: str, commit: str) -> None:
        """Its model was published."""
        self._write("pushed.json", {"repo_id": repo_id, "commit": commit})

    def _read(self, name: str, schema: str) -> dict[str, Any]:
        path, advice = self.folder / name, "Restore it from a backup."
        document = read_document(path, advice)
        if problem := first_problem(document, f"hf_lotus.requests/{schema}", "it"):
            raise ValueError(f"{path} is not what a run writes: {problem}. {advice}")
        return document

    def _write(self, name: str, document: Mapping[str, object]) -> None:
        write_private(self.folder / name, json.dumps(document, indent=1) + "\n")


@functools.lru_cache(maxsize=10_000)
def _plan(run: RequestRun, changed: int, size: int) -> dict[str, Any]:
    """A run's plan, read and checked once: a call asks for the plans of all runs several times."""
    return run._read("plan.json", "run_plan")


def is_queue(folder: str | Path) -> bool:
    """Whether a folder is that of a queue."""
    return (Path(folder) / "requests").is_dir()


class RequestQueue:
    """A queue in a folder.

    Args:
        folder: of the queue; made when the first request is added.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def require(self) -> None:
        """Raise a ValueError if there is no such queue."""
        if not (self.folder / "requests").is_dir():
            raise ValueError(f"There is no queue in {self.folder}: the first request that is added begins one.")

    @property
    def salt_path(self) -> Path:
        """Where the salt of plans and records is kept."""
        return self.folder / "salt"

    def add(self, request: DeletionRequest) -> None:
        """Add a request. It is on the disk when this returns.

        Raises:
            ValueError: if there is another request with its id.
        """
        path = self._path(request.id)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file, and a queue is a folder. Give another --queue.")
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            write_private(path, request.to_text(), new=True)
        except FileExistsError as error:
            raise ValueError(
                f"There is a request {request.id} in {self.folder} already; nothing was added."
            ) from error

    def requests(self) -> list[DeletionRequest]:
        """All requests that were ever added, by date, then in the order of their arrival.

        Raises:
            ValueError: if a file among them is not a request.
        """
        found = []
        for path in sorted((self.folder / "requests").glob("*.json")):
            request = DeletionRequest.from_text(read_text(path), str(path))
            if self._path(request.id) != path:
                raise ValueError(f"{path} holds request {request.id}: a request's file has its name.")
            found.append(request)
        return sorted(found, key=lambda request: (request.date, request.received, request.id))

    def runs(self) -> list[RequestRun]:
        """The runs that were begun, in order."""
        folders = (self.folder / "runs").glob("[0-9]*/plan.json")
        return sorted((RequestRun(path.parent) for path in folders), key=lambda run: run.number)

    def planned(self) -> dict[str, RequestRun]:
        """Request id → the run that serves it."""
        return {name: run for run in self.runs() for name in run.plan["requests"]}

    def open(self) -> list[DeletionRequest]:
        """The requests that no run serves yet."""
        planned = self.planned()
        return [request for request in self.requests() if request.id not in planned]

    def unfinished(self) -> RequestRun | None:
        """The run that was begun and not finished; at most one, as it is finished before another begins."""
        return next((run for run in self.runs() if not run.is_done), None)

    def latest(self) -> RequestRun | None:
        """The run that made the model that is unlearned next; None where that is the original."""
        return next((run for run in reversed(self.runs()) if run.is_done and run.model is not None), None)

    def models(self) -> list[Path]:
        """The folders of the models that were finished, each made from the one before it."""
        return [run.model for run in self.runs() if run.is_done and run.model is not None]

    def salt(self) -> Salt:
        """The salt of all plans and records; made before the first of them.

        Raises:
            ValueError: if it is gone, or another than that of the plans: no request that was served before could be
                told from others any more.
        """
        from hf_lotus.publishing.digests import Salt

        runs = self.runs()
        if runs and not self.salt_path.exists():
            raise ValueError(
                f"The salt of the queue, {self.salt_path}, is gone, and {counted(len(runs), 'run')} counted on it. "
                "Put it back from a backup. Without it nobody can tell which samples were forgotten; if it is lost, "
                "begin another queue, with every request that was ever made."
            )
        salt = Salt.read_or_create(self.salt_path)
        for run in runs:
            if run.plan.get("salt_commitment", salt.commitment) != salt.commitment:
                raise ValueError(
                    f"The salt in {self.salt_path} is another than that of run {run.number}. Put that one back from a "
                    "backup: with another, samples that were forgotten are not recognised."
                )
        return salt

    def begin(
        self, requests: Mapping[str, Mapping[str, object]], original: str, salt_commitment: str | None = None
    ) -> RequestRun:
        """Begin a run.

        Args:
            requests: id → `date` and `samples`, the salted digests of what it is of.
            original: digest of the weights of the model before all unlearning.
            salt_commitment: of the digests' salt.
        """
        number = max((run.number for run in self.runs()), default=0) + 1
        run = RequestRun(self.folder / "runs" / f"{number:04d}")
        commitment = {} if salt_commitment is None else {"salt_commitment": salt_commitment}
        run._write("plan.json", {"requests": requests, "original": original, **commitment})
        return run

    @contextmanager
    def lock(self) -> Iterator[None]:
        """A lock for the block: one run at a time. The system lets it go when a process dies.

        Raises:
            ValueError: if another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with only_one(self.folder, f"Another run over {self.folder} is at work. Wait until it has ended."):
            yield

    def _path(self, name: str) -> Path:
        return self.folder / "requests" / f"{name}.json"
