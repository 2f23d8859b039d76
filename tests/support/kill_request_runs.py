"""Kill a run over the queue before each thing that it writes and each step that it takes; run it again; compare.

    python -m tests.support.kill_request_runs [--all] FOLDER OPTIONS…

A script, as each attempt is a process of its own: forked from this one, which has imported all and done nothing.
Prints a JSON line an attempt: what it was killed before, and a digest of the queue's state after the second run. It is
killed before the first of each kind of thing and before what decides; with --all, before everything.

SIGKILL leaves the files as they are, and nothing else. So one run copies them before each thing that it does, and the
second runs begin from these copies, in place of as many first runs. The first of each kind is killed in earnest; the
names of the files that it leaves are printed beside those of the copy.
"""

import contextlib
import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
import transformers.modeling_utils

from hf_lotus import UnlearningTrainer
from hf_lotus.cli.main import main
from hf_lotus.requests.queue import RequestQueue

torch.set_num_threads(1)
# What changes files or weights.
EVENTS = [(os, "replace"), (os, "rename"), (shutil, "rmtree"), (torch, "save")]
EVENTS += [(transformers.modeling_utils, "safe_save_file"), (UnlearningTrainer, "training_step")]
# What another run goes by: what was planned, trained, left as a model, measured and served.
DECISIVE = {f"replace {name}.json.part {name}.json" for name in ("plan", "measured", "done")}
DECISIVE |= {"save optimizer.pt", "rename model.part model", "rmtree checkpoint-1"}


class Moments:
    """Counts the moments of a process, kills it at one of them, or copies the folder that it works in at each."""

    def __init__(self, fatal: int | None, copied: Path | None, into: Path):
        self.fatal, self.copied, self.into, self.names = fatal, copied, into, []
        for where, name in EVENTS:
            setattr(where, name, self._watched(getattr(where, name), name))

    def _watched(self, function, name):
        def call(*args, **kwargs):
            self.names.append(" ".join([name, *(Path(a).name for a in args[:2] if isinstance(a, str | Path))]))
            if len(self.names) - 1 == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.copied is not None:
                shutil.copytree(self.copied, self.into / str(len(self.names) - 1))
            return function(*args, **kwargs)

        return call


def attempt(folder: Path, argv: list[str], fatal: int | None = None, into: Path | None = None) -> list[str] | None:
    """Run in a process of its own; the moments that it passed, or None if it was killed.

    Args:
        folder: of the queue.
        argv: options of `hf-lotus request run`.
        fatal: the moment to be killed at.
        into: a folder for copies of the queue, one of each moment.
    """
    told = folder.with_suffix(".moments")
    told.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        moments = Moments(fatal, folder if into else None, into or folder)
        with contextlib.redirect_stdout(io.StringIO()):
            status = main(["request", "run", "--queue", str(folder), *argv])
        told.write_text(json.dumps(moments.names))
        os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0, status
    return json.loads(told.read_text())


def state(folder: Path) -> str:
    """A digest of all that must be the same: the runs, what they served, their weights and figures."""
    sha = hashlib.sha256()
    queue = RequestQueue(folder)
    for run in queue.runs():
        told = [run.number, run.is_done, run.plan, run.measured, sorted(os.listdir(run.folder))]
        sha.update(json.dumps(told, sort_keys=True).encode())
        if run.model:
            sha.update((run.model / "model.safetensors").read_bytes())
            sha.update(json.dumps(sorted(os.listdir(run.model))).encode())
    sha.update(str([request.id for request in queue.open()]).encode())
    return sha.hexdigest()


def say(found: dict[str, object]) -> None:
    """One attempt's line."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


if __name__ == "__main__":
    importlib.import_module("tests.support.preloaded")
    every = sys.argv[1] == "--all"
    given, options = Path(sys.argv[1 + every]), sys.argv[2 + every :]
    place, copies = given.with_name("attempt"), given.with_name("copies")

    def begin(origin: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(origin, place)

    begin(given)
    attempt(place, options)  # fills the cache of the data set, which is not what is tested
    begin(given)
    moments = attempt(place, options, into=copies)
    say({"killed": None, "state": state(place), "real": False})
    kinds = set()
    for number, name in enumerate(moments):
        kind = name.split()[0]
        told = {"killed": name, "real": kind not in kinds}
        if told["real"]:
            kinds.add(kind)
            begin(given)
            assert attempt(place, options, fatal=number) is None
            told |= {"left": files(place), "copied": files(copies / str(number))}
        elif not every and (name not in DECISIVE or name in moments[:number]):
            continue
        else:
            begin(copies / str(number))
        attempt(place, options)
        say(told | {"state": state(place)})
