"""A private data set repository on the Hub as the place where deletion requests arrive, from any machine."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from huggingface_hub import CommitOperationAdd, DatasetInfo, HfApi, hf_hub_download

from hf_lotus.publishing.hub import PublishError, explain
from hf_lotus.publishing.sources import HTTP_ERROR
from hf_lotus.requests.queue import DeletionRequest, RequestQueue

_FOLDER = "requests"


def send(request: DeletionRequest, repo_id: str, token: str | None = None) -> None:
    """Put a request into a repository, in a commit of its own. The repository is made, private, if it is not there.

    Args:
        request: the request.
        repo_id: of the data set repository, as namespace/name.
        token: of the Hub; by default that of `hf auth login` or HF_TOKEN.

    Raises:
        ValueError: if there is another request with its id; or if the repository is public.
        PublishError: if the Hub refuses, or cannot be reached; nothing was sent then.
    """
    api, path = HfApi(token=token), f"{_FOLDER}/{request.id}.json"
    try:
        api.create_repo(repo_id, repo_type="dataset", private=True, exist_ok=True)
        now = _info(api, repo_id)
        if not now.private:
            raise ValueError(
                f"{repo_id} is public, and a request may name people. Make it private in its settings, or use another."
            )
        if any(file.rfilename == path for file in now.siblings or []):
            raise ValueError(f"There is a request {request.id} in {repo_id} already; nothing was sent.")
        api.create_commit(
            repo_id,
            [CommitOperationAdd(path, request.to_text().encode())],
            repo_type="dataset",
            commit_message="A deletion request",
            parent_commit=now.sha,  # another request since could have the same id
        )
    except (HTTP_ERROR, OSError) as error:
        raise PublishError(f"Request {request.id} was not sent to {repo_id}: {explain(error)}.") from error


def receive(queue: RequestQueue, repo_id: str, token: str | None = None) -> list[DeletionRequest]:
    """Copy the requests of a repository that a queue does not have yet into it; what is there stays there.

    Args:
        queue: the queue.
        repo_id: of the data set repository.
        token: of the Hub.

    Returns:
        the new ones.

    Raises:
        ValueError: if a file among them is not a request; none was copied then.
        PublishError: if the repository cannot be had.
    """
    known, new = {request.id for request in queue.requests()}, []
    try:
        now = _info(HfApi(token=token), repo_id)
        for name in sorted(file.rfilename for file in now.siblings or []):
            if Path(name).parent.name != _FOLDER or Path(name).suffix != ".json" or Path(name).stem in known:
                continue
            file = hf_hub_download(repo_id, name, repo_type="dataset", revision=now.sha, token=token)
            request = DeletionRequest.from_text(Path(file).read_text(encoding="utf-8"), f"{repo_id}: {name}")
            if request.id != Path(name).stem:
                raise ValueError(f"{repo_id}: {name} holds request {request.id}: a request's file has its name.")
            new.append(request)
    except (HTTP_ERROR, OSError) as error:
        raise PublishError(f"The requests of {repo_id} cannot be had: {explain(error)}.") from error
    for request in new:
        queue.add(request)
    return new


def _info(api: HfApi, repo_id: str) -> DatasetInfo:
    # The client's type is of every kind of repository.
    return cast(DatasetInfo, api.repo_info(repo_id, repo_type="dataset"))
