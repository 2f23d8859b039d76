"""What a picture costs until its pixels are ready: decoded by one process, by several, or read from the store.

python benchmarks/decoding.py [--photographs 1024] [--small 20000] [--workers 2]

JPEGs of ImageNet's size, to 224 pixels; and CIFAR-10 where it lies beside the project, whose pictures have their size
already. Times are of `ReadyImages` from the data set to all pixels, files of the store written and synced. The pixels
of all three ways are compared.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
from tasks import SHARED, photograph_files, pictures
from transformers import ViTImageProcessorPil

from hf_lotus.data.images import ReadyImages


def photographs(rows: int) -> Dataset:
    """Photographs of which no two are the same file, though they show the same: the store would have one decoded."""
    files = photograph_files()
    return pictures([files[row % len(files)] + row.to_bytes(4, "big") for row in range(rows)])


def milliseconds(data: Dataset, size: int, store: Path, workers: int = 0) -> tuple[float, ReadyImages]:
    """Milliseconds a picture, and the pictures made ready."""
    processor = ViTImageProcessorPil(size={"height": size, "width": size})
    started = time.perf_counter()
    ready = ReadyImages(data, processor, ready_images_dir=str(store), decoding_workers=workers)
    return (time.perf_counter() - started) * 1000 / len(data), ready


def measure(what: str, data: Dataset, size: int, workers: int) -> None:
    """Print a row."""
    with tempfile.TemporaryDirectory() as folder:
        alone, expected = milliseconds(data, size, Path(folder) / "one")
        pool, by_pool = milliseconds(data, size, Path(folder) / "pool", workers)
        stored, read = milliseconds(data, size, Path(folder) / "pool")
        assert torch.equal(expected.pixels, by_pool.pixels) and torch.equal(expected.pixels, read.pixels)
    figures = f"{alone:.3f} | {pool:.3f} | {alone / pool:.2f} | {stored:.3f} | {alone / stored:.1f}"
    sys.stdout.write(f"| {what} | {len(data):,} | {figures} |\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=1024, help="JPEGs of 500 by 375 pixels")
    parser.add_argument("--small", type=int, default=20_000, help="pictures of CIFAR-10")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes of the pool")
    options = parser.parse_args()
    torch.set_num_threads(1)  # that of one process is to be one
    sys.stdout.write(
        f"| Pictures | | ms each, one process | by {options.workers} | faster | from the store | faster |\n"
        "|:--|--:|--:|--:|--:|--:|--:|\n"
    )
    measure("JPEG, 500 × 375 to 224", photographs(options.photographs), 224, options.workers)
    if (SHARED / "data" / "cifar10").is_dir():
        small = load_dataset(str(SHARED / "data" / "cifar10"))["train"]
        measure("PNG, 32 × 32 as they are", small.select(range(min(options.small, len(small)))), 32, options.workers)


if __name__ == "__main__":
    main()
