"""RF-JSD's `add_batch` beside evaluate's own way through Arrow: seconds, and memory above the input.

Each way runs in a process of its own on the same 50,000 × 1,000 float32 rows, so that its peak is its own.
Run `python benchmarks/rf_jsd_streaming.py`; about half a minute, nearly all of it Arrow's.

    python benchmarks/rf_jsd_streaming.py grows

streams growing numbers of rows instead, up to 1,281,167 × 1,000 (ImageNet) beside 50,000 of unseen data, in batches
as a model would give them: the memory must not grow, and the time must grow as the rows do.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time

import datasets
import evaluate
import numpy as np

from hf_lotus.publishing.spaces import metric_path

ROWS, CLASSES, BATCH = 50_000, 1_000, 256
GROWING = (50_000, 200_000, 1_281_167)
MEMORY_LIMIT, TIME_LIMIT, GROWTH_LIMIT = 50, 1.0, 10  # MiB, seconds, MiB


class ArrowSums(evaluate.Metric):
    """The same inputs in a metric that leaves `add_batch` and `compute` as evaluate has them."""

    def _info(self) -> evaluate.MetricInfo:
        features = {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=datasets.Features(features)
        )

    def _compute(self, predictions: list, references: list) -> dict:
        return {"rows": len(predictions)}


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Distributions and labels, made in place so that nothing but the input itself counts as input."""
    rng = np.random.default_rng(0)
    probabilities = rng.random((ROWS, CLASSES), dtype=np.float32)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities, rng.integers(0, CLASSES, ROWS)


def measure(way: str, cache: str) -> dict[str, float]:
    """Seconds and MiB above the input of one way, in this process."""
    probabilities, labels = rows()
    if way == "arrow":
        metric, extra, batches = ArrowSums(cache_dir=cache), {}, [slice(None)]
    else:
        metric = evaluate.load(metric_path("rf_jsd"))
        extra = {"source": "forget"}
        size = ROWS if way == "one batch" else BATCH
        batches = [slice(start, start + size) for start in range(0, ROWS, size)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    for batch in batches:
        metric.add_batch(predictions=probabilities[batch], references=labels[batch], **extra)
    if way == "arrow":
        metric.compute()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "MiB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def streamed(count: str) -> dict[str, float]:
    """Seconds of the metric alone, and MiB above one batch, for so many forget rows and 50,000 unseen ones."""
    rng = np.random.default_rng(0)
    probabilities = rng.random((4 * BATCH, CLASSES), dtype=np.float32)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = np.arange(len(probabilities)) % CLASSES
    metric, seconds = evaluate.load(metric_path("rf_jsd")), 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for source, rows in (("forget", int(count)), ("unseen", ROWS)):
        for start in range(0, rows, len(labels)):
            size = min(rows - start, len(labels))
            started = time.process_time()
            metric.add_batch(predictions=probabilities[:size], references=labels[:size], source=source)
            seconds += time.process_time() - started
    started = time.process_time()
    metric.compute()
    seconds += time.process_time() - started
    return {"seconds": seconds, "MiB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def grows() -> int:
    """Print how time and memory grow with the rows; fail if the memory does, by more than the allocator's whims."""
    print(f"| Rows × {CLASSES:,} | CPU seconds | Microseconds a row | MiB above one batch |\n|--:|--:|--:|--:|")
    taken = []
    for count in GROWING:
        command = [sys.executable, __file__, "streamed", str(count)]
        result = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
        each = result["seconds"] / (count + ROWS) * 1e6
        print(f"| {count:,} | {result['seconds']:.2f} | {each:.2f} | {result['MiB']:.1f} |", flush=True)
        taken.append(result["MiB"])
    return 0 if max(taken) - min(taken) <= GROWTH_LIMIT else 1


def main() -> int:
    """Measure each way, print a table, and fail if the streaming ways exceed their limits."""
    ways = ("one batch", f"batches of {BATCH}", "arrow")
    print(f"{ROWS:,} rows of {CLASSES:,} classes, float32: {ROWS * CLASSES * 4 / 2**20:.0f} MiB of input")
    print(f"{'way':<16} {'seconds':>8} {'MiB above input':>16}")
    passed = True
    for way in ways:
        with tempfile.TemporaryDirectory() as cache:
            done = subprocess.run([sys.executable, __file__, way, cache], stdout=subprocess.PIPE, check=True)
        result = json.loads(done.stdout.splitlines()[-1])
        print(f"{way:<16} {result['seconds']:>8.2f} {result['MiB']:>16.1f}", flush=True)
        passed &= way == "arrow" or (result["MiB"] <= MEMORY_LIMIT and result["seconds"] < TIME_LIMIT)
    print(f"limits: {TIME_LIMIT:g} s and {MEMORY_LIMIT} MiB: {'kept' if passed else 'EXCEEDED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["grows"]:
        sys.exit(grows())
    elif sys.argv[1:2] == ["streamed"]:
        print(json.dumps(streamed(sys.argv[2])))
    elif len(sys.argv) > 1:
        print(json.dumps(measure(*sys.argv[1:])))
    else:
        sys.exit(main())
