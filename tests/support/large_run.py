"""A run over more pixels than its sets may hold in memory, in a process of its own whose memory is looked at.

    MALLOC_MMAP_THRESHOLD_=65536 python -m tests.support.large_run FOLDER

The variable has freed blocks given back at once, so that what is seen is what is held. Prints one JSON line, in bytes.
"""

import io
import json
import sys
import threading
from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Image, load_from_disk
from PIL import Image as PILImage
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from hf_lotus import ForgetRetainSplit, LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.data import images

STATUS, SIZE, ROWS = Path("/proc/self/status"), 224, 750
# A quarter of what is allowed: a quarter of the pictures is enough to see whether the bound holds.
images.IN_MEMORY_BYTES //= 4


class Peak(threading.Thread):
    """The most memory that the process had of its own while the block ran: anonymous and shared."""

    def __enter__(self):
        self.first = self.most = own_memory()
        self.ended = threading.Event()
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()

    def run(self):
        while not self.ended.wait(0.01):
            self.most = max(self.most, own_memory())


def own_memory():
    sizes = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if "kB" in line)
    return sum(int(sizes[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem"))


def photographs(folder):
    """Pictures on the disk, a third of them to be forgotten, that are 107 MiB of pixels when they are ready."""
    noise, pictures = np.random.default_rng(0), []
    for _ in range(20):
        buffer = io.BytesIO()
        PILImage.fromarray(noise.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(buffer, "JPEG", quality=50)
        pictures.append({"bytes": buffer.getvalue(), "path": None})
    features = Features({"image": Image(), "label": ClassLabel(num_classes=10)})
    columns = {"image": [pictures[row % 20] for row in range(ROWS)], "label": [row % 10 for row in range(ROWS)]}
    Dataset.from_dict(columns, features=features).save_to_disk(folder)
    return load_from_disk(folder)


def main(folder):
    torch.set_num_threads(1)
    split = ForgetRetainSplit.from_indices(photographs(folder / "photographs"), range(ROWS // 3))
    config = ViTConfig(
        image_size=SIZE, patch_size=112, hidden_size=16, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=16, num_labels=10,
    )  # fmt: skip
    arguments = UnlearningArguments(
        str(folder / "out"), num_train_epochs=2, per_device_train_batch_size=16, per_device_eval_batch_size=16,
        use_cpu=True, disable_tqdm=True, save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    trainer = UnlearningTrainer(
        ViTForImageClassification(config),
        arguments,
        LoTUS(stop_margin=2.0),
        forget_dataset=split.forget.select(range(20, len(split.forget))),
        retain_dataset=split.retain,
        unseen_dataset=split.forget.select(range(20)),
        processing_class=ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}),
    )
    with Peak() as memory:
        trainer.train()
        trainer.compare()
    pixels = {name: trainer.splits[name].pixels.nbytes for name in ("forget", "retain", "unseen")}
    ready = all(trainer.splits[name].is_ready.all() for name in pixels)
    found = {"more": memory.most - memory.first, "pixels": pixels, "ready": ready, "allowed": images.IN_MEMORY_BYTES}
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
