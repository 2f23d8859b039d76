"""Publish an unlearned model: weights, configuration, processor, card, record, results and figure in one commit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelInfo,
    get_token,
    snapshot_download,
)
from transformers.utils import logging

from hf_lotus.publishing.manifest import BOUND, PUBLISHED, WEIGHTS, matches, published_files
from hf_lotus.publishing.signing import require_fresh
from hf_lotus.publishing.sources import HTTP_ERROR, hub_id
from hf_lotus.publishing.verification import require_whole
from hf_lotus.version import __version__

logger = logging.get_logger(__name__)

# Replies after which the same request may succeed: someone else was faster, too many requests, trouble on the Hub.
_TRANSIENT = (409, 412, 429, 500, 502, 503, 504)
_LONGEST_WAIT = 120.0
_WHY = {
    401: "the Hub does not accept the token, or there is none. Log in with `hf auth login`, or set HF_TOKEN",
    403: "the token may not write there. Take one with write access, or another repository",
    404: "there is no such repository or revision, or the token may not see it",
    409: "someone else is pushing to it. Try again",
    412: "someone else is pushing to it. Try again",
    429: "the Hub asks for patience: too many requests. Try again later",
}


class PublishError(OSError):
    """A model was not published. Nothing has changed in its folder, and no part of it is in the repository."""


def files_to_publish(folder: str | Path) -> list[Path]:
    """What of a folder is published: what its record lists, and the card, the record and what signs them.

    Raises:
        ValueError: if record, files and card do not belong together, a file is a link, which could point to anything
            on this machine, or the signature is of other files.
    """
    record = require_whole(folder)
    files = [path for path in published_files(folder) if path.name in record.files or path.name in BOUND]
    if record.format_version == 1:
        files = published_files(folder)
    if links := [path.name for path in files if path.is_symlink()]:
        raise ValueError(f"{folder} is not published: {', '.join(links)} only point elsewhere. Copy the files there.")
    require_fresh(folder, [path.name for path in files])
    return files


def push(
    folder: str | Path,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Unlearned model",
    waits: Sequence[float] = (1, 5, 20),
) -> CommitInfo:
    """Upload a model's folder in ONE commit, so that the repository holds all of it or what it held before.

    The repository is made if it is not there. Weights and figures of an earlier model that this one does not replace
    are deleted in the same commit.

    Args:
        folder: with weights, `forget_set.json` and `README.md` that belong together.
        repo_id: the repository, as namespace/name.
        token: of the Hub; by default that of `hf auth login` or HF_TOKEN.
        private: whether to make the repository private, if it is made.
        revision: the branch; main by default.
        commit_message: of the commit.
        waits: seconds to wait before each further attempt after a reply that may be followed by a better one.

    Raises:
        ValueError: as `files_to_publish`, or if `repo_id` is no repository's.
        PublishError: if there is no token, or the Hub refuses, or cannot be reached.
    """
    files = files_to_publish(folder)
    if not (token or get_token()):
        raise PublishError(
            f"{folder} was not pushed: there is no token. Log in with `hf auth login`, or set HF_TOKEN."
        )
    api = HfApi(token=token, library_name="hf-lotus", library_version=__version__)
    for wait in [*waits, None]:
        try:
            return _commit(api, files, repo_id, private, revision, commit_message)
        except (HTTP_ERROR, OSError, RuntimeError) as error:
            status, asked = _reply(error)
            if wait is None or not _may_pass(error, status):
                raise PublishError(f"{folder} was not pushed to {repo_id}: {explain(error)}.") from error
            wait = min(max(wait, asked), _LONGEST_WAIT)
            logger.warning(f"Pushing to {repo_id} failed ({status or type(error).__name__}); again in {wait:g} s.")
            time.sleep(wait)
    raise AssertionError  # the last attempt has no wait after it: it returns or raises


def _commit(
    api: HfApi, paths: Sequence[Path], repo_id: str, private: bool | None, revision: str | None, message: str
) -> CommitInfo:
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    now = cast(ModelInfo, api.repo_info(repo_id, revision=revision))  # of a model, as no other type is asked for
    files = {path.name: path for path in paths}
    there = {file.rfilename for file in now.siblings or []}
    stale = sorted(name for name in there - files.keys() if "/" not in name and matches(name, (*PUBLISHED, *WEIGHTS)))
    return api.create_commit(
        repo_id,
        [CommitOperationAdd(name, path) for name, path in files.items()] + [CommitOperationDelete(n) for n in stale],
        commit_message=message,
        revision=revision,
        parent_commit=now.sha,  # a commit since would be of other files than those that were looked at
    )


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error and what it was raised from: the client wraps errors of uploads."""
    found = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _reply(error: BaseException) -> tuple[int | None, float]:
    """Status of the Hub's reply and the seconds it asks to wait; (None, 0) where there was none."""
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if response is not None:
            after = str(response.headers.get("Retry-After", ""))
            return response.status_code, float(after) if after.isdecimal() else 0.0
    return None, 0.0


def _may_pass(error: BaseException, status: int | None) -> bool:
    if status is not None:
        return status in _TRANSIENT
    return any(isinstance(cause, (HTTP_ERROR, ConnectionError, TimeoutError)) for cause in _causes(error))


def explain(error: BaseException) -> str:
    """What an error of the Hub's client means, and what to do."""
    status, _ = _reply(error)
    if status is not None:
        why = _WHY.get(status, "the Hub had an error of its own. Try again later" if status >= 500 else str(error))
        return f"{status}, {why}"
    root = _causes(error)[-1]
    if any(isinstance(cause, (HTTP_ERROR, ConnectionError, TimeoutError)) for cause in _causes(error)):
        return (
            f"the connection to the Hub broke ({type(root).__name__}). Try again: what was uploaded is not sent twice"
        )
    return f"{type(root).__name__}: {root}"


def fetch(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a published model: `name` itself if it is a folder, else the repository's files, downloaded.

    Raises:
        ValueError: if it is neither a folder nor a repository's name.
        OSError: if the repository cannot be had.
    """
    if Path(name).is_dir():
        return Path(name)
    if hub_id(str(name)) is None:
        raise ValueError(f"{name} is neither a folder nor the id of a model on the Hub (namespace/name).")
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=[*PUBLISHED, *WEIGHTS]))
    except (HTTP_ERROR, OSError, ValueError) as error:
        raise OSError(f"The model {name} cannot be had: {explain(error)}.") from error


def names_at(name: str, folder: Path) -> list[str] | None:
    """The names of all files of the commit that `fetch` had, also of those that were not downloaded.

    Args:
        name: the repository's.
        folder: that `fetch` gave; it is named after the commit.

    Returns:
        the names; None where the Hub cannot be asked.
    """
    try:
        siblings = HfApi().model_info(name, revision=folder.name).siblings
    except (HTTP_ERROR, OSError):
        return None
    return [file.rfilename for file in siblings or []]
