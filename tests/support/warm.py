"""Commands in processes of their own, without the seconds in which each would import PyTorch and transformers.

A process imports what the commands need, with the variables that they shall see from the start (the Hub's client reads
its own when it is imported), and does nothing else. Every command is a fork of it, with its own folder, arguments and
output.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.ranks import free_port, place


class WarmCommands:
    """Runs `hf-lotus` commands, each in a process of its own: `commands.run(["list"], folder)`.

    Or, as a launcher does, in a process a rank: `commands.run(["unlearn", …], folder, ranks=2)`.

    Args:
        environment: all variables that the commands see.
    """

    def __init__(self, environment: Mapping[str, str]):
        self.environment = {**environment, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def __enter__(self) -> WarmCommands:
        command = [sys.executable, "-m", "tests.support.warm"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=self.environment, text=True, **pipes)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)

    def run(
        self, words: Sequence[object], folder: Path, ranks: int = 1, **environment: str
    ) -> subprocess.CompletedProcess:
        """What `subprocess.run([…, "-m", "hf_lotus.cli.main", *words])` gives, run in a folder."""
        with tempfile.TemporaryDirectory() as outputs:
            job = {"words": list(map(str, words)), "folder": str(folder), "outputs": outputs, "more": environment}
            port = free_port()
            job["places"] = [place(rank, ranks, port) if ranks > 1 else {} for rank in range(ranks)]
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
            assert answer, f"the warm process has ended: {self.process.wait(60)}"
            out, err = ((Path(outputs) / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess(job["words"], int(answer), out, err)


def _command(words: list[str], folder: str, outputs: str, more: dict[str, str]) -> int:
    """Be the command: only called in a fork."""
    os.chdir(folder)
    os.environ.update(more)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(outputs) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = ["hf-lotus", *words]
    from hf_lotus.cli.main import main

    try:
        return main()
    except SystemExit as stopped:
        return stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _on_ranks(places: list[dict[str, str]], more: dict[str, str], **job: Any) -> int:
    """The exit status of the first rank that fails, or 0; the ranks that would wait for it are ended."""
    ranks = []
    for variables in places:
        ranks.append(os.fork())
        if ranks[-1] == 0:
            os._exit(_command(more={**more, **variables}, **job))
    failed = 0
    while ranks:
        rank, status = os.wait()
        ranks.remove(rank)
        if (code := os.waitstatus_to_exitcode(status)) and not failed:
            failed = code
            for other in ranks:
                os.kill(other, signal.SIGKILL)
    return failed


if __name__ == "__main__":
    importlib.import_module("tests.support.preloaded")
    for line in sys.stdin:
        sys.stdout.write(f"{_on_ranks(**json.loads(line))}\n")
        sys.stdout.flush()
