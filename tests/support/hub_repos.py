"""What the small Hub of the tests keeps: repositories, commit by commit, and trouble that is to come."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass
class Commit:
    sha: str
    message: str
    files: dict[str, bytes]


@dataclass
class Repo:
    kind: str  # "models", "datasets" or "spaces"
    name: str
    settings: dict  # what the client asked for when it created the repository
    commits: list[Commit] = field(default_factory=list)

    def commit(self, message: str, files: dict[str, bytes]) -> Commit:
        sha = hashlib.sha1(f"{self.kind}/{self.name}/{len(self.commits)}".encode()).hexdigest()
        self.commits.append(Commit(sha, message, files))
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        return next((c for c in reversed(self.commits) if revision in ("main", c.sha)), None)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1].files


CUT, LOST, LOGIN = "cut", "lost", "login"


@dataclass
class Fault:
    """Trouble for the next requests of a kind, before everything works again.

    Attributes:
        method: of the requests.
        path: a pattern within their paths.
        what: a status to answer with; `CUT` to read half of the body and hang up; `LOST` to do what is asked and hang
            up before the answer; `LOGIN` for the page of somebody else, who answers in the Hub's place.
        times: how many requests it meets.
        headers: of the answer.
    """

    method: str
    path: str
    what: int | str
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
