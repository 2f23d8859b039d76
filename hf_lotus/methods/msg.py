"""MSG: draw anew the weights whose gradients tell retained and forgotten apart the least, then finetune."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from hf_lotus.evaluation.predictions import evaluation_mode
from hf_lotus.functional.tensors import reinitialized, summed_gradients, trainable_copy
from hf_lotus.methods.base import GradientMethod, LossInputs, Paper, Round, Run, Task, recovery_arguments
from hf_lotus.methods.rounds import Streams
from hf_lotus.utils.seeds import SUBSET, WEIGHTS, derived_seed


@dataclass(frozen=True)
class MSG(GradientMethod):
    """Masked small gradients, of the NeurIPS 2023 unlearning challenge, as arXiv:2410.01276 describes and names it.

    Before the first round, on the original in eval mode, with R a random sample of D_r as large as D_f::

        g = ∇ mean CE on R − ∇ mean CE on D_f
        θ_i ← drawn anew by the model's own initialisation, the `share` of each layer's weights with the least |g|

    Then the model is finetuned: ``loss(x) = CE(s, y)``, x ∈ D_r. A weight that matters alike to both holds nothing
    that retaining needs and forgetting must not have; what it learned of the forget set is given up with it.

    The challenge's entry drew convolutions anew. A layer here is every convolution and every linear layer, those of
    transformers too, whose weights are initialised in the same way; biases, norms, class tokens and positions stay,
    and so do weights that do not require a gradient. The edit happens once and is part of every checkpoint. A model
    without a `config`, from which no fresh one can be made, is refused.

    Attributes:
        share: share of each layer's weights that is drawn anew, rounded to the nearest count. The challenge: 0.3.
    """

    name: ClassVar[str] = "msg"
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

    share: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}. The challenge's entry uses 0.3.")

    def streams(self, task: Task) -> Streams:
        """The retain set, shuffled."""
        return Streams(forget=False, retain_fraction=1.0)

    def begin_round(self, run: Run, index: int) -> Round:
        """Before the first round, draw the weights anew; tells the share of all weights that were."""
        if index > 0:
            return Round()
        difference = self.difference(run)
        fresh = dict(reinitialized(run.student, derived_seed(run.seed, WEIGHTS)).named_parameters())
        drawn = 0
        with torch.no_grad():
            for name, weight in layer_weights(run.student):
                if name in difference:
                    mask = least(difference[name].abs(), self.share)
                    weight.copy_(torch.where(mask, fresh[name], weight))
                    drawn += int(mask.sum())
        return Round({"reinitialised_share": drawn / sum(p.numel() for p in run.student.parameters())})

    def difference(self, run: Run) -> dict[str, Tensor]:
        """By parameter name, g: the gradient on a retain sample as large as the forget set, less that on this."""
        num_retain, num_forget = run.task.num_retain, run.task.num_forget
        order = np.random.default_rng(derived_seed(run.seed, SUBSET)).permutation(num_retain)
        sample = np.sort(order[:num_forget]).tolist()
        retained = self._gradient(run, "retain", sample)
        forgotten = self._gradient(run, "forget", list(range(num_forget)))
        return {name: gradient - forgotten[name] for name, gradient in retained.items()}

    def _gradient(self, run: Run, split: str, rows: list[int]) -> dict[str, Tensor]:
        model = trainable_copy(run.teacher, run.student)
        with evaluation_mode(model):
            sums, _ = summed_gradients(model, run.batches(split, rows={split: rows}), by_sample=True)
        return {name: value / len(rows) for name, value in run.sum_over_ranks(sums).items()}

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the labels, shape (batch,)."""
        return F.cross_entropy(inputs.logits.float(), inputs.labels, reduction="none")

    def default_arguments(self, task: Task) -> dict[str, object]:
        """What brings a model back that has lost a part of its weights: SGD 0.05 (ResNet), AdamW 1e-3 or 5e-5."""
        return recovery_arguments(task)


def layer_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and weights of every convolution and linear layer."""
    for name, module in model.named_modules():
        if isinstance(module, (_ConvNd, nn.Linear)):
            yield f"{name}.weight".removeprefix("."), module.weight


def least(values: Tensor, share: float) -> Tensor:
    """True for the `share` of the values that are least, rounded to the nearest count; of the same shape."""
    chosen = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    chosen[values.flatten().topk(round(share * values.numel()), largest=False).indices] = True
    return chosen.view_as(values)
