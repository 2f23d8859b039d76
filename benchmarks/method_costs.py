"""What each method costs whatever the machine: the samples that pass forward and backward in a run with its defaults.

    python benchmarks/method_costs.py [--output docs/method_costs.csv]

A small ResNet is trained on half of scikit-learn's digits, and 10 % of each class are forgotten by every method, with
its own number of rounds and batch size. Passes are given for one sample: of the student and of every other model of
the run (the original, an ignorant one, copies that are measured) together, evaluation left out. The accuracies beside
them say what is left of the model; they are of one seed. `benchmarks/docs_tables.py` takes the columns of the page.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from docs_tables import write_csv
from transformers import PreTrainedModel, ViTImageProcessorPil

from hf_lotus import METHODS, ForgetRetainSplit, UnlearningArguments, UnlearningTrainer
from hf_lotus.data.digits import Digits, load_digits
from hf_lotus.models.small import SMALL_SIZE, small_resnet

COLUMNS = [
    "Method", "Rounds", "Forward, forget", "Forward, retain", "Forward, other data", "Backward, forget",
    "Backward, retain", "Forget acc.", "Retain acc.", "Test acc.",
]  # fmt: skip
# How many samples the passes on each side are divided by.
SIDES = ("forget", "retain")


def original(digits: Digits, processor: ViTImageProcessorPil, seed: int) -> PreTrainedModel:
    """A small ResNet that knows its training scans."""
    torch.manual_seed(seed)
    model, batch = small_resnet().train(), 64
    pixels = processor(list(digits.train["image"]), return_tensors="pt")["pixel_values"]
    labels = torch.tensor(digits.train["label"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(15):
        for rows in torch.randperm(len(labels)).split(batch):
            optimizer.zero_grad()
            F.cross_entropy(model(pixels[rows]).logits, labels[rows]).backward()
            optimizer.step()
    return model.eval()


def row(name: str, trainer: UnlearningTrainer) -> list[str]:
    """The costs of a run that is over, and what is left of its model."""
    passes, sizes = trainer.unlearning_passes, {side: len(trainer.splits[side]) for side in SIDES}
    assert passes is not None
    forward = {side: passes["student_forward"][side] + passes["teacher_forward"][side] for side in (*SIDES, "other")}
    rounds = f"{trainer.state.epoch or 0:.0f}" if not trainer.hooks.edits else "–"
    measured = trainer.evaluate()
    return [
        name,
        rounds,
        *(f"{forward[side] / sizes[side]:.1f}" for side in SIDES),
        str(forward["other"]),
        *(f"{passes['backward'][side] / sizes[side]:.1f}" for side in SIDES),
        *(f"{measured[f'eval_{split}_accuracy']:.3f}" for split in ("forget", "retain", "test")),
    ]


def costs(seed: int, folder: str) -> list[list[str]]:
    """One row a method, with its defaults, in the order of tables."""
    digits, processor = load_digits(seed), ViTImageProcessorPil(size={"height": SMALL_SIZE, "width": SMALL_SIZE})
    split = ForgetRetainSplit.from_fraction(digits.train, 0.1, seed=seed)
    model = original(digits, processor, seed)
    rows = []
    for name, method in METHODS.items():
        trainer = UnlearningTrainer(
            copy.deepcopy(model),
            UnlearningArguments(folder, seed=seed, save_strategy="no", disable_tqdm=True, use_cpu=True),
            method(),
            forget_dataset=split.forget,
            retain_dataset=split.retain,
            unseen_dataset=digits.unseen,
            eval_dataset=digits.test,
            processing_class=processor,
        )
        trainer.train()
        rows.append(row(name, trainer))
    return rows


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "method_costs.csv")
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = costs(arguments.seed, folder)
    write_csv(arguments.output, [COLUMNS, *rows])


if __name__ == "__main__":
    main()
