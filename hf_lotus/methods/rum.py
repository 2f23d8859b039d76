"""RUM: split the forget set by how much of it was memorised, and unlearn each part by its own method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from hf_lotus.functional.memorisation import PROXIES, memorisation, split_by_score
from hf_lotus.methods.base import Batch, GradientMethod, LossInputs, Paper, Round, Run, Task, says_same_work
from hf_lotus.methods.finetune import Finetune
from hf_lotus.methods.part import Phase, Refined, as_part
from hf_lotus.methods.rounds import Pass, Streams
from hf_lotus.methods.salun import SalUn

PARTS = ("low", "middle", "high")


@dataclass(frozen=True)
class RUM(GradientMethod):
    """Refined unlearning: a method for each part of the forget set, in turn (Zhao et al., arXiv:2406.01257).

    The forget set is split into thirds by how much the original has memorised of a sample (`memorisation`); they are
    unlearned in the order low, middle, high, each from where the one before has left the model::

        S_low, S_middle, S_high = thirds of D_f, by a proxy of memorisation
        θ_i = U_i(θ_{i−1}; forget S_i, retain D_r)

    The paper's choice is to do nothing for the low part, which a model would know without having seen it, to finetune
    for the middle, and SalUn for the high one. To the method of a part, θ_{i−1} is the original: its teacher, what its
    mask and its searches are made of. What is still to be forgotten is not trained on as if it were retained.

    One run has all phases and one optimizer; `num_train_epochs` counts the rounds of all, and a run of fewer ends
    before the last part. Rounds to end with are chosen among the last phase's. All phases draw on one part of the
    retain set, the largest that any of them asks for. Of less than three samples the low part gets none first.

    Attributes:
        low: the method for the least memorised third; None ("nothing") for none. Not one that splits the forget set
            itself, renews its teacher, starts anew or shows samples of a class repeatedly (UNSIR).
        middle: the same for the second third.
        high: the same for the most memorised third.
        proxy: of memorisation: `confidence` of the true class, `margin`, `entropy`, or `margin_rank`, the margin's
            rank among the class's trained samples.
        low_rounds: rounds for the low part, where another one follows. Default: its method's own.
        middle_rounds: the same for the middle part.
        scales: learning rate of the three phases, as shares of `learning_rate`. The default finetunes at a tenth of
            SalUn's rate, as each does by itself.
    """

    name: ClassVar[str] = "rum"
    paper: ClassVar[Paper] = Paper(
        key="zhao2024what",
        title="What Makes Unlearning Hard and What to Do About It",
        authors="Zhao, Kairan and Kurmanji, Meghdad and Bărbulescu, George-Octavian and Triantafillou, Eleni and "
        "Triantafillou, Peter",
        venue="NeurIPS",
        year=2024,
        arxiv="2406.01257",
    )

    low: GradientMethod | None = field(default=None, metadata={"holds": "method"})
    middle: GradientMethod | None = field(default=Finetune(), metadata={"holds": "method"})
    high: GradientMethod | None = field(default=SalUn(), metadata={"holds": "method"})
    proxy: str = "confidence"
    low_rounds: int | None = None
    middle_rounds: int | None = None
    scales: tuple[float, ...] = (1.0, 0.1, 1.0)

    def __post_init__(self) -> None:
        if all(method is None for method in self._methods):
            raise ValueError("There is nothing to unlearn by: give a method for one part at least.")
        for part, method in zip(PARTS, self._methods, strict=True):
            _check_inner(part, method)
        if self.proxy not in PROXIES:
            raise ValueError(f"proxy must be one of {', '.join(PROXIES)}, got {self.proxy!r}.")
        for name in ("low_rounds", "middle_rounds"):
            if (given := getattr(self, name)) is not None and given < 1:
                raise ValueError(f"{name} must be 1 or more, got {given}.")
        if len(self.scales) != len(PARTS) or not all(0 < scale < math.inf for scale in self.scales):
            raise ValueError(f"scales must be three numbers above 0, got {self.scales}.")

    @property
    def _methods(self) -> tuple[GradientMethod | None, ...]:
        return self.low, self.middle, self.high

    @property
    def needs_teacher(self) -> bool:  # type: ignore[override]  # a constant elsewhere, the inner methods' here
        """Whether a part's method needs the teacher's logits."""
        return any(method.needs_teacher for method in self._methods if method is not None)

    @property
    def needs_unseen(self) -> bool:  # type: ignore[override]  # likewise
        """Whether a part's method needs unseen data."""
        return any(method.needs_unseen for method in self._methods if method is not None)

    @property
    def depends_on_length(self) -> bool:  # type: ignore[override]  # likewise
        """Whether a part's method's steps do."""
        return any(method.depends_on_length for method in self._methods if method is not None)

    @property
    def is_same_work(self) -> bool:  # type: ignore[override]  # likewise
        """Whether the steps of every part's method are."""
        return all(says_same_work(method) for method in self._methods if method is not None)

    def phases(self, task: Task) -> list[Phase]:
        """What is done, in order: parts without samples or a method are left out."""
        found: list[Phase] = []
        sizes = np.bincount(split_by_score(np.zeros(task.num_forget), len(PARTS)), minlength=len(PARTS))
        start = 0
        for part, method in enumerate(self._methods):
            if method is not None and sizes[part]:
                mine = replace(task, num_forget=int(sizes[part]))
                stop = start + self._rounds(part, method, mine)
                found.append(Phase(part, method, mine, start, stop))
                start = stop
        return [*found[:-1], found[-1]._replace(stop=None)] if found else []

    def _rounds(self, part: int, method: GradientMethod, task: Task) -> int:
        own = (self.low_rounds, self.middle_rounds, None)[part]
        return own or math.ceil(cast(float, method.default_arguments(task).get("num_train_epochs", 1)))

    def refusal(self, task: Task) -> str | None:
        """Why there is nothing to do, or a part's method is not defined."""
        phases = self.phases(task)
        if not phases:
            return f"of {task.num_forget} forget samples none is in a part that has a method"
        for phase in phases:
            streams = phase.method.streams(phase.task)
            if streams.forget_per_class is not None or streams.retain_per_class is not None:
                return (
                    f"{PARTS[phase.part]} must show each sample as it is, and {type(phase.method).__name__} does not"
                )
        return None

    def phase(self, task: Task, index: int) -> Phase:
        """The phase of a round."""
        return next(phase for phase in self.phases(task) if phase.stop is None or index < phase.stop)

    def streams(self, task: Task) -> Streams:
        """The forget set, and as much of the retain set as any part's method asks for."""
        asked = [phase.method.streams(phase.task).retain_fraction for phase in self.phases(task)]
        return Streams(forget=True, retain_fraction=max(asked))

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """The passes of the round's method, over its part of the forget set."""
        phase = self.phase(task, index)
        passes = phase.method.passes(phase.task, index - phase.start)
        needs, name = phase.method.needs_teacher, PARTS[phase.part]
        return [
            replace(
                one,
                part=phase.part,
                needs_teacher=one.needs_teacher and needs,
                name=f"{name}: {one.name}" if one.name else name,
            )
            for one in passes
        ]

    def parts(self, run: Run) -> Tensor:
        """0, 1 or 2 for each forget sample: the third that it belongs to."""
        predictions = run.teacher_predictions("forget")
        logits, labels = predictions.kept_logits, predictions.labels
        trained = None
        if self.proxy == "margin_rank":
            others = run.teacher_predictions("retain", range(run.task.num_retain))
            trained = np.concatenate([logits, others.kept_logits]), np.concatenate([labels, others.labels])
        return torch.from_numpy(split_by_score(memorisation(logits, labels, self.proxy, trained), len(PARTS)))

    def renews_teacher(self, task: Task, index: int) -> bool:
        """At the start of every phase but the first."""
        return index > 0 and any(phase.start == index for phase in self.phases(task))

    def may_end_with(self, task: Task, index: int) -> bool:
        """Only in the last phase, where its method may: before it something is left to be forgotten."""
        last = self.phases(task)[-1]
        return index >= last.start and last.method.may_end_with(last.task, index - last.start)

    def prepare(self, run: Run) -> Refined:
        """What the method of the phase that begins needs: the first one's, or the one the teacher was renewed for."""
        phase = self.phase(run.task, run.renewed_before or 0)
        bare = Refined.of(run, phase)
        return bare._replace(inner=phase.method.prepare(as_part(run, bare)))

    def mask(self, run: Run) -> Mapping[str, Tensor] | None:
        """Which weights may move in the phase that begins."""
        state = cast(Refined, run.prepared)
        return state.phase.method.mask(as_part(run, state))

    def begin_round(self, run: Run, index: int) -> Round:
        """The decision of the round's method.

        Raises:
            ValueError: if it stops before the last part is reached.
        """
        state = cast(Refined, run.prepared)
        decision = state.phase.method.begin_round(
            as_part(run, state, index == state.phase.start), index - state.phase.start
        )
        if decision.stop and state.phase.stop is not None:
            raise ValueError(
                f"The method of the {PARTS[state.phase.part]} part, {type(state.phase.method).__name__}, stops before "
                "its rounds are over, and other parts are still to be unlearned. Methods that stop are for the last."
            )
        return decision

    def learning_rate_within(self, task: Task, index: int, share: float, rounds: float) -> float:
        """The factor of the round's method among its own rounds, times the phase's scale."""
        phase = self.phase(task, index)
        own = (rounds if phase.stop is None else phase.stop) - phase.start
        within = phase.method.learning_rate_within(phase.task, index - phase.start, share, max(own, 1.0))
        return self.scales[phase.part] * within

    def transform(self, batch: Batch, student: nn.Module) -> Batch:
        """What the round's method shows the student."""
        state = cast(Refined, batch.state)
        shown = state.phase.method.transform(state.inwards(batch), student)
        return state.outwards(shown, batch)

    def loss(self, inputs: LossInputs) -> Tensor:
        """The loss of the round's method, shape (batch,)."""
        state = cast(Refined, inputs.state)
        return state.phase.method.loss(state.inwards(inputs))

    def round_distance(self, run: Run) -> float | None:
        """The distance of the last part's method."""
        state = cast(Refined, run.prepared)
        return state.phase.method.round_distance(as_part(run, state))

    def default_arguments(self, task: Task) -> dict[str, object]:
        """Those of the last part's method, and the rounds of all."""
        last = self.phases(task)[-1] if task.num_forget else None
        if last is None:
            return {}
        own = last.method.default_arguments(last.task)
        return {**own, "num_train_epochs": last.start + cast(float, own.get("num_train_epochs", 1))}


def _check_inner(part: str, method: GradientMethod | None) -> None:
    if method is None:
        return
    if not isinstance(method, GradientMethod):
        raise TypeError(f"{part} must be a gradient method such as Finetune(), or None, got {method!r}.")
    kind = type(method)
    for hook, why in {"parts": "splits the forget set itself", "renews_teacher": "renews its teacher"}.items():
        # A mask over another method asks that one.
        each = method.inner if isinstance(method, SalUn) else method
        if getattr(type(each), hook) is not getattr(GradientMethod, hook):
            raise TypeError(f"{part} must not be {kind.__name__}, which {why}: the parts are unlearned in one run.")
    if getattr(method, "name", None) == "retrain":
        raise TypeError(f"{part} must not be Retrain, which starts anew: what was unlearned before it would be lost.")
