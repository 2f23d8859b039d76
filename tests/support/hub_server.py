"""A small Hub on this machine: real HTTP for the real `huggingface_hub`, `evaluate` and `transformers` clients.

It keeps repositories of all kinds in memory, commit by commit, and speaks as much of the Hub's protocol as creating,
uploading (small files in the commit, large ones through LFS), listing and downloading need. Clients find it by the
variables of `environment`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml

from tests.support.hub_repos import CUT, LOGIN, LOST, Commit, Fault, Repo

TOKEN = "hf_local_test_token"
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".png", ".parquet")
LFS_SIZE = 10 * 2**20
PAGE = 1000  # models of one answer to a listing, as the Hub has it


class HubServer:
    """The server; use it as a context manager.

    Attributes:
        repos: (kind, name) → `Repo`.
        requests: (method, path) of every request, in order.
        faults: trouble to come.
    """

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[tuple[str, str]] = []
        self.large_files: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Variables that send a client to this server, with its caches under `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1",
        }


class HubError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


REPO = r"(?P<name>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>models|datasets|spaces)/{REPO}"
ROUTES = [
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("GET", r"/api/models", "list_models"),
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", rf"{API}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"{API}/commit/(?P<revision>[^/]+)", "commit"),
    ("GET", rf"{API}/tree/(?P<revision>[^/]+)(?P<folder>/.*)?", "tree"),
    ("GET", rf"{API}/revision/(?P<revision>[^/]+)", "info"),
    ("GET", API, "info"),
    ("POST", rf"/(?:(?P<kind>datasets|spaces)/)?{REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_upload"),
    ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/verify", "lfs_verify"),
    ("GET", rf"/(?:(?P<kind>datasets|spaces)/)?{REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


class Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer waits 40 ms for the client to acknowledge its first half
    lost = False  # whether the answer will not arrive

    def log_message(self, *_) -> None:
        """Requests are recorded, not printed."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.query = parse_qs(url.query)
        self.hub.requests.append((self.command, path))
        fault = self._next_fault(path)
        if fault is not None and fault.what == CUT:
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            return self._hang_up()
        # The body is read whatever the answer: what is left of it would be taken for the connection's next request.
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.lost = fault is not None and fault.what == LOST
        if fault is not None and fault.what == LOGIN:
            return self._answer(b"<html><body>Please log in.</body></html>", headers={"Content-Type": "text/html"})
        if fault is not None and not self.lost:
            return self._answer({"error": "Trouble on purpose"}, fault.what, fault.headers)
        wanted = "GET" if self.command == "HEAD" else self.command
        try:
            for method, pattern, name in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and method == wanted:
                    given = {**found.groupdict()}
                    if "kind" in given:
                        given["kind"] = given["kind"] or "models"
                    return getattr(self, name)(**given)
            raise HubError(404, f"No route for {self.command} {path}.")
        except HubError as error:
            self._answer({"error": str(error)}, error.status, {"X-Error-Code": error.code} if error.code else {})

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _next_fault(self, path: str) -> Fault | None:
        for fault in self.hub.faults:
            if fault.times > 0 and fault.method == self.command and re.search(fault.path, path):
                fault.times -= 1
                return fault
        return None

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, body: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self.lost:
            return self._hang_up()
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # ---- who, and which repository ----

    def _authorised(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _require_token(self) -> None:
        if not self._authorised():
            raise HubError(401, "Invalid credentials in Authorization header")

    def _repo(self, kind: str, name: str) -> Repo:
        repo = self.hub.repos.get((kind, name))
        # The Hub does not tell strangers that a private repository exists.
        if repo is None or (repo.settings.get("visibility") == "private" and not self._authorised()):
            raise HubError(404 if self._authorised() else 401, "Repository not found", "RepoNotFound")
        return repo

    def _commit_at(self, kind: str, name: str, revision: str) -> tuple[Repo, Commit]:
        repo = self._repo(kind, name)
        commit = repo.at(revision)
        if commit is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo, commit

    # ---- routes ----

    def whoami(self) -> None:
        self._require_token()
        self._answer({"type": "user", "name": "tester", "fullname": "Tester", "orgs": [], "auth": {"type": "access"}})

    def validate(self) -> None:
        content = json.loads(self.body)["content"]
        has_header = re.match(r"---\n.+?\n---", content, re.DOTALL) is not None
        self._answer({"errors": [], "warnings": [] if has_header else [{"message": "empty or missing yaml metadata"}]})

    def create(self) -> None:
        self._require_token()
        asked = json.loads(self.body)
        kind = asked.get("type", "model") + "s"
        name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        url = f"{self.hub.url}/{'' if kind == 'models' else kind + '/'}{name}"
        if (kind, name) in self.hub.repos:
            return self._answer({"error": "You already created this repo", "url": url}, 409)
        repo = self.hub.repos[kind, name] = Repo(kind, name, asked)
        repo.commit("initial commit", {".gitattributes": b""})
        self._answer({"url": url, "name": name, "id": name})

    def preupload(self, kind: str, name: str, revision: str) -> None:
        self._require_token()
        _, commit = self._commit_at(kind, name, revision)
        files = []
        for file in json.loads(self.body)["files"]:
            large = file["path"].endswith(LFS_SUFFIXES) or file["size"] > LFS_SIZE
            there = commit.files.get(file["path"])  # the client leaves out what has not changed
            oid = there and (hashlib.sha256(there).hexdigest() if large else blob_id(there))
            mode = "lfs" if large else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._answer({"files": files})

    def commit(self, kind: str, name: str, revision: str) -> None:
        self._require_token()
        repo, parent = self._commit_at(kind, name, revision)
        files, header = dict(parent.files), {}
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                header = value
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.large_files[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
            elif entry["key"] == "deletedFolder":
                files = {path: data for path, data in files.items() if not path.startswith(value["path"])}
            else:
                raise HubError(400, f"Unknown operation {entry['key']}")
        if header.get("parentCommit", parent.sha) != repo.commits[-1].sha:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        made = repo.commit(header.get("summary", ""), files)
        self._answer({"commitUrl": f"{self.hub.url}/{name}/commit/{made.sha}", "commitOid": made.sha, "success": True})

    def info(self, kind: str, name: str, revision: str = "main") -> None:
        repo, commit = self._commit_at(kind, name, revision)
        self._answer(self._about(repo, commit))

    def _about(self, repo: Repo, commit: Commit) -> dict[str, object]:
        return {
            "id": repo.name,
            "sha": commit.sha,
            "private": repo.settings.get("visibility") == "private",
            "siblings": [{"rfilename": path} for path in sorted(commit.files)],
            "tags": card_tags(commit.files.get("README.md", b"")),
            "disabled": False,
            "lastModified": "2025-01-01T00:00:00.000Z",
            "createdAt": "2025-01-01T00:00:00.000Z",
        }

    def list_models(self) -> None:
        """By all tags of `filter`, a page at a time, with a link to the next; private models to their owner alone."""
        wanted = set(self.query.get("filter", []))
        start, size = int(self.query.get("cursor", ["0"])[0]), min(int(self.query.get("limit", [PAGE])[0]), PAGE)
        about = [
            self._about(repo, repo.commits[-1])
            for (kind, _), repo in sorted(self.hub.repos.items())
            if kind == "models" and (self._authorised() or repo.settings.get("visibility") != "private")
        ]
        found = [model for model in about if wanted <= set(model["tags"])]
        headers = {}
        if start + size < len(found):
            query = urlencode({**self.query, "cursor": start + size}, doseq=True)
            headers["Link"] = f'<{self.hub.url}/api/models?{query}>; rel="next"'
        self._answer(found[start : start + size], headers=headers)

    def tree(self, kind: str, name: str, revision: str, folder: str | None) -> None:
        _, commit = self._commit_at(kind, name, revision)
        inside = (folder or "").strip("/")
        deep = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries = []
        for path, data in sorted(commit.files.items()):
            rest = path.removeprefix(f"{inside}/" if inside else "")
            if (inside and rest == path) or ("/" in rest and not deep):
                continue
            entry = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
            if path.endswith(LFS_SUFFIXES):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 128}
            entries.append(entry)
        self._answer(entries)

    def lfs_batch(self, kind: str, name: str) -> None:
        self._require_token()
        self._repo(kind, name)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            href = f"{self.hub.url}/lfs/{wanted['oid']}"
            actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append(wanted if wanted["oid"] in self.hub.large_files else {**wanted, "actions": actions})
        self._answer({"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise HubError(400, "The content does not match its digest")
        self.hub.large_files[oid] = self.body
        self._answer({})

    def lfs_verify(self, oid: str) -> None:
        sent = self.hub.large_files.get(oid)
        if sent is None or len(sent) != json.loads(self.body)["size"]:
            raise HubError(404, "The object was not uploaded")
        self._answer({})

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        _, commit = self._commit_at(kind, name, revision)
        headers = {"X-Repo-Commit": commit.sha}
        if path not in commit.files:
            return self._answer({"error": "Entry not found"}, 404, {**headers, "X-Error-Code": "EntryNotFound"})
        data = commit.files[path]
        digest = hashlib.sha256(data).hexdigest() if path.endswith(LFS_SUFFIXES) else blob_id(data)
        self._answer(data, 200, {**headers, "ETag": f'"{digest}"', "Content-Type": "application/octet-stream"})


def card_tags(card: bytes) -> list[str]:
    """The tags that the Hub makes of a card's header."""
    found = re.match(r"---\n(.+?)\n---", card.decode(errors="replace"), re.DOTALL)
    header = yaml.safe_load(found[1]) if found else {}
    bases, datasets, tags = (
        [value] if isinstance(value := header.get(key) or [], str) else value
        for key in ("base_model", "datasets", "tags")
    )
    made = [f"base_model:{base}" for base in bases]
    if relation := header.get("base_model_relation"):
        made += [f"base_model:{relation}:{base}" for base in bases]
    return [*tags, *(f"dataset:{name}" for name in datasets), *made]


def blob_id(data: bytes) -> str:
    """The object id that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
