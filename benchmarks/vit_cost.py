"""What unlearning costs at ImageNet's scale: ViT-B/16, 224 pixels, 1,000 classes, JPEGs of ImageNet's sizes.

    python benchmarks/vit_cost.py
    python benchmarks/vit_cost.py --steps 2 --batch_size 8 --threads 1 --output vit_cost.json

The model is made from its configuration, the pictures are noise: neither changes what is computed. Printed are images
per second of a round of LoTUS and of an evaluation over those of the bare passes (tensors that lie ready in memory;
forward and backward of the student alone, forward alone), what decoding adds once, and peak memory. On a GPU the bare
training pass is one CUDA graph, as in `speed.py`. On a CPU a few steps are enough, and take some minutes.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import resource
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from bare_graph import GraphedRound
from datasets import Dataset
from speed import bare_forward, bare_round, decode, of_a_round, pixels_and_labels, timed
from tasks import Task, noise_file, pictures
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

CLASSES = 1000
# Width, height and how many of twenty pictures: 473 × 394 on average, where ImageNet's are 469 × 387.
SIZES = ((500, 375, 9), (375, 500, 3), (500, 333, 4), (333, 500, 1), (240, 200, 2), (1024, 768, 1))
QUALITY = 90


def photographs(rows: int, present: int) -> tuple[Dataset, float]:
    """JPEGs of ImageNet's sizes with labels of the first `present` classes, and their mean size in kB."""
    noise = np.random.default_rng(0)
    files = [
        noise_file(noise, width, height, cell=4, quality=QUALITY)
        for width, height, often in SIZES
        for _ in range(often)
    ]
    chosen = noise.permutation(np.arange(rows) % len(files))
    return pictures([files[one] for one in chosen], CLASSES, present), float(np.mean(list(map(len, files))) / 1e3)


def task_of(train: Dataset, test: Dataset) -> Task:
    """A tenth of the training pictures is to be forgotten by a model made from its configuration."""
    torch.manual_seed(0)
    return Task.of(ViTForImageClassification(ViTConfig(num_labels=CLASSES)), ViTImageProcessorPil(), train, test)


def peak(device: torch.device) -> float:
    """GiB: the most that was taken until now, of the device, or of this process where it is a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(steps: int, batch_size: int, rounds: int, bf16: bool) -> dict[str, object]:
    """All figures, by name; rates in images per second."""
    rows = round(steps * batch_size / 0.37)  # a round of LoTUS is a tenth and 30 % of the rest
    present = min(CLASSES, max(rows // 16, 2))
    (train, kilobytes), (test, _) = photographs(rows, present), photographs(max(rows // 4, 8), present)
    task = task_of(train, test)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"per_device_train_batch_size": batch_size, "per_device_eval_batch_size": 8 * batch_size}
        trainer = task.trainer(folder, rounds, **settings, bf16=bf16, eval_strategy="no")
        device, sets = trainer.args.device, {name: data for name, data in trainer.splits.items() if data is not None}
        decoding = timed(lambda: [decode(data) for data in sets.values()])[0]
        samples = sum(map(len, sets.values()))
        loaded = peak(device)

        size = len(trainer.train_dataset)
        tensors = {name: pixels_and_labels(trainer, name) for name in sets}
        pixels, labels = of_a_round(tensors, size)
        model = copy.deepcopy(trainer.model)
        on_gpu = device.type == "cuda"

        def plain() -> None:
            bare_round(model, pixels, labels, batch_size, bf16)

        bare = GraphedRound(model, pixels, labels, batch_size, bf16) if on_gpu else plain
        bare()  # warms up
        limits = [timed(bare)[0]]
        bare_peak = peak(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            forward = timed(lambda: bare_forward(model, tensors, 8 * batch_size))[0]
        trainer.train()
        run_peak = peak(device)
        limits.append(timed(bare)[0])
        trainer.evaluator.yardstick.controls  # noqa: B018  the original's predictions and the null, once a run
        full = timed(trainer.compare)[0]

    ours, limit = trainer.unlearning_seconds / rounds, float(np.mean(limits))
    return {
        "hardware": torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "machine": platform.machine(), "torch": torch.__version__, "precision": "bf16" if bf16 else "float32",
        "batch_size": batch_size, "images_of_a_round": size, "rounds": rounds, "images_of_an_evaluation": samples,
        "kilobytes_of_a_jpeg": kilobytes, "decoded_per_second": samples / decoding,
        "round_per_second": size / ours, "bare_per_second": size / limit, "round_share": limit / ours,
        "evaluated_per_second": samples / full, "bare_forward_per_second": samples / forward,
        "evaluation_share": forward / full,
        "peak_gib_loaded": loaded, "peak_gib_bare": bare_peak, "peak_gib_run": run_peak,
    }  # fmt: skip


def main() -> None:
    """Measure, print a table, and write the figures where they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--steps", type=int, default=200 if on_gpu else 3, help="steps of a round")
    parser.add_argument("--batch_size", type=int, default=64 if on_gpu else 8, help="images of a step")
    parser.add_argument("--rounds", type=int, default=3 if on_gpu else 1, help="rounds of the run")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's choice by default")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 by autocast, of the run and of the bare passes")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    found = measure(options.steps, options.batch_size, options.rounds, options.bf16)
    if options.output:
        options.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    about = (
        f"ViT-B/16, 224 pixels, 1,000 classes, {found['precision']}, batches of {found['batch_size']}; "
        f"{found['hardware']} ({found['machine']}), torch {found['torch']}\n\n"
        "| | images per second | bare | share | peak GiB |\n|:--|--:|--:|--:|--:|\n"
        f"| a round of {found['images_of_a_round']:,} images | {found['round_per_second']:.3g} | "
        f"{found['bare_per_second']:.3g} | {found['round_share']:.2f} | {found['peak_gib_run']:.2f} "
        f"(bare {found['peak_gib_bare']:.2f}, before {found['peak_gib_loaded']:.2f}) |\n"
        f"| an evaluation of {found['images_of_an_evaluation']:,} | {found['evaluated_per_second']:.3g} | "
        f"{found['bare_forward_per_second']:.3g} | {found['evaluation_share']:.2f} | |\n"
        f"| decoding, once ({found['kilobytes_of_a_jpeg']:.0f} kB each) | {found['decoded_per_second']:.3g} | | | |\n"
    )
    sys.stdout.write(about)


if __name__ == "__main__":
    main()
