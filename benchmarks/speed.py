"""How near a LoTUS round and an evaluation come to their limits, as ratios measured in one run.

    make benchmark

* Rounds: images per second of a LoTUS run of `UnlearningTrainer` (teacher, temperatures, data and optimizer included,
  images decoded before) over those of a bare PyTorch loop, which takes tensors that lie ready in memory through the
  student's forward and backward pass alone.
* Evaluation: seconds for every metric of one model over those of one bare forward pass over the same four sets.

Data and model: the CIFAR-10 checkpoint beside the project where it is, else the same ResNet on scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from datasets import Dataset, concatenate_datasets, load_dataset
from torch import Tensor, nn
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTImageProcessorPil,
)

from hf_lotus import ForgetRetainSplit, LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.cli.demo import load_parts

SHARED = Path(__file__).parents[2] / "shared"


def load(rows: int) -> tuple[nn.Module, object, Dataset, Dataset]:
    """A model, its processor, and a train and a test set of at most `rows` rows."""
    checkpoint = SHARED / "checkpoints" / "cifar10-resnet" / "original"
    if checkpoint.is_dir():
        data = load_dataset(str(SHARED / "data" / "cifar10"))
        model = AutoModelForImageClassification.from_pretrained(checkpoint)
        processor = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")
        train, test = data["train"], data["test"]
    else:
        parts = load_parts(seed=0)
        config = ResNetConfig(
            embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[2] * 4, layer_type="basic", num_labels=10
        )
        model, processor = ResNetForImageClassification(config), ViTImageProcessorPil(size={"height": 32, "width": 32})
        train = concatenate_datasets([parts.train] * 12)
        test = concatenate_datasets([parts.test, parts.unseen] * 5)
    return model, processor, train.select(range(min(rows, len(train)))), test.select(range(min(rows // 4, len(test))))


def pixels_and_labels(trainer: UnlearningTrainer, split: str) -> tuple[Tensor, Tensor]:
    """A whole split as normalised float tensors in memory, on the trainer's device."""
    images = trainer.splits[split]
    batch = images.finish(images.__getitems__(range(len(images))))
    return batch["pixel_values"].to(trainer.args.device), batch["labels"].to(trainer.args.device)


def synchronize() -> None:
    """Wait for the device; its work is asynchronous."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bare_round(model: nn.Module, pixels: Tensor, labels: Tensor, batch_size: int) -> float:
    """Seconds of forward and backward alone over tensors in memory, in training mode."""
    model.train()
    synchronize()
    started = time.perf_counter()
    for start in range(0, len(labels), batch_size):
        logits = model(pixel_values=pixels[start : start + batch_size]).logits
        nn.functional.cross_entropy(logits, labels[start : start + batch_size]).backward()
        model.zero_grad()
    synchronize()
    return time.perf_counter() - started


@torch.inference_mode()
def bare_forward(model: nn.Module, splits: dict[str, tuple[Tensor, Tensor]], batch_size: int) -> float:
    """Seconds of one forward pass over tensors in memory, in eval mode."""
    model.eval()
    synchronize()
    started = time.perf_counter()
    for pixels, labels in splits.values():
        for start in range(0, len(labels), batch_size):
            model(pixel_values=pixels[start : start + batch_size])
    synchronize()
    return time.perf_counter() - started


def main() -> None:
    """Measure both ratios and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="training rows to take")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of the run")
    parser.add_argument("--repeats", type=int, default=5, help="bare rounds and evaluations to time")
    options = parser.parse_args()
    model, processor, train, test = load(options.rows)
    split = ForgetRetainSplit.from_fraction(train, 0.1, label_column="label")
    held_out = ForgetRetainSplit.from_fraction(test, 0.5, label_column="label")
    with tempfile.TemporaryDirectory() as folder:
        trainer = UnlearningTrainer(
            model,
            UnlearningArguments(
                folder, num_train_epochs=options.rounds, save_strategy="no", logging_strategy="no",
                disable_tqdm=True, learning_rate=1e-4, per_device_train_batch_size=128,
            ),
            LoTUS(stop_margin=2.0),
            forget_dataset=split.forget,
            retain_dataset=split.retain,
            unseen_dataset=held_out.forget,
            eval_dataset=held_out.retain,
            processing_class=processor,
        )  # fmt: skip
        tensors = {name: pixels_and_labels(trainer, name) for name in trainer.splits}
        size, batch_size = len(trainer.train_dataset), trainer.args.train_batch_size
        pixels, labels = (torch.cat([tensors["forget"][i], tensors["retain"][i]])[:size] for i in (0, 1))
        before = [bare_round(model, pixels, labels, batch_size) for _ in range(options.repeats)]
        trainer.train()
        after = [bare_round(model, pixels, labels, batch_size) for _ in range(options.repeats)]
        ours, bare = trainer.unlearning_seconds / options.rounds, statistics.median(before[1:] + after)

        trainer.evaluator.yardstick.controls  # noqa: B018  the original's predictions and the null, once a run
        full, forward = [], []
        for _ in range(options.repeats):
            forward.append(bare_forward(model, tensors, trainer.args.eval_batch_size))
            started = time.perf_counter()
            trainer.compare()
            full.append(time.perf_counter() - started)
    full, forward = statistics.median(full), statistics.median(forward)
    samples = sum(len(labels) for _, labels in tensors.values())
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"device: {device} ({platform.machine()}), torch {torch.__version__}, {type(model).__name__}")
    print(f"rounds:     {size / ours:8.0f} images/s of {size / bare:8.0f} bare: {bare / ours:.2f} of it (aim ≥ 0.70)")
    rates = f"{samples / full:8.0f} images/s of {samples / forward:8.0f} bare"
    print(f"evaluation: {rates}: {full / forward:.2f} times its cost (aim ≤ 1.3)")


if __name__ == "__main__":
    main()
