"""The teacher: a frozen copy of the original model, asked once a run where its inputs never change."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PretrainedConfig

from hf_lotus.data.prepared import num_samples
from hf_lotus.data.samples import are_ready
from hf_lotus.evaluation.predictions import Predictions, concatenated, predict
from hf_lotus.functional.tensors import frozen_copy, shares_frozen_weights
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.logits_cache import KeptLogits
from hf_lotus.trainer.round_data import RoundDataset
from hf_lotus.utils.memory import fits

SIDES = ("forget", "retain")
# Rows that are asked for at once, so that memory does not grow with their number.
_BLOCK = 8192


def may_keep_logits(arguments: UnlearningArguments, samples: Dataset, num_labels: int | None) -> bool:
    """Whether the teacher's logits are kept: where asked for, and by default where its inputs never change.

    Those of augmented images do, and those of a data set that is not ours may.

    Args:
        arguments: `keep_teacher_logits` and the augmentation.
        samples: the retain set made ready.
        num_labels: number of classes, if the model tells it.

    Raises:
        ValueError: if they are to be kept and cannot be.
    """
    asked = arguments.keep_teacher_logits
    if asked and (arguments.augments or num_labels is None):
        why = "images are augmented" if arguments.augments else "the model's configuration does not tell its classes"
        raise ValueError(f"The teacher's logits cannot be kept: {why}. Leave keep_teacher_logits out.")
    if asked is not None:
        return asked
    return are_ready(samples) and not arguments.augments and num_labels is not None


class FrozenTeacher:
    """A copy of a model in eval mode, without gradients; of one with adapters, of these alone (`frozen_copy`).

    Args:
        model: the model to copy.
        device: where the copy is to be.

    Attributes:
        model: the copy.
        current: the model whose logits are given: the copy, or what `renew` put in its place.
        showing: side → what the logits on its samples are computed within.
    """

    def __init__(self, model: nn.Module, device: torch.device):
        self.model = frozen_copy(model).to(device)
        self.current = self.model
        self.showing: Callable[[str], AbstractContextManager] = nullcontext
        self._kept: tuple[RoundDataset, dict[str, KeptLogits]] | None = None
        # Of a round's samples, by their positions; where they may lie on the device.
        self._placed: Tensor | None = None

    def renew(self, student: nn.Module, device: torch.device) -> nn.Module:
        """Let a copy of the student, frozen as it is, give the logits from now on; the first copy stays as it was."""
        self._kept = self._placed = None
        self.current = frozen_copy(student).to(device)
        return self.current

    def keep_logits(
        self,
        samples: RoundDataset,
        folder: str | Path,
        keys: Mapping[str, str],
        dtype: str,
        original: Callable[[], Tensor],
        measured: Callable[[str, Predictions], None] | None,
        accelerator: Accelerator,
        on_device: bool | None = None,
        **options: Any,
    ) -> None:
        """Have the logits on the samples of a round in a file: those that are not there yet are computed.

        They are computed in the order of their rows, and so are the same to the bit where a resumed run has lost them.

        Args:
            samples: the round's samples; each must be the same whenever it is read, not augmented.
            folder: of the files.
            keys: "forget" and "retain" → what determines the logits of that set: model, processor, data, precision.
            dtype: "float32" or "bfloat16".
            original: gives the logits on the whole forget set, which evaluation needs too.
            measured: told what was predicted on a whole side by the batches that measuring would take, so that it need
                not be predicted again.
            accelerator: of the run.
            on_device: whether the device holds a copy of those that a round shows; None for where they `fits`.
            **options: passed to `predict`.
        """
        num_labels = cast(PretrainedConfig, self.model.config).num_labels
        assert num_labels is not None  # it tells them: see `may_keep_logits`
        files: dict[str, KeptLogits] = {}
        self._kept = self._placed = None
        for side in SIDES:
            key = hashlib.sha256(f"{keys[side]} {dtype}".encode()).hexdigest()
            size = num_samples(getattr(samples, side))
            files[side] = KeptLogits(Path(folder) / key[:32], size, num_labels, dtype)
        missing = {side: files[side].missing(getattr(samples, f"{side}_rows")) for side in SIDES}
        # Others on this machine read the same file, and must not see rows come while they look.
        accelerator.wait_for_everyone()
        writes = accelerator.is_local_main_process
        if len(missing["forget"]) == num_samples(samples.forget):
            logits = original()
            if writes:
                files["forget"].keep(missing["forget"], logits)
            missing["forget"] = missing["forget"][:0]
        for side in SIDES:
            size, found = num_samples(getattr(samples, side)), []
            for rows in missing[side].split(_BLOCK) if len(missing[side]) else ():
                predicted = self._ask(samples, side, rows, accelerator=accelerator, **options)
                if writes:
                    files[side].keep(rows, torch.from_numpy(predicted.kept_logits))
                found.append(replace(predicted, logits=None))
            alike = accelerator.num_processes == 1 and (size <= _BLOCK or _BLOCK % options["batch_size"] == 0)
            if measured is not None and found and alike and len(missing[side]) == size:
                measured(side, concatenated(found))
        accelerator.wait_for_everyone()
        self._kept = samples, files
        size = len(samples) * num_labels * files["forget"].logits.element_size()
        if fits(size, accelerator.device, on_device):
            rows = {side: getattr(samples, f"{side}_rows") for side in SIDES}
            parts = [files[side].logits[rows[side]].to(accelerator.device) for side in SIDES]
            self._placed = torch.cat(parts)

    def _ask(self, samples: RoundDataset, side: str, rows: Tensor, **options: Any) -> Predictions:
        chosen = {f"{name}_rows": rows if name == side else rows[:0] for name in SIDES}
        part = RoundDataset(samples.forget, samples.retain, **chosen)
        with self.showing(side):
            return predict(self.current, part, description=f"teacher on {side}", **options)

    def leave(self) -> None:
        """Free the device of the teacher, where its logits are kept: `predict` takes it back while it needs it."""
        if self._kept is not None and not shares_frozen_weights(self.current):
            self.current.to("cpu")

    def forget_logits(self, for_others: bool) -> None:
        """Compute the logits again from now on; the files go too, unless they are `for_others` to read."""
        if self._kept is not None and not for_others:
            for file in self._kept[1].values():
                file.remove()
        self._kept = self._placed = None

    @torch.no_grad()
    def logits(self, inputs: Mapping[str, Tensor], positions: Tensor, autocast: AbstractContextManager) -> Tensor:
        """The logits on a batch, kept or computed; float32, shape (batch, classes).

        Args:
            inputs: the model's inputs.
            positions: the samples' places in the data set given to `keep_logits`, shape (batch,).
            autocast: the precision to compute in.
        """
        if self._kept is None:
            with autocast:
                return self.current(**inputs).logits.float()
        samples, files = self._kept
        if self._placed is not None:
            return self._placed[positions % len(samples)].float()
        places = positions.cpu() % len(samples)
        is_forget = places < samples.num_forget
        logits = torch.empty(len(places), files["forget"].logits.shape[1])
        logits[is_forget] = files["forget"][samples.forget_rows[places[is_forget]]]
        logits[~is_forget] = files["retain"][samples.retain_rows[places[~is_forget] - samples.num_forget]]
        return logits.to(positions.device)
