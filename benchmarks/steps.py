"""What the host waits for in an optimizer step of LoTUS; a run in bfloat16 over the bare float32 loop of `speed.py`.

python benchmarks/steps.py [--rows 5000] [--rounds 5]

Waiting is counted on a CPU too, where the same operators are called and nobody waits (`host_reads`). Bfloat16 is timed
only where the machine computes in it: to emulate it is slower than float32, and says nothing.
"""

from __future__ import annotations

import argparse
import copy
import platform
import tempfile
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from host_reads import host_reads
from speed import bare_round, of_a_round, pixels_and_labels, report, run_and_limit, say
from tasks import Task, load


def waiting(task: Task) -> None:
    """Print what the steps of a round would have a host wait for."""
    found: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = task.trainer(folder, 1)
        take = trainer._run_epoch

        def counted(**options: object) -> None:
            with host_reads() as now:
                take(**options)
            found.update(now)

        trainer._run_epoch = counted
        trainer.train()
    steps = trainer.state.global_step
    say(f"{'waiting:':12} {sum(found.values()) / steps:g} synchronisations with the device in each of {steps} steps")
    for place, times in found.items():
        say(f"{'':12} {times} times {place}")


def in_bfloat16(task: Task, rounds: int, repeats: int) -> None:
    """Print how fast a run by bfloat16 autocast is, over forward and backward passes alone in float32."""
    if not computes_in_bfloat16():
        say(f"{'bfloat16:':12} left out: this machine would emulate it")
        return
    with tempfile.TemporaryDirectory() as folder:
        trainer = task.trainer(folder, rounds, bf16=True, use_cpu=not torch.cuda.is_available())
        tensors = {name: pixels_and_labels(trainer, name) for name in ("forget", "retain")}
        size, model = len(trainer.train_dataset), copy.deepcopy(trainer.model)
        bare_pass = partial(bare_round, model, *of_a_round(tensors, size))
        ours, limit = run_and_limit(trainer, rounds, bare_pass, repeats)
    rates = f"{size / ours:,.0f} images/s of {size / limit:,.0f} bare in float32"
    report("bfloat16", rates, limit / ours, "of the float32 limit (the aim: 1.0)")


def computes_in_bfloat16() -> bool:
    """Whether the GPU, or else the CPU, has instructions for products in bfloat16."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = ""
    with suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    on_arm = platform.machine() in ("aarch64", "arm64")
    return any(flag in flags.split() for flag in (("bf16",) if on_arm else ("avx512_bf16", "amx_bf16")))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000, help="training rows to take")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of a run")
    parser.add_argument("--repeats", type=int, default=3, help="bare rounds to time before and after it")
    options = parser.parse_args()
    task = load(options.rows)
    waiting(task)
    in_bfloat16(task, options.rounds, options.repeats)


if __name__ == "__main__":
    main()
