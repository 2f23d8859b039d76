"""UNSIR: impair with noise that the model gets wrong, then repair (arXiv:2111.08947)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_lotus.evaluation.predictions import eval_mode
from hf_lotus.methods.base import Batch, GradientMethod, LossInputs, Paper, Run, Task
from hf_lotus.methods.rounds import Pass, Streams
from hf_lotus.utils.seeds import LABELS, derived_seed

_IMAGES = "pixel_values"
_WHY, _OTHER = "it learns noise by gradient in the place of samples", "Choose another method, such as margin_matching"


@dataclass(frozen=True)
class UNSIR(GradientMethod):
    """Unlearning by selective impair and repair, for classes (Tarun et al., arXiv:2111.08947) and for samples.

    *Whole classes.* For each forgotten class c, noise images n are learned on the original model f by::

        min over n of  −CE(f(n), c) + 0.1 · mean ‖n‖²

    The first round (impair) trains on them under the label c, mixed with a few retain images of each class; every
    later one (repair) on those retain images, at half the learning rate.

    *Samples* (the variant of the MUFAC benchmark, arXiv:2311.02240, which the tables of LoTUS use). In the impair
    round, for each pair of a forget batch x_f and a retain batch (x_r, y_r), noise is learned on the student f by
    ``min over n of −MSE(f(n), f(x_f))``, and the student by ``CE(f(n), y_r) + CE(f(x_r), y_r)``, each term from a
    forward pass of its own. Then comes repair.

    The noise is clamped to the range of the model's normalised inputs. No original forget image is trained on. The
    optimizer's state is kept from impair to repair.

    Attributes:
        retain_per_class: retain images of each class that take part. Default: the paper's, 1,000, or 100 where there
            are 100 classes or more.
        noise_weight: weight of the noise's squared norm. Classes only.
        noise_steps: Adam steps on the noise. Default: 40 (classes), 5 (samples, for each batch).
        noise_learning_rate: of those steps. Default: 0.1 (classes), 0.01 (samples).
        noise_batch_size: noise images learned for each class. Classes only.
        noise_batches: how many times each of them is shown in the impair round. Default: the paper's, 20, or fewer
            where the noise would outnumber the retain images and teach the model little else. Classes only.
    """

    name: ClassVar[str] = "unsir"
    paper: ClassVar[Paper] = Paper(
        key="tarun2023fast",
        title="Fast Yet Effective Machine Unlearning",
        authors="Tarun, Ayush K. and Chundawat, Vikram S. and Mandal, Murari and Kankanhalli, Mohan",
        venue="IEEE Transactions on Neural Networks and Learning Systems",
        year=2023,
        arxiv="2111.08947",
    )

    retain_per_class: int | None = None
    noise_weight: float = 0.1
    noise_steps: int | None = None
    noise_learning_rate: float | None = None
    noise_batch_size: int = 256
    noise_batches: int | None = None

    def __post_init__(self) -> None:
        for name in ("retain_per_class", "noise_steps", "noise_batch_size", "noise_batches"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}.")
        if self.noise_learning_rate is not None and not self.noise_learning_rate > 0:
            raise ValueError(f"noise_learning_rate must be above 0, got {self.noise_learning_rate}.")
        if not self.noise_weight >= 0:
            raise ValueError(f"noise_weight must be 0 or more, got {self.noise_weight}.")

    def refusal(self, task: Task) -> str | None:
        """Why it cannot learn noise in the place of samples."""
        if task.kind == "text":
            return f"{_WHY}, and a text is made of tokens, with nothing between them. {_OTHER}"
        return None if task.kind in ("image", None) else f"{_WHY}, which is tried out on images alone. {_OTHER}"

    def streams(self, task: Task) -> Streams:
        """A few retain images of each class, and the forget set, or for classes as many places as noise is shown."""
        num_labels = task.num_labels or 1
        retain_per_class = self.retain_per_class or (100 if num_labels >= 100 else 1000)
        retained = min(task.num_retain, retain_per_class * num_labels)
        fewer = retained // (self.noise_batch_size * max(len(task.forget_classes), 1))
        batches = self.noise_batches or max(min(20, fewer), 1)
        shown = self.noise_batch_size * batches if task.class_wise else None
        return Streams(True, 1.0, forget_per_class=shown, retain_per_class=retain_per_class)

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """Impair: noise and retain images, mixed (classes) or in pairs of batches. After that, repair."""
        pairs = not task.class_wise
        return (Pass(paired=pairs, separate_forward=pairs),) if index == 0 else (Pass(forget=False),)

    def learning_rate_scale(self, task: Task, index: int) -> float:
        """A half in the repair rounds, where whole classes are forgotten."""
        return 0.5 if task.class_wise and index > 0 else 1.0

    def prepare(self, run: Run) -> Callable[[Batch, nn.Module], Batch]:
        """How a batch's forget images are replaced by noise."""
        inputs = run.example("forget")
        if _IMAGES not in inputs:
            raise TypeError(f"UNSIR learns noise images, and the model's inputs are {', '.join(inputs)}.")
        known = run.input_range
        if known is not None:
            known = known[0].to(inputs[_IMAGES].device), known[1].to(inputs[_IMAGES].device)
        if not run.class_wise:
            return partial(self._replace_samples, known)
        steps, rate = self.noise_steps or 40, self.noise_learning_rate or 0.1
        bounds = known or _range_of(inputs[_IMAGES])
        classes, noise = run.task.forget_classes, []
        for label in classes:
            generator = torch.Generator(inputs[_IMAGES].device).manual_seed(derived_seed(run.seed, LABELS, label))
            labels = torch.full((self.noise_batch_size,), label, device=inputs[_IMAGES].device)

            def objective(noise: Tensor, labels: Tensor = labels) -> Tensor:
                logits = run.teacher(**{_IMAGES: noise}).logits.float()
                return self.noise_weight * noise.flatten(1).square().sum(1).mean() - F.cross_entropy(logits, labels)

            shape = (self.noise_batch_size, *inputs[_IMAGES].shape[1:])
            noise.append(learn_noise(objective, shape, bounds, steps, rate, generator))
        stacked = torch.stack(noise)
        return partial(self._replace_classes, torch.tensor(classes, device=stacked.device), stacked)

    def transform(self, batch: Batch, student: nn.Module) -> Batch:
        """The batch with noise in the place of forget images."""
        replaced = cast(Callable[[Batch, nn.Module], Batch], batch.state)  # what `prepare` gave
        return replaced(batch, student) if batch.forgotten else batch

    def _replace_classes(self, classes: Tensor, noise: Tensor, batch: Batch, student: nn.Module) -> Batch:
        images, labels, rows = batch.inputs[_IMAGES], batch.labels, batch.rows(forget=True)
        assert batch.positions is not None
        # The places go round the classes, and those of each class round its images: each is shown equally often.
        places = batch.positions[rows]
        turn, index = places % len(classes), places // len(classes) % noise.shape[1]
        images = images.clone().index_copy_(0, rows, noise[turn, index].to(images.dtype))  # in its own layout
        labels = labels.index_copy(0, rows, classes[turn])
        return replace(batch, inputs={**batch.inputs, _IMAGES: images}, labels=labels)

    def _replace_samples(self, bounds: tuple[Tensor, Tensor] | None, batch: Batch, student: nn.Module) -> Batch:
        images, labels, rows = batch.inputs[_IMAGES], batch.labels, batch.rows(forget=True)
        shown = images[rows]
        steps, rate = self.noise_steps or 5, self.noise_learning_rate or 0.01
        assert batch.generator is not None
        with eval_mode(student):
            with torch.no_grad():
                given = student(**{_IMAGES: shown}).logits.float()

            def objective(noise: Tensor) -> Tensor:
                return -F.mse_loss(student(**{_IMAGES: noise}).logits.float(), given)

            noise = learn_noise(objective, shown.shape, bounds or _range_of(images), steps, rate, batch.generator)
        images = images.clone().index_copy_(0, rows, noise.to(images.dtype))
        partners = labels[batch.rows(forget=False)]
        labels = labels.index_copy(0, rows, partners[torch.arange(len(rows), device=labels.device) % len(partners)])
        return replace(batch, inputs={**batch.inputs, _IMAGES: images}, labels=labels)

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the labels, of noise images those that `transform` gave them, shape (batch,)."""
        return F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")

    def default_arguments(self, task: Task) -> dict[str, object]:
        """Classes: Adam 0.002 or 0.0005, batches of 256. Samples: SGD 1e-3, momentum 0.9. A round each of both kinds.

        With whole classes the paper's 0.02 leaves a ResNet on CIFAR-10 a retain accuracy of 0.61 where 0.002 leaves
        0.91, with nothing left of the class either way; it destroys a transformer, which gets 0.0005.
        """
        if task.class_wise:
            rate = 2e-3 if task.is_batch_norm_model else 5e-4
            return {
                "learning_rate": rate,
                "weight_decay": 0.0,
                "num_train_epochs": 2,
                "per_device_train_batch_size": 256,
            }
        return {
            "learning_rate": 1e-3,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "num_train_epochs": 2,
            "per_device_train_batch_size": 128 if task.is_batch_norm_model else 32,
        }


def learn_noise(
    objective: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    bounds: tuple[Tensor, Tensor],
    steps: int,
    learning_rate: float,
    generator: torch.Generator,
) -> Tensor:
    """Standard normal noise, moved by Adam to lower an objective; the gradient is taken of the noise alone.

    Args:
        objective: noise → what to lower, a scalar.
        shape: (batch, channels, height, width).
        bounds: lowest and highest value of each channel, each of shape (channels, 1, 1); the noise is kept within.
            On the generator's device.
        steps: number of Adam steps.
        learning_rate: of Adam.
        generator: source of the first noise; its device is the noise's.
    """
    low, high = bounds
    first = torch.randn(shape, generator=generator, device=generator.device)
    noise = torch.minimum(torch.maximum(first, low), high).requires_grad_()
    optimizer = torch.optim.Adam([noise], lr=learning_rate)
    for _ in range(steps):
        (noise.grad,) = torch.autograd.grad(objective(noise), noise)
        optimizer.step()
        with torch.no_grad():
            noise.copy_(torch.minimum(torch.maximum(noise, low), high))
    return noise.detach()


def _range_of(images: Tensor) -> tuple[Tensor, Tensor]:
    return images.amin(dim=(0, 2, 3))[:, None, None], images.amax(dim=(0, 2, 3))[:, None, None]
