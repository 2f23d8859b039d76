"""What two and four processes on one machine gain: a round, an evaluation, a comparison, and a pool of models.

    python benchmarks/processes.py
    python benchmarks/processes.py --rows 600 --processes 1 2 --output processes.json

Every process has one thread (OMP_NUM_THREADS=1) and times its work alone, once all have imported what they need and
decoded their pictures. **More processes than the machine has cores cannot speed anything up**: what their row then
shows is what they cost. It takes some five minutes on two cores that nothing else uses.

* A round of LoTUS and an evaluation: ranks (DDP over gloo) deal every batch out among them, of one size in all.
* `compare`, by ranks: its rows come in turn, each dealt out likewise. Side by side: a process has some of the methods
  to itself, in a folder of its own, and measures the original too; the command itself does not divide rows so.
* A pool: processes that are started on one folder take a model each, by locks on files, as `hf-lotus pool` does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# What is divided, by the work that it is part of.
WORK = {"ranks": ("round", "evaluation", "compare by ranks"), "apart": ("compare side by side",), "pool": ("pool",)}
BATCH, ROUNDS = 128, 3
_PATIENCE = 600.0


def main() -> None:
    """Start the processes of every work, print a table of what they tell, and write it where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000, help="training rows to take")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="how many, 1 first")
    parser.add_argument("--output", type=Path, help="JSON file for the seconds")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)  # the work, this process, and of how many
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work, number, of = options.worker
        return _be_worker(work, int(number), int(of), options.rows, options.folder)
    if options.processes[0] != 1:
        parser.error("--processes must begin with 1, which the others are held against.")
    seconds: dict[str, dict[int, float]] = {}
    for of in options.processes:
        for work in WORK:
            for what, taken in started(work, of, options.rows).items():
                seconds.setdefault(what, {})[of] = taken
                sys.stderr.write(f"{what}, {of}: {taken:.2f} s\n")
    about = {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0)), "rows": options.rows}
    if options.output:
        options.output.write_text(json.dumps({**about, "seconds": seconds}, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(table(seconds, options.processes, about["cores"]))


def table(seconds: dict[str, dict[int, float]], processes: list[int], cores: int) -> str:
    """Seconds of one process, and how many times as fast more of them are; a Markdown table."""
    more = processes[1:]
    heads = ["", "1 process, s", *(f"{of} processes" + (" (more than cores)" if of > cores else "") for of in more)]
    lines = ["| " + " | ".join(heads) + " |", "|:--|" + "--:|" * (len(heads) - 1)]
    for what, taken in seconds.items():
        gains = [f"{taken[1] / taken[of]:.2f} times" for of in more]
        lines.append("| " + " | ".join([what, f"{taken[1]:.1f}", *gains]) + " |")
    return f"{cores} cores, one thread a process\n\n" + "\n".join(lines) + "\n"


def started(work: str, of: int, rows: int) -> dict[str, float]:
    """Start the processes of a work and wait for them: what was timed → the slowest one's seconds.

    Raises:
        SystemExit: if a process fails; the others are ended.
    """
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        children = []
        for number in range(of):
            places = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
            if work == "ranks" and of > 1:
                places |= {"RANK": str(number), "LOCAL_RANK": str(number), "MASTER_ADDR": "127.0.0.1"}
                places |= {"WORLD_SIZE": str(of), "LOCAL_WORLD_SIZE": str(of), "MASTER_PORT": str(port)}
            words = [sys.executable, __file__, "--worker", work, str(number), str(of)]
            words += ["--rows", str(rows), "--folder", folder]
            children.append(subprocess.Popen(words, env={**os.environ, **places}, stdout=subprocess.DEVNULL))
        try:
            while any(child.poll() is None for child in children):
                if any(child.poll() for child in children):
                    raise SystemExit(f"{work}: a process failed; what it wrote stands above.")
                time.sleep(0.1)
        finally:
            for child in children:
                child.kill()
                child.wait()
        if any(child.returncode for child in children):
            raise SystemExit(f"{work}: a process failed; what it wrote stands above.")
        told = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("told-*.json"))]
        return {what: max(one[what] for one in told) for what in WORK[work]}


# ---- what a process does; the package is imported by the processes alone ----


def _be_worker(work: str, number: int, of: int, rows: int, folder: Path) -> None:
    found = {"ranks": _as_rank, "apart": _apart, "pool": _pool}[work](number, of, rows, folder)
    (folder / f"told-{number}.json").write_text(json.dumps(found))


def _meet(folder: Path, name: str, number: int, of: int) -> None:
    """Wait until all processes are here, so that none is timed while another still imports."""
    (folder / f"{name}-{number}.here").touch()
    deadline = time.monotonic() + _PATIENCE
    while len(list(folder.glob(f"{name}-*.here"))) < of:
        if time.monotonic() > deadline:
            raise TimeoutError(f"Only some of {of} processes have come to {name!r} within {_PATIENCE:.0f} s.")
        time.sleep(0.01)


def _timed(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _decoded(trainer: object) -> None:
    for data in trainer.splits.values():  # type: ignore[attr-defined]  # an `UnlearningTrainer`
        data.__getitems__(range(len(data)))


def _as_rank(number: int, of: int, rows: int, folder: Path) -> dict[str, float]:
    from tasks import load

    task = load(rows)
    # As many samples a step in all, however many ranks; gloo, also where there is a GPU.
    settings = {"use_cpu": True, "per_device_train_batch_size": max(BATCH // of, 1)}
    trainer = task.trainer(str(folder / "run"), ROUNDS, **settings, eval_strategy="no")
    _decoded(trainer)
    _ = trainer.evaluator.yardstick  # the original's predictions and the null, once a run
    _meet(folder, "round", number, of)
    trainer.train()
    _meet(folder, "evaluation", number, of)
    evaluation = _timed(lambda: trainer.evaluator.yardstick.measure("student", trainer.student_predictions()))
    _meet(folder, "compare", number, of)
    compare = _timed(lambda: _compare(task, folder / "compare", list(_methods()), settings))
    found = {"round": trainer.unlearning_seconds / ROUNDS, "evaluation": evaluation, "compare by ranks": compare}
    trainer.end()
    return found


def _methods() -> dict[str, object]:
    from hf_lotus import Finetune, LoTUS
    from hf_lotus.methods import Delete, RandomLabels

    return {
        "lotus": LoTUS(stop_margin=2.0), "finetune": Finetune(retain_fraction=0.3), "delete": Delete(),
        "random_labels": RandomLabels(retain_fraction=0.3),
    }  # fmt: skip


def _compare(task: object, folder: Path, names: list[str], settings: dict[str, object]) -> None:
    import copy

    from hf_lotus import Comparison, Contender, UnlearningArguments

    methods = _methods()
    common = {"num_train_epochs": 1, "learning_rate": 1e-4, "disable_tqdm": True, "save_strategy": "no"}
    arguments = UnlearningArguments(str(folder), **{**common, "per_device_train_batch_size": BATCH, **settings})
    sets = {f"{'eval' if name == 'test' else name}_dataset": data for name, data in task.sets.items()}  # type: ignore[attr-defined]
    comparison = Comparison(copy.deepcopy(task.model), arguments, processing_class=task.processor, **sets)  # type: ignore[attr-defined]
    comparison.run({name: Contender(methods[name]) for name in names})


def _apart(number: int, of: int, rows: int, folder: Path) -> dict[str, float]:
    from tasks import load

    task, mine = load(rows), list(_methods())[number::of]
    _meet(folder, "apart", number, of)
    own = folder / f"compare-{number}"
    return {"compare side by side": _timed(lambda: _compare(task, own, mine, {"use_cpu": True})) if mine else 0.0}


def _pool(number: int, of: int, rows: int, folder: Path) -> dict[str, float]:
    import copy

    import torch
    from datasets import concatenate_datasets
    from tasks import load

    from hf_lotus import UnlearningArguments
    from hf_lotus.audit.pool_training import PoolData, PoolSettings, train_pool

    task = load(rows)
    train = concatenate_datasets([task.sets["forget"], task.sets["retain"]])
    data = PoolData(train, task.sets["unseen"], task.sets["test"], task.processor)
    for part in ("train", "unseen", "test"):
        samples = data.ready(part)
        samples.__getitems__(range(len(samples)))

    def build(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return type(task.model)(copy.deepcopy(task.model.config))

    arguments = UnlearningArguments(
        str(folder / "runs"), num_train_epochs=3, learning_rate=1e-3, per_device_train_batch_size=BATCH, use_cpu=True,
        disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    _meet(folder, "pool", number, of)
    settings = PoolSettings(kind="halves", models=4)
    return {"pool": _timed(lambda: train_pool(folder / "pool", data, build, arguments, settings))}


if __name__ == "__main__":
    main()
