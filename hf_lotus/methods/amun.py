"""AMUN: learn for each forget sample what the model itself takes its nearest neighbours for (arXiv:2503.00917)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_lotus.evaluation.predictions import evaluation_mode
from hf_lotus.functional.tensors import rows_of
from hf_lotus.methods.base import Batch, GradientMethod, LossInputs, Paper, Round, Run, Task
from hf_lotus.methods.rounds import Pass, Streams
from hf_lotus.utils.memory import fits

_IMAGES = "pixel_values"
_WHY, _OTHER = "it searches for adversarial examples by gradient", "Choose another method, such as margin_matching"
# The search's steps, as a share of the radius.
_STEP = 0.1
# Images that are searched for at once: as many on any number of ranks, so that all find the same.
_CHUNK = 64


@dataclass(frozen=True)
class AMUN(GradientMethod):
    """Finetune on adversarial examples of the forget set, under the wrong labels that the original gives them.

    Adversarial machine unlearning (Ebrahimpour-Boroojeny et al., arXiv:2503.00917). For each forget sample (x, y) an
    x′ near it is searched for, which the original f takes for another class y′ = f(x′) ≠ y. Training on it lowers the
    confidence around x, and, as the label is f's own, little else::

        loss = CE(s(x), y)  x ∈ D_r,    CE(s(x′), y′)                 x ∈ D_f     (with retain data)
        loss =                          ½ CE(s(x), y) + ½ CE(s(x′), y′)  x ∈ D_f  (without: `retain_fraction` 0)

    The search is projected gradient ascent (PGD) in an L2 ball around x, of `steps` steps of a tenth of its radius,
    and of twice the radius where that finds none. The first iterate that is misclassified is x′: the path starts at x,
    so it is nearer than where it would end. A sample that f misclassifies already is its own x′. What is ascended is
    log Σ_{k≠y} exp z_k − z_y: the gradient of the cross-entropy has its direction, and is zero in float32 where a
    model is very sure. Distances are in the model's normalised input space; x′ is kept within the range that it really
    has. The model is in eval mode, and its BatchNorm statistics stay as they are.

    x′ is found once, before the first round, and shown as it was found, not augmented. It takes memory: 4 bytes a
    value, 0.6 MB for an image of 224 pixels. A sample of which none is found takes no part in the loss; the share of
    those found and the mean distance are logged. Only images can be searched for: tokens have no neighbours. The paper
    unlearns samples; whole classes go by the same equations.

    Attributes:
        retain_fraction: share of the retain set that takes part, drawn once. With 0, the forget samples take part
            under their own labels instead.
        steps: of the search within one radius. The paper: 50.
        radius: the first radius, in normalised inputs.
        growth: what the radius is multiplied by where none is found. The paper: 2.
    """

    name: ClassVar[str] = "amun"
    paper: ClassVar[Paper] = Paper(
        key="ebrahimpour2025not",
        title="Not All Wrong is Bad: Using Adversarial Examples for Unlearning",
        authors="Ebrahimpour-Boroojeny, Ali and Sundaram, Hari and Chandrasekaran, Varun",
        venue="ICML",
        year=2025,
        arxiv="2503.00917",
    )
    transform_asks_student: ClassVar[bool] = False

    retain_fraction: float = 1.0
    steps: int = 50
    radius: float = 0.1
    growth: float = 2.0

    def __post_init__(self) -> None:
        Streams(forget=True, retain_fraction=self.retain_fraction)  # checks retain_fraction
        if self.steps < 1:
            raise ValueError(f"steps must be 1 or more, got {self.steps}. The paper uses 50.")
        if not 0 < self.radius < float("inf"):
            raise ValueError(f"radius must be above 0 and finite, got {self.radius}.")
        if not 1 < self.growth < float("inf"):
            raise ValueError(f"growth must be above 1 and finite, got {self.growth}. The paper uses 2.")

    def refusal(self, task: Task) -> str | None:
        """Why there are no adversarial examples to be searched for."""
        if task.kind == "text":
            return f"{_WHY}, and a text is made of tokens, with nothing between them. {_OTHER}"
        return None if task.kind in ("image", None) else f"{_WHY}, which is tried out on images alone. {_OTHER}"

    def streams(self, task: Task) -> Streams:
        """The forget set and the retain set, or the forget set alone."""
        return Streams(forget=True, retain_fraction=self.retain_fraction)

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """One pass over all of it, shuffled together."""
        return (Pass(retain=self.retain_fraction > 0),)

    def prepare(self, run: Run) -> Adversaries:
        """The adversarial example of each forget sample, the same on every rank."""
        example = run.example("forget").get(_IMAGES)
        if example is None or not example.is_floating_point():
            given = ", ".join(run.example("forget"))
            raise TypeError(
                f"AMUN searches for adversarial images, and the model's inputs are {given}: where inputs are not "
                "continuous there is no gradient to follow. Choose another method."
            )
        chunks = torch.arange(run.num_forget).split(_CHUNK)
        bounds = run.input_range or _range_of(run, chunks)
        labels = run.labels("forget")
        parts: list[Adversaries] = []
        with evaluation_mode(run.teacher):
            for number, rows in enumerate(chunks):
                parts.append(self._search(run, rows, labels[rows], bounds, mine=number % run.ranks == run.rank))
        images, *others = (torch.cat(values) for values in zip(*parts, strict=True))
        if fits(images.nbytes, example.device):
            images = images.to(example.device)
        found = Adversaries(images, *(values.to(example.device) for values in others))
        if not bool(found.found.any()):
            raise ValueError(
                "AMUN found no adversarial example of any forget sample: the original predicts one class whatever it "
                "is shown. Is it a trained model?"
            )
        return found

    def _search(
        self, run: Run, rows: Tensor, labels: Tensor, bounds: tuple[Tensor, Tensor], mine: bool
    ) -> Adversaries:
        """Of one chunk; found on one rank, and then on all."""
        images = run.inputs("forget", rows.tolist())[_IMAGES]
        if mine:
            low, high = (bound.to(images.device) for bound in bounds)
            found = nearest_adversaries(
                lambda shown: run.teacher(**{_IMAGES: shown}).logits.float(),
                images,
                labels.to(images.device),
                (low, high),
                radius=self.radius,
                growth=self.growth,
                steps=self.steps,
            )
        else:
            nothing = torch.zeros(len(rows), device=images.device)
            found = Adversaries(torch.zeros_like(images), nothing.long(), nothing, nothing.clone())
        if run.ranks > 1:
            found = Adversaries(**run.sum_over_ranks(found._asdict()))
        return Adversaries(*(values.cpu() for values in found))

    def begin_round(self, run: Run, index: int) -> Round:
        """Before the first round, tell what was found."""
        if index > 0:
            return Round()
        given = cast(Adversaries, run.prepared)
        distance = float(given.distances[given.found].double().mean())
        return Round({"adversaries_found": float(given.found.double().mean()), "adversary_distance": distance})

    def transform(self, batch: Batch, student: nn.Module) -> Batch:
        """The batch with x′ under y′ in the place of each forget sample, or beside it without retain data."""
        if not batch.forgotten:
            return batch
        rows = batch.rows(forget=True)
        given, images, labels = cast(Adversaries, batch.state), batch.inputs[_IMAGES], batch.labels
        assert batch.positions is not None
        # A position from the round's size on repeats one before it, and does not count.
        places = batch.positions[rows] % len(given.labels)
        found = rows_of(given.images, places).to(images.dtype)
        # What was not found is shown, as all must be, and has no loss.
        wrong = torch.where(given.found[places], given.labels[places], _IGNORED)
        if self.retain_fraction > 0:
            images, labels = images.clone().index_copy_(0, rows, found), labels.index_copy(0, rows, wrong)
            return replace(batch, inputs={**batch.inputs, _IMAGES: images}, labels=labels)
        return replace(
            batch,
            inputs={**batch.inputs, _IMAGES: torch.cat([images, found])},
            labels=torch.cat([labels, wrong]),
            is_forget=batch.is_forget.repeat(2),
            positions=batch.positions.repeat(2),
            num_forget=2 * batch.forgotten,
        )

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the labels that `transform` gave, halved without retain data; shape (batch,)."""
        loss = F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none", ignore_index=_IGNORED)
        return loss if self.retain_fraction > 0 else loss / 2

    def default_arguments(self, task: Task) -> dict[str, object]:
        """SGD 3e-3, momentum 0.9, 10 rounds (ResNet), chosen without retraining; 1e-3 and 3 for transformers."""
        resnet = task.is_batch_norm_model
        return {
            "learning_rate": 3e-3 if resnet else 1e-3,
            "optim": "sgd",
            "optim_args": "momentum=0.9",
            "weight_decay": 5e-4,
            "num_train_epochs": 10 if resnet else 3,
            "per_device_train_batch_size": 128 if resnet else 32,
        }


# A label that has no loss.
_IGNORED = -100


class Adversaries(NamedTuple):
    """Adversarial examples of images.

    Attributes:
        images: x′, shape (samples, channels, height, width).
        labels: y′, shape (samples,); the true ones where none was found.
        distances: ‖x′ − x‖₂, shape (samples,).
        radii: the radius at which it was found, 0 for a sample that was misclassified as it is, and −1 where none was.
    """

    images: Tensor
    labels: Tensor
    distances: Tensor
    radii: Tensor

    @property
    def found(self) -> Tensor:
        """Whether there is one, shape (samples,)."""
        return self.radii >= 0


def nearest_adversaries(
    classify: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    bounds: tuple[Tensor, Tensor],
    *,
    radius: float,
    growth: float,
    steps: int,
) -> Adversaries:
    """Search for each image's adversarial example in growing balls, up to one that holds all images.

    Args:
        classify: images → logits, each image's by itself (a model in eval mode).
        images: shape (samples, channels, height, width).
        labels: true classes, shape (samples,).
        bounds: lowest and highest value of each channel, each of shape (channels, 1, 1).
        radius: the first radius.
        growth: factor between radii, above 1.
        steps: gradient steps within a radius.
    """
    low, high = bounds
    largest = float((high - low).expand_as(images[0]).norm())
    reached, predicted = images.clone(), labels.clone()
    radii = torch.full((len(images),), -1.0, device=images.device)
    open_rows = torch.arange(len(images), device=images.device)
    tried, allowed = 0.0, 0  # at first no step: who is misclassified as it is
    while len(open_rows):
        given = images[open_rows], labels[open_rows]
        ended, classes = _ascend(classify, *given, bounds, tried, allowed)
        hit = classes != given[1]
        rows = open_rows[hit]
        reached[rows], predicted[rows], radii[rows] = ended[hit], classes[hit], tried
        open_rows = open_rows[~hit]
        if tried >= largest:
            break
        tried, allowed = (tried * growth if tried else radius), steps
    return Adversaries(reached, predicted, (reached - images).flatten(1).norm(dim=1), radii)


def _ascend(
    classify: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    bounds: tuple[Tensor, Tensor],
    radius: float,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Walk away from the true class, within a radius, until misclassified: the images reached, and their classes."""
    low, high = bounds
    reached, classes = images.clone(), labels.clone()
    rows = torch.arange(len(images), device=images.device)
    current = images
    for step in range(steps + 1):
        current = current.detach().requires_grad_(step < steps)
        with torch.set_grad_enabled(step < steps):
            logits = classify(current)
        hit = logits.argmax(dim=1) != labels[rows]
        reached[rows[hit]], classes[rows[hit]] = current.detach()[hit], logits.argmax(dim=1)[hit]
        if step == steps or bool(hit.all()):
            break
        (gradient,) = torch.autograd.grad(lead_of_others(logits, labels[rows]).sum(), current)
        rows, current, gradient = rows[~hit], current.detach()[~hit], gradient[~hit]
        moved = current + _STEP * radius * gradient / _norm(gradient)
        away = moved - images[rows]
        moved = images[rows] + away * (radius / _norm(away)).clamp_max(1)
        current = torch.minimum(torch.maximum(moved, low), high)
    return reached, classes


def lead_of_others(logits: Tensor, labels: Tensor) -> Tensor:
    """``log Σ_{k≠y} exp z_k − z_y``, shape (samples,): the cross-entropy is its softplus, and rises with it."""
    own = F.one_hot(labels, logits.shape[1]).bool()
    others = logits.masked_fill(own, -torch.inf).logsumexp(dim=1)
    return others - logits[own]


def _norm(values: Tensor) -> Tensor:
    norms = values.flatten(1).norm(dim=1).clamp_min(torch.finfo(values.dtype).tiny)
    return norms.view(-1, *[1] * (values.dim() - 1))


def _range_of(run: Run, chunks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Lowest and highest value of each channel in the forget set, where the input space tells no range."""
    lows, highs = [], []
    for rows in chunks:
        images = run.inputs("forget", rows.tolist())[_IMAGES]
        lows.append(images.amin(dim=(0, 2, 3)))
        highs.append(images.amax(dim=(0, 2, 3)))
    return torch.stack(lows).amin(0)[:, None, None], torch.stack(highs).amax(0)[:, None, None]
