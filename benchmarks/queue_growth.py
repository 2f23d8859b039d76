"""What the next deletion request costs after 10, 100 and 1,000 others: CPU seconds of a run, by what they go to.

    python benchmarks/queue_growth.py

Through the real code, with a tiny ResNet on 4,000 pictures of 8 × 8 of noise: so many requests of one picture each are
served by one run, and then one more by a run of its own, which measures all of them again. Then the history is written
of as many runs: copies of the last run's files, each a run of its own.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil
from transformers.utils import logging

from hf_lotus import LoTUS, UnlearningArguments
from hf_lotus.data.loading import DatasetArguments
from hf_lotus.models.loading import ModelArguments
from hf_lotus.requests import service
from hf_lotus.requests.history import write_history
from hf_lotus.requests.queue import DeletionRequest, RequestQueue

COUNTS = (10, 100, 1000)
ROWS, SIZE, CLASSES = 4000, 8, 4
# What is timed by itself: where it is called → what to call it.
PARTS = {
    "measure_requests": "measuring each request",
    "write_history": "history",
    "require_chain": "earlier models read",
    "record_split": "record",
}


def prepare(folder: Path) -> None:
    """A data set on the disk, and a model that was never trained: what it costs does not depend on what it knows."""
    draw = np.random.default_rng(0)
    parts = {}
    for name, count in (("train", ROWS), ("test", 1000)):
        pixels = draw.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
        columns = {
            "image": [PILImage.fromarray(each) for each in pixels],
            "label": draw.integers(0, CLASSES, count).tolist(),
            "user": [f"u{row}" for row in range(count)],
        }
        labels = ClassLabel(num_classes=CLASSES)
        features = Features({"image": Image(), "label": labels, "user": Value("string")})
        parts[name] = Dataset.from_dict(columns, features=features)
    DatasetDict(parts).save_to_disk(str(folder / "data"))
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )
    ResNetForImageClassification(config).save_pretrained(folder / "model")
    ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}).save_pretrained(folder / "model")


def add(queue: RequestQueue, rows: range) -> None:
    """A request for each of some users, who have one picture each."""
    for row in rows:
        selector = {"by": "column", "column": "user", "values": [f"u{row}"]}
        queue.add(DeletionRequest(f"r{row}", "2026-01-01", selector, "2026-01-01T00:00:00+00:00"))


def serve(queue: RequestQueue, folder: Path) -> None:
    """Serve what is open."""
    arguments = UnlearningArguments(
        str(folder / "unused"), num_train_epochs=1, use_cpu=True, disable_tqdm=True, save_strategy="no",
        logging_strategy="no", per_device_train_batch_size=256,
    )  # fmt: skip
    data = DatasetArguments(str(folder / "data"), duplicates="ignore")
    model = ModelArguments(str(folder / "model"))
    with contextlib.redirect_stdout(sys.stderr):  # where `Trainer` shows no bar it prints its logs
        service.serve(queue, model, data, arguments, LoTUS(stop_margin=2.0), record_classes=False)


def timed(spent: Counter, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose CPU seconds are added up."""

    def measured(*args: Any, **kwargs: Any) -> Any:
        started = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[what] += time.process_time() - started

    return measured


def many_runs(queue: RequestQueue, count: int) -> float:
    """CPU seconds of the history of so many runs, each of which measured all requests."""
    last = queue.runs()[-1].folder
    for number in range(len(queue.runs()) + 1, count + 1):
        copied = last.with_name(f"{number:04d}")
        shutil.copytree(last, copied, ignore=shutil.ignore_patterns("model", "plan.json"))
        plan = json.loads((last / "plan.json").read_text()) | {"requests": {}}
        (copied / "plan.json").write_text(json.dumps(plan))
    started = time.process_time()
    write_history(queue)
    return time.process_time() - started


def main() -> int:
    """Measure and print a Markdown table."""
    logging.set_verbosity_error()
    columns = ["the next run", *PARTS.values(), "history of as many runs"]
    print(f"| Requests before | {' | '.join(columns)} |\n|{'--:|' * (len(columns) + 1)}")
    spent: Counter = Counter()
    for name, what in PARTS.items():
        setattr(service, name, timed(spent, what, getattr(service, name)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for count in (1, *COUNTS):  # the first to warm up
            queue = RequestQueue(folder / f"queue-{count}")
            add(queue, range(count))
            serve(queue, folder)
            add(queue, range(count, count + 1))
            spent.clear()
            started = time.process_time()
            serve(queue, folder)
            whole = time.process_time() - started
            figures = [whole, *(spent[what] for what in PARTS.values()), many_runs(queue, count)]
            if count in COUNTS:
                print(f"| {count:,} | {' | '.join(f'{figure:.2f}' for figure in figures)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
