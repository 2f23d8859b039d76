"""How many samples pass forward and backward through the models of a run: its cost, whatever the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# Where a sample is of: the sides, and any other data, such as the unseen set or learned noise.
SIDES = ("forget", "retain", "other")
# What a sample passes: the student forward, any other model forward (the original, copies of it, an ignorant one), and
# any of them backward.
FORWARD, FORWARD_OTHER, BACKWARD = KINDS = ("student_forward", "teacher_forward", "backward")


class PassCounter:
    """Counts, by hooks on the models, the samples of every forward pass, and of each whose backward pass comes.

    It counts within `counting` alone, and not within `paused`. Copies of a model that is watched are watched too, as
    models that are not the student. What is shown is of the sides that `showing` or `split` tell, else "other".
    """

    def __init__(self) -> None:
        self._counts = dict.fromkeys(((kind, side) for kind in KINDS for side in SIDES), 0)
        self._student: nn.Module | None = None
        self._is_on = False
        # (retained, forgotten) samples of the batch at hand; the split that is predicted, in place of them.
        self._shown = (0, 0)
        self._split: str | None = None
        # Kind of pass and samples of what passes while it is noted, not counted.
        self._noted: list[tuple[str, int]] | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> PassCounter:
        return self  # the hooks of a copied model count here too

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Kind of pass → side → samples, of this rank."""
        return {kind: {side: self._counts[kind, side] for side in SIDES} for kind in KINDS}

    def begin(self, carried: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Begin anew, or from the counts of a run before it was broken off."""
        for kind, side in self._counts:
            self._counts[kind, side] = int((carried or {}).get(kind, {}).get(side, 0))

    @contextmanager
    def counting(self, student: nn.Module, *others: nn.Module) -> Iterator[None]:
        """Count what passes these models; they are left without hooks.

        Args:
            student: the model that is unlearned.
            *others: the others of the run.
        """
        self._student, self._is_on = student, True
        handles = [model.register_forward_hook(self._passed) for model in (student, *others)]
        try:
            yield
        finally:
            self._is_on = False
            for handle in handles:
                handle.remove()

    def watch(self, state: object) -> None:
        """Count, too, what passes a model that a method has made, be it by itself or one of a tuple."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, nn.Module) and not self._watches(part):
                part.register_forward_hook(self._passed)

    def _watches(self, model: nn.Module) -> bool:
        return any(self.owns(hook) for hook in model._forward_hooks.values())

    def owns(self, hook: object) -> bool:
        """Whether a hook is of this counter."""
        return getattr(hook, "__self__", None) is self

    @contextmanager
    def noting(self) -> Iterator[list[tuple[str, int]]]:
        """Do not count what passes in here, but note it: kind of pass and samples, to be counted by `again`."""
        before, self._noted = self._noted, []
        try:
            yield self._noted
        finally:
            self._noted = before

    def again(self, noted: Sequence[tuple[str, int]]) -> None:
        """Count what was noted, of the batch that `showing` tells: a graph passes it without calling any hook."""
        for kind, samples in noted:
            self._add(kind, self._sides(samples))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what passes in here, such as to measure."""
        before, self._is_on = self._is_on, False
        try:
            yield
        finally:
            self._is_on = before

    @contextmanager
    def showing(self, retained: int, forgotten: int) -> Iterator[None]:
        """What passes in here is a batch of so many samples of each side, or one side of it."""
        before, self._shown = (self._shown, self._split), (retained, forgotten)
        self._split = None
        try:
            yield
        finally:
            self._shown, self._split = before

    @contextmanager
    def split(self, name: str) -> Iterator[None]:
        """All that passes in here is of one split."""
        before, self._split = self._split, name
        try:
            yield
        finally:
            self._split = before

    @torch.compiler.disable  # a compiled model is counted from outside
    def _passed(self, module: nn.Module, args: object, output: Any) -> None:
        logits = getattr(output, "logits", None)
        if not self._is_on or not isinstance(logits, Tensor):
            return
        samples = len(logits)
        sides = self._sides(samples)
        self._pass(FORWARD if module is self._student else FORWARD_OTHER, samples, sides)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self._pass(BACKWARD, samples, sides))

    def _pass(self, kind: str, samples: int, sides: Mapping[str, int]) -> None:
        if self._noted is not None:
            self._noted.append((kind, samples))
        else:
            self._add(kind, sides)

    def _sides(self, samples: int) -> dict[str, int]:
        """How many samples of each side a forward pass of so many is of."""
        retained, forgotten = self._shown
        if self._split is not None:
            return {self._split if self._split in SIDES else "other": samples}
        if samples == retained + forgotten:
            return {"forget": forgotten, "retain": retained}
        if samples in (forgotten, retained):
            return {"forget" if samples == forgotten else "retain": samples}
        return {"other": samples}

    def _add(self, kind: str, sides: Mapping[str, int]) -> None:
        if self._is_on:
            for side, samples in sides.items():
                self._counts[kind, side] += samples
