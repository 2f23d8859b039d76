"""What a LoTUS run costs as the data grows: seconds and memory over 1,000 … 200,000 training rows, one process a size.

    make benchmark

Seconds should grow with the samples of a round (the forget set and 30 % of the rest), and memory not at all. *Memory*
is what the process has of its own before the run, anonymous and shared, and how much more it has at its peak; *mapped*
are pages of files, which the system takes back when it needs them: the data set's, and the ready pixels of large sets.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from datasets import Dataset, concatenate_datasets, disable_progress_bars, load_from_disk
from tasks import Task, load
from transformers import ResNetConfig, ResNetForImageClassification

from hf_lotus import ForgetRetainSplit, LoTUS, UnlearningArguments, UnlearningTrainer

SIZES = (1_000, 5_000, 20_000, 50_000, 100_000, 200_000)


class PeakMemory(threading.Thread):
    """Looks at the process's memory every few milliseconds, in MiB."""

    def __init__(self):
        super().__init__(daemon=True)
        self.own = self.mapped = 0.0
        self.stop = threading.Event()

    def run(self) -> None:
        """Until `stop` is set."""
        while not self.stop.wait(0.02):
            lines = dict(
                line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if "kB" in line
            )
            sizes = {name: int(value.split()[0]) / 1024 for name, value in lines.items()}
            self.own = max(self.own, sizes["RssAnon"] + sizes["RssShmem"])
            self.mapped = max(self.mapped, sizes["RssFile"])


def measure(rows: int) -> dict[str, float]:
    """One run over `rows` rows, from the files to the unlearned model; and the memory before it and at its peak."""
    disable_progress_bars()
    task = load(50_000)
    train = concatenate_datasets([task.sets["forget"], task.sets["retain"]])
    with tempfile.TemporaryDirectory() as folder:
        # On the disk, as a large data set is; a concatenation would have the same rows several times over.
        concatenate_datasets([train] * -(-rows // len(train))).select(range(rows)).save_to_disk(folder)
        return measure_run(load_from_disk(folder), task)


def measure_run(train: Dataset, task: Task) -> dict[str, float]:
    """Unlearn a tenth of a data set."""
    split = ForgetRetainSplit.from_fraction(train, 0.1, label_column="label")
    model = ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=10)
    )
    memory = PeakMemory()
    memory.start()
    time.sleep(0.1)
    before, started = memory.own, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        arguments = UnlearningArguments(
            folder, num_train_epochs=3, save_strategy="no", logging_strategy="no", disable_tqdm=True,
            learning_rate=1e-4, per_device_train_batch_size=128,
        )  # fmt: skip
        trainer = UnlearningTrainer(
            model,
            arguments,
            LoTUS(stop_margin=2.0),
            forget_dataset=split.forget,
            retain_dataset=split.retain,
            unseen_dataset=task.sets["unseen"],
            processing_class=task.processor,
        )
        trainer.train()
    seconds = time.perf_counter() - started
    memory.stop.set()
    samples = len(trainer.train_dataset)
    return {"rows": len(train), "samples": samples, "seconds": seconds, "before": before, "own": memory.own,
            "mapped": memory.mapped}  # fmt: skip


def main() -> None:
    """Measure every size in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="training rows")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        sys.stdout.write("\n" + json.dumps(measure(options.one)) + "\n")
        return
    sys.stdout.write("| Rows | Samples of a round | Seconds | Seconds a 1,000 samples | Memory, MiB | Mapped, MiB |\n")
    sys.stdout.write("|-----:|-------------------:|--------:|------------------------:|------------:|------------:|\n")
    for size in options.sizes:
        command = [sys.executable, __file__, "--one", str(size)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        cells = [f"{found['rows']:,}", f"{found['samples']:,}", f"{found['seconds']:.1f}",
                 f"{found['seconds'] / found['samples'] * 1000:.2f}", f"{found['before']:.0f} + "
                 f"{found['own'] - found['before']:.0f}", f"{found['mapped']:.0f}"]  # fmt: skip
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
