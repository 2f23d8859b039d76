"""CT: turn every convolution kernel over its diagonal, then finetune (of the NeurIPS 2023 unlearning challenge)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Round, Run, Task, recovery_arguments
from hf_lotus.methods.rounds import Streams


@dataclass(frozen=True)
class CT(GradientMethod):
    """Convolution transpose, of the NeurIPS 2023 unlearning challenge, as arXiv:2410.01276 describes and names it.

    Before the first round every spatial kernel is transposed, and then the model is finetuned::

        W[o, i, a, b] ← W[o, i, b, a]        for every k × k convolution, k > 1
        loss(x) = CE(s, y),  x ∈ D_r

    A network of transposed kernels is the original on transposed images, as far as its layers are square: it has to
    learn the pictures anew, and has kept what is not of single ones. Twice is the identity.

    Kernels of 1 × 1 have nothing to exchange; of k × l the exchange is no kernel of the same layer, and they stay. So
    do linear layers: their two axes are what goes in and what comes out, not two directions in space, and to exchange
    those of a square one is no symmetry of anything. Hence a model is refused that has no k × k kernels that overlap,
    such as a ViT: its one convolution cuts the image into patches, and is a linear layer. The edit happens once and is
    part of every checkpoint.
    """

    name: ClassVar[str] = "ct"
    writes_all_weights: ClassVar[bool] = True
    is_same_work: ClassVar[bool] = True
    paper: ClassVar[Paper] = Paper(
        key="cadet2024deep",
        title="Deep Unlearn: Benchmarking Machine Unlearning for Image Classification",
        authors="Cadet, Xavier F. and Borovykh, Anastasia and Malekzadeh, Mohammad and Ahmadi-Abhari, Sara and "
        "Haddadi, Hamed",
        venue="arXiv preprint",
        year=2024,
        arxiv="2410.01276",
    )

    def refusal(self, task: Task) -> str | None:
        """Why a model has nothing to transpose."""
        if any(module.stride[0] < module.kernel_size[0] for module in square_kernels(task.model)):
            return None
        return (
            "ct transposes spatial kernels, and this model has none of k × k that overlap (a convolution that cuts an "
            "image into patches is a linear layer, whose axes are no directions in space). Choose msg, which draws "
            "weights of any layer anew"
        )

    def streams(self, task: Task) -> Streams:
        """The retain set, shuffled."""
        return Streams(forget=False, retain_fraction=1.0)

    def begin_round(self, run: Run, index: int) -> Round:
        """Before the first round, transpose the kernels; tells the share of all weights that are in them."""
        if index > 0:
            return Round()
        transpose_kernels(run.student)
        turned = sum(module.weight.numel() for module in square_kernels(run.student))
        return Round({"transposed_share": turned / sum(p.numel() for p in run.student.parameters())})

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the labels, shape (batch,)."""
        return F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")

    def default_arguments(self, task: Task) -> dict[str, object]:
        """What brings a model back that has to learn its pictures anew: SGD 0.05 with BatchNorm, else AdamW."""
        return recovery_arguments(task)


def square_kernels(model: nn.Module) -> Iterator[nn.Conv2d]:
    """The convolutions of a model with kernels of k × k, k > 1."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size[0] == module.kernel_size[1] > 1:
            yield module


@torch.no_grad()
def transpose_kernels(model: nn.Module) -> None:
    """Transpose the kernels of `square_kernels`, in place."""
    for module in square_kernels(model):
        module.weight.copy_(module.weight.transpose(-1, -2).clone())
