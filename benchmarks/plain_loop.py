"""LoTUS as a plain loop, the way research code is written: what `speed.py` measures the trainer against.

From the paper's equations (arXiv:2503.18314): every sample is decoded and transformed when a `DataLoader` asks for it,
everything is float32, the teacher is asked in every step, and every evaluation takes one image at a time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Subset


class Samples(torch.utils.data.Dataset):
    """Pixels, label and side of one sample, made when it is asked for."""

    def __init__(self, rows: Dataset, transform: Callable, is_forget: bool):
        self.rows, self.transform, self.is_forget = rows, transform, is_forget

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int, bool]:
        row = self.rows[index]
        image = row.get("img", row.get("image")).convert("RGB")
        return self.transform(image), row["label"], self.is_forget


def transform_of(processor: object) -> Callable:
    """Decoded image → normalised tensor, one image a call, as a chain of transforms does it."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    height, width = processor.size["height"], processor.size["width"]

    def transform(image: object) -> Tensor:
        if image.size != (width, height):
            image = image.resize((width, height))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (pixels - mean) / std

    return transform


@torch.no_grad()
def predict_one_by_one(model: nn.Module, samples: Samples) -> tuple[Tensor, Tensor]:
    """Probabilities (samples, classes) and labels (samples,), one image a forward pass."""
    model.eval()
    found = []
    for pixels, label, _ in DataLoader(samples, batch_size=1):
        found.append((model(pixel_values=pixels.to(model.device)).logits.cpu(), label))
    return torch.cat([logits for logits, _ in found]).softmax(1), torch.cat([label for _, label in found])


def accuracy(model: nn.Module, samples: Samples) -> float:
    """Share of samples classified correctly."""
    probabilities, labels = predict_one_by_one(model, samples)
    return (probabilities.argmax(1) == labels).float().mean().item()


def unlearn(
    model: nn.Module, sets: dict[str, Samples], *, rounds: int, alpha: float, rate: float, batch_size: int, seed: int
) -> nn.Module:
    """Unlearn in place for a number of rounds, without the stop, and return the teacher."""
    torch.manual_seed(seed)
    teacher = copy.deepcopy(model).eval()
    chosen = torch.randperm(len(sets["retain"]))[: round(0.3 * len(sets["retain"]))].tolist()
    loader = DataLoader(
        ConcatDataset([sets["forget"], Subset(sets["retain"], chosen)]), batch_size=batch_size, shuffle=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=5e-4)
    bound = accuracy(teacher, sets["unseen"])
    for _ in range(rounds):
        temperature = math.exp(alpha * (accuracy(model, sets["forget"]) - bound))
        model.train()
        for pixels, _, is_forget in loader:
            pixels, is_forget = pixels.to(model.device), is_forget.to(model.device)
            with torch.no_grad():
                known = teacher(pixel_values=pixels).logits
            soft = F.gumbel_softmax(known, tau=temperature)
            sampled = F.gumbel_softmax(known, hard=True)
            targets = torch.where(is_forget[:, None], soft, sampled)
            loss = -(targets * model(pixel_values=pixels).logits.log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return teacher


def evaluate(model: nn.Module, teacher: nn.Module, sets: dict[str, Samples]) -> dict[str, float]:
    """Accuracies, member rate and RF-JSD of one model."""
    found = {name: predict_one_by_one(model, samples) for name, samples in sets.items()}
    figures = {f"{name} accuracy": (p.argmax(1) == y).double().mean().item() for name, (p, y) in found.items()}
    entropy = {name: -(p * p.clamp_min(1e-30).log()).sum(1).numpy()[:, None] for name, (p, _) in found.items()}
    outside = np.concatenate([entropy["unseen"], entropy["test"]])
    attack = LogisticRegression(class_weight="balanced").fit(
        np.concatenate([entropy["retain"], outside]), [1] * len(entropy["retain"]) + [0] * len(outside)
    )
    figures["member rate"] = float(attack.predict(entropy["forget"]).mean())
    forget, labels = found["forget"]
    unseen, unseen_labels = predict_one_by_one(teacher, sets["unseen"])
    divergences = []
    for label in labels.unique():
        p = forget[labels == label].double().mean(0)
        q = unseen[unseen_labels == label].double().mean(0)
        m = (p + q) / 2
        divergences.append(((p * (p / m).log()).sum() + (q * (q / m).log()).sum()).item() / 2)
    figures["RF-JSD"] = float(np.mean(divergences))
    return figures
