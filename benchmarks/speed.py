"""How fast a LoTUS run and an evaluation are, as ratios measured in one run on one machine.

    make benchmark

* Against the limit: images per second of a run of `UnlearningTrainer` (teacher, temperatures, data, optimizer) over
  those of a bare PyTorch loop, which takes tensors that lie ready in memory through the student's forward and backward
  pass alone; on a GPU as one CUDA graph (`bare_graph.py`), which takes the host no time.
* Evaluation: seconds for every metric of one model over those of one bare forward pass over the same four sets.
* Against a plain loop (`plain_loop.py`), end to end: unlearn for the same rounds and measure the model and the
  original, from images as they lie in the data set. Both ways' figures are printed: both do the work.

Data and model: the CIFAR-10 checkpoint beside the project where it is, else the same ResNet on scikit-learn's digits.
`--task resnet18` and `--task vit-b16` take these models at 224 pixels on JPEGs of ImageNet's size, for a GPU, and then
time what the project aims at there: a tenth of CIFAR-10 out of each, with LoTUS's own settings. Without a GPU they say
what is left out.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial

import plain_loop
import torch
from bare_graph import GraphedRound
from tasks import ALPHA, BATCH, RATE, Task, cifar10_sized, load
from torch import Tensor, nn

from hf_lotus import UnlearningTrainer
from hf_lotus.data.images import ReadyImages

# Seconds in which a tenth of CIFAR-10 is to be out of a model, on a GPU.
AIMS = {"resnet18": 3.0, "vit-b16": 20.0}


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """Seconds of wall time, the device's asynchronous work included; and what the function returned."""
    started = time.perf_counter()
    found = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, found


def pixels_and_labels(trainer: UnlearningTrainer, split: str) -> tuple[Tensor, Tensor]:
    """A whole split as normalised float tensors in memory, on the trainer's device."""
    images = trainer.splits[split]
    batch = images.finish(images.__getitems__(range(len(images))))
    return batch["pixel_values"].to(trainer.args.device), batch["labels"].to(trainer.args.device)


def of_a_round(tensors: Mapping[str, tuple[Tensor, Tensor]], size: int) -> tuple[Tensor, Tensor]:
    """Pixels and labels of as many samples as a round has, those to forget first."""
    pixels, labels = (torch.cat([tensors["forget"][i], tensors["retain"][i]])[:size] for i in (0, 1))
    return pixels, labels


def bare_round(model: nn.Module, pixels: Tensor, labels: Tensor, batch_size: int = BATCH, bf16: bool = False) -> None:
    """Forward and backward alone over tensors in memory, in training mode."""
    model.train()
    for start in range(0, len(labels), batch_size):
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
            logits = model(pixel_values=pixels[start : start + batch_size]).logits
        nn.functional.cross_entropy(logits.float(), labels[start : start + batch_size]).backward()
        model.zero_grad()


def run_and_limit(
    trainer: UnlearningTrainer, rounds: int, bare_pass: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Seconds of a round of a run, and of the bare pass: timed before and after, as a machine is not equally fast.

    The first pass of all warms up.
    """
    bare = [timed(bare_pass)[0] for _ in range(repeats + 1)][1:]
    trainer.train()
    bare += [timed(bare_pass)[0] for _ in range(repeats)]
    return trainer.unlearning_seconds / rounds, statistics.median(bare)


def bare_steps(
    model: nn.Module, teacher: nn.Module, pixels: Tensor, labels: Tensor, forget: Tensor, rounds: int
) -> None:
    """What LoTUS asks for at least: the optimizer's steps too, the teacher once, the forget set before each round."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    bare_forward(teacher, {"round": (pixels, labels)}, 256)
    for _ in range(rounds):
        bare_forward(model, {"forget": (forget, labels[: len(forget)])}, 256)
        model.train()
        for start in range(0, len(labels), BATCH):
            logits = model(pixel_values=pixels[start : start + BATCH]).logits
            nn.functional.cross_entropy(logits, labels[start : start + BATCH]).backward()
            optimizer.step()
            optimizer.zero_grad()


@torch.inference_mode()
def bare_forward(model: nn.Module, splits: dict[str, tuple[Tensor, Tensor]], batch_size: int) -> None:
    """One forward pass over tensors in memory, in eval mode."""
    model.eval()
    for pixels, labels in splits.values():
        for start in range(0, len(labels), batch_size):
            model(pixel_values=pixels[start : start + batch_size])


def against_the_limit(task: Task, rounds: int, repeats: int, bf16: bool = False) -> None:
    """A run over a bare loop, and an evaluation over a bare forward pass."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = task.trainer(folder, rounds, bf16=bf16)
        tensors = {name: pixels_and_labels(trainer, name) for name in trainer.splits}
        size, model = len(trainer.train_dataset), copy.deepcopy(trainer.model)
        pixels, labels = of_a_round(tensors, size)
        if trainer.args.device.type == "cuda":
            bare_pass: Callable[[], None] = GraphedRound(model, pixels, labels, BATCH, bf16)
        else:
            bare_pass = partial(bare_round, model, pixels, labels, bf16=bf16)
        ours, limit = run_and_limit(trainer, rounds, bare_pass, repeats)
        report("rounds", f"{size / ours:,.0f} images/s of {size / limit:,.0f} bare", limit / ours,
               "of the limit (the aim: 0.85)")  # fmt: skip
        steps = (
            timed(lambda: bare_steps(model, trainer.teacher, pixels, labels, tensors["forget"][0], rounds))[0] / rounds
        )
        report("", f"{size / ours:,.0f} images/s of {size / steps:,.0f}", steps / ours,
               "of a bare loop that also steps, asks the teacher once and measures the forget set")  # fmt: skip

        trainer.evaluator.yardstick.controls  # noqa: B018  the original's predictions and the null, once a run
        forward = [
            timed(lambda: bare_forward(model, tensors, trainer.args.eval_batch_size))[0] for _ in range(repeats)
        ]
        full = [timed(trainer.compare)[0] for _ in range(repeats)]
        forward, full = statistics.median(forward), statistics.median(full)
        samples = sum(len(labels) for _, labels in tensors.values())
        rates = f"{samples / full:,.0f} images/s of {samples / forward:,.0f} bare"
        report("evaluation", rates, full / forward, "times a bare forward pass")


def against_a_plain_loop(task: Task, rounds: int) -> None:
    """Unlearn and measure, from the data set to the figures, in both ways."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plain, transform = copy.deepcopy(task.model).to(device), plain_loop.transform_of(task.processor)
    sets = {name: plain_loop.Samples(data, transform, name == "forget") for name, data in task.sets.items()}
    settings = {"rounds": rounds, "alpha": ALPHA, "rate": RATE, "batch_size": BATCH, "seed": 0}
    unlearning, teacher = timed(lambda: plain_loop.unlearn(plain, sets, **settings))
    measuring, figures = timed(lambda: [plain_loop.evaluate(m, teacher, sets) for m in (teacher, plain)])
    with tempfile.TemporaryDirectory() as folder:
        making, trainer = timed(lambda: task.trainer(folder, rounds))
        ours = making + timed(trainer.train)[0]
        own_measuring, result = timed(trainer.compare)
    report("unlearning", f"{ours:.1f} s, plain loop {unlearning:.1f} s", unlearning / ours, "times as fast")
    report("measuring", f"{own_measuring:.1f} s, plain loop {measuring:.1f} s", measuring / own_measuring,
           "times as fast")  # fmt: skip
    whole, own = unlearning + measuring, ours + own_measuring
    report("end to end", f"{own:.1f} s, plain loop {whole:.1f} s", whole / own, "times as fast")
    names = {f"{name} accuracy": f"{name}_accuracy" for name in sets}
    names |= {"member rate": "mia_member_rate", "RF-JSD": "rf_jsd"}
    for model, theirs in zip(("original", "lotus"), figures, strict=True):
        pairs = [f"{name} {getattr(result[model], own):.4f} / {theirs[name]:.4f}" for name, own in names.items()]
        say(f"  {model}, ours / plain loop: {', '.join(pairs)}")


def decode(samples: ReadyImages, block: int = 1024) -> None:
    """Make all pictures of a set ready, a block at a time."""
    for start in range(0, len(samples), block):
        samples.__getitems__(range(start, min(start + block, len(samples))))


def ten_percent(name: str, bf16: bool) -> None:
    """Seconds in which a tenth of CIFAR-10 is out of a model, pictures decoded before, and measuring left out."""
    aim = AIMS[name]
    if not torch.cuda.is_available():
        say(f"left out without a GPU: the bare step as a graph, and a tenth of CIFAR-10 out of {name} (aim {aim:g} s)")
        return
    with tempfile.TemporaryDirectory() as folder:
        trainer = cifar10_sized(name).trainer(folder, None, bf16=bf16)
        sets = [data for data in trainer.splits.values() if data is not None]
        decoding = timed(lambda: [decode(data) for data in sets])[0]
        taken = timed(trainer.train)[0]
        steps, own = trainer.state.global_step, trainer.unlearning_seconds
        say(f"decoding {sum(map(len, sets)):,} pictures once: {decoding:.1f} s")
        report("a tenth", f"{own:.1f} s for {steps:,} steps ({taken:.1f} s with what surrounds them)", own / aim,
               f"of the aim of {aim:g} s, {torch.cuda.get_device_name()}")  # fmt: skip


def report(what: str, figures: str, ratio: float, meaning: str) -> None:
    """One line of the report."""
    say(f"{what + ':':12} {figures}: {ratio:.2f} {meaning}")


def say(line: str) -> None:
    """Print."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("cifar10", "resnet18", "vit-b16"), default="cifar10", help="model and data")
    parser.add_argument("--rows", type=int, default=20_000, help="training rows to take")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of a run")
    parser.add_argument("--repeats", type=int, default=5, help="bare rounds and evaluations to time")
    parser.add_argument("--plain_rows", type=int, default=5_000, help="training rows for the comparison with the loop")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 by autocast, of the run and of its limit")
    options = parser.parse_args()
    task = load(options.rows, options.task)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    say(f"device: {device} ({platform.machine()}), torch {torch.__version__}, {type(task.model).__name__}")
    against_the_limit(task, options.rounds, options.repeats, options.bf16)
    if options.task in AIMS:
        ten_percent(options.task, options.bf16)
    against_a_plain_loop(load(options.plain_rows, options.task), options.rounds)


if __name__ == "__main__":
    main()
