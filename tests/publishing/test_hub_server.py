"""The local Hub, as the real client sees it: small and large files, private repositories, conflicts, absences."""

import json
import os
import subprocess
import sys

from tests.support.hub_server import HubServer

# In a process of its own: the client reads its variables when it is imported.
CLIENT = """
import json
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

api, seen = HfApi(), {}
api.create_repo("me/model", private=True)
Path("folder/deep").mkdir(parents=True)
Path("folder/model.safetensors").write_bytes(bytes(range(256)) * 100)
Path("folder/deep/note.txt").write_text("first")
first = api.upload_folder(folder_path="folder", repo_id="me/model", commit_message="First")
second = api.create_commit(
    "me/model",
    [CommitOperationAdd("deep/note.txt", b"second"), CommitOperationDelete("model.safetensors")],
    commit_message="Second",
    parent_commit=first.oid,
)
seen["user"] = api.whoami()["name"]
seen["now"] = api.list_repo_files("me/model")
seen["tree"] = [file.path for file in api.list_repo_tree("me/model", recursive=True, revision=first.oid)]
seen["private"] = api.model_info("me/model").private
folder = Path(snapshot_download("me/model", revision=first.oid))
seen["large"] = (folder / "model.safetensors").read_bytes() == Path("folder/model.safetensors").read_bytes()
notes = [folder / "deep/note.txt", Path(hf_hub_download("me/model", "deep/note.txt"))]
seen["notes"] = [path.read_text() for path in notes]


def refused(call, kind):
    try:
        call()
    except kind as error:
        return error.response.status_code


late, outdated = [CommitOperationAdd("late.txt", b"late")], {"commit_message": "Late", "parent_commit": first.oid}
seen["refused"] = [
    refused(lambda: api.create_commit("me/model", late, **outdated), HfHubHTTPError),
    refused(lambda: hf_hub_download("me/model", "absent.txt"), EntryNotFoundError),
    refused(lambda: hf_hub_download("me/model", "deep/note.txt", revision="absent"), RevisionNotFoundError),
    refused(lambda: api.model_info("me/absent"), RepositoryNotFoundError),
    refused(lambda: HfApi(token=False).model_info("me/model"), RepositoryNotFoundError),
]
print(json.dumps(seen))
"""


def test_the_real_client(tmp_path):
    with HubServer() as hub:
        variables = {**os.environ, **hub.environment(tmp_path / "home")}
        command = [sys.executable, "-c", CLIENT]
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        repo = hub.repos["models", "me/model"]
    seen = json.loads(done.stdout)
    assert seen == {
        "user": "tester",
        "now": [".gitattributes", "deep/note.txt"],
        "tree": [".gitattributes", "deep/note.txt", "model.safetensors"],
        "private": True,
        "large": True,
        "notes": ["first", "second"],
        "refused": [412, 404, 404, 404, 401],
    }
    assert [commit.message for commit in repo.commits] == ["initial commit", "First", "Second"]
