"""Functions run on several ranks, or in one fresh process, without a launcher.

Each process is forked by a server that has imported what they need and has trained nothing: a rank within
milliseconds, where torchrun and its children import PyTorch and transformers for seconds each. What tests of the
launchers themselves need is another matter; they call torchrun and accelerate.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = ["tests.support.killed_runs", "tests.support.ranks", "tests.support.preloaded"]


def free_port() -> int:
    """A port that the system has just found to be free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def place(rank: int, ranks: int, port: int) -> dict[str, str]:
    """The variables by which a launcher tells a process which rank it is."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    numbers |= {"MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in numbers.items()}}


def started(function: Callable[..., None], *arguments: object, ranks: int) -> list[BaseProcess]:
    """Processes that call the function, one a rank; one alone is in no group of ranks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    if ranks == 1:
        processes = [context.Process(target=function, args=arguments)]
    else:
        port = free_port()
        places = [(function, arguments, rank, ranks, port) for rank in range(ranks)]
        processes = [context.Process(target=_rank, args=place) for place in places]
    for process in processes:
        process.start()
    return processes


def _rank(function: Callable[..., None], arguments: tuple, rank: int, ranks: int, port: int) -> None:
    os.environ.update(place(rank, ranks, port))
    function(*arguments)


def on_ranks(function: Callable[..., None], *arguments: object, ranks: int = 2, seconds: int = 400) -> None:
    """Call a function on each of several ranks, and wait; a rank that fails takes the others with it, and is told."""
    processes, deadline = started(function, *arguments, ranks=ranks), time.monotonic() + seconds
    try:
        while any(process.exitcode is None for process in processes):
            failed = {rank: p.exitcode for rank, p in enumerate(processes) if p.exitcode}
            assert not failed, f"rank → exit code: {failed}; the traceback is in what was written to stderr"
            assert time.monotonic() < deadline, f"the ranks are at work after {seconds} s still"
            time.sleep(0.02)
    finally:
        for process in processes:
            process.kill()
            process.join()
    assert [process.exitcode for process in processes] == [0] * ranks


def script(words: Sequence[str], told: Path) -> None:
    """Be a script with its arguments, and print into a file; to be called on ranks."""
    os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    sys.argv = list(words)
    runpy.run_path(words[0], run_name="__main__")
    sys.stdout.flush()
