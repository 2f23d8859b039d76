"""Margin matching in closed loop: LoTUS's bound, met by every sample (this project's own; docs/margin_matching.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.functional.margins import closed_loop_shifts, fitted_temperature, margins, matched_margins
from hf_lotus.functional.tensors import soft_cross_entropy
from hf_lotus.methods.base import GradientMethod, LossInputs, Round, Run, Task
from hf_lotus.methods.rounds import Pass, Streams
from hf_lotus.utils.seeds import SUBSET, derived_seed

UNSEEN_MARGINS = ("original", "student", "mean")
# A round is never shorter, and no longer than this many of LoTUS's, which takes D_f and 30 % of D_r.
_LEAST_SAMPLES, _MOST_ROUNDS_OF_LOTUS = 768, 1.5
# So many forget samples are a request of a person's, not a share of the data.
_FEW = 64
# More of the retain set than this many rounds show is not drawn.
_ROUNDS_DRAWN = 10


@dataclass(frozen=True)
class MarginMatching(GradientMethod):
    """Make the student as sure of each forget sample as a model is of unseen samples of its class.

    With the original's logits z, true class y and the margin ``m(x) = z_y − max_{k≠y} z_k``; F_c and U_c the
    distributions of m over trained and over unseen samples of class c::

        m*(x)   = U_c⁻¹(F_c(m(x)))                                           the margin that is wanted
        shift   = m*(x) − m(x)                                               in the first round
        shift   ← shift + gain · clip(m*(x) − m_student(x), ±8)              before each later one
        target  = softmax((z + shift · e_y) / T)   x ∈ D_f,      softmax(z)   x ∈ D_r
        loss(x) = − Σ_k target_k · log softmax(s)_k

    What training cannot reach by itself, the target is moved for: the loop is closed over the student's own margins
    on D_f, measured under evaluation transforms. Augmented, a sample keeps its shift. Every batch has its share of
    forget samples and of samples of D_r; both sides start over when they run out.

    Where whole classes are forgotten, no unseen sample tells what a model without them would say. It would give them
    no probability at all: shift = −∞ in every round, and no unseen set is needed.

    Attributes:
        gain: how much of the error is taken in before each round; 0 leaves the loop open.
        unseen_margins: whose margins on unseen data are U_c: "original", the "student"'s own before each round, or
            the "mean" of what the two ask for. The original's is too high a bound where the deletion changes what
            unseen data looks like; the student's own can run away downwards.
        forget_share: share of forget samples in a batch, or all of them where they are fewer. Default: a half; a
            quarter where there are few.
        visits: how often a round shows each forget sample.
        temperature: T. At 1 the target is as sure as the original is of unseen samples, overconfident or not.
        fit_temperature: take as T the temperature that calibrates the original on the unseen set.
        pool_below: a class with fewer forget samples than this takes its ranks among its retained samples too, where
            the teacher was trained on both; with fewer unseen ones it moves in part, and without any altogether, as
            all classes do together.
    """

    name: ClassVar[str] = "margin_matching"

    gain: float = 0.5
    unseen_margins: str = "mean"
    forget_share: float | None = None
    visits: float = 1.85
    temperature: float = 1.0
    fit_temperature: bool = False
    pool_below: int = 200

    needs_teacher: ClassVar[bool] = True
    needs_unseen: ClassVar[bool] = True
    is_same_work: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.gain <= 2:
            raise ValueError(f"gain must lie between 0 and 2, beyond which errors grow, got {self.gain}.")
        if self.unseen_margins not in UNSEEN_MARGINS:
            raise ValueError(f"unseen_margins must be {', '.join(UNSEEN_MARGINS)}, got {self.unseen_margins!r}.")
        if not 0 < self.visits < math.inf:
            raise ValueError(f"visits must be above 0 and finite, got {self.visits}.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0 and finite, got {self.temperature}.")
        if self.fit_temperature and self.temperature != 1:
            raise ValueError(f"Give temperature ({self.temperature}) or fit_temperature, not both.")
        if self.pool_below < 1:
            raise ValueError(
                f"pool_below must be 1 or more samples, got {self.pool_below}; 1 pools only empty classes."
            )
        if self.forget_share is not None:
            Pass(forget_share=self.forget_share, samples=1)  # checks it

    def _share(self, task: Task) -> float:
        return self.forget_share or (0.25 if task.num_forget <= _FEW else 0.5)

    def _samples(self, task: Task) -> int:
        """Samples of a round: as many as show each forget sample `visits` times, within bounds."""
        wanted = self.visits * task.num_forget / self._share(task)
        most = _MOST_ROUNDS_OF_LOTUS * (task.num_forget + 0.3 * task.num_retain)
        return max(round(min(wanted, most)), _LEAST_SAMPLES)

    def streams(self, task: Task) -> Streams:
        """The forget set, and all of the retain set or as much of it as ten rounds show."""
        shown = _ROUNDS_DRAWN * self._samples(task) * (1 - self._share(task))
        return Streams(forget=True, retain_fraction=min(shown / max(task.num_retain, 1), 1.0))

    def passes(self, task: Task, index: int) -> Sequence[Pass]:
        """One balanced pass."""
        return (Pass(forget_share=self._share(task), samples=self._samples(task)),)

    def prepare(self, run: Run) -> Prepared | None:
        """Where the forget samples stand among trained ones by the original's margins, and T.

        Raises:
            ValueError: if T is to be fitted where whole classes are forgotten.
        """
        if run.class_wise:
            if self.fit_temperature:
                raise ValueError("fit_temperature needs unseen samples of the forgotten classes. Give temperature.")
            return None
        forget, unseen = (run.teacher_predictions(split) for split in ("forget", "unseen"))
        assert unseen.logits is not None
        beside = self._ranked_beside(run, forget.labels)
        fitted = fitted_temperature(unseen.logits, unseen.labels) if self.fit_temperature else self.temperature
        return Prepared(
            _margins(forget),
            forget.labels,
            _margins(beside) if beside else np.empty(0),
            beside.labels if beside else np.empty(0, dtype=np.int64),
            fitted,
        )

    def _ranked_beside(self, run: Run, labels: np.ndarray) -> Predictions | None:
        """What the original says of samples beside which those of scarce classes have their ranks.

        Retained ones, `pool_below` at most of each class with fewer forget samples than that, drawn by the seed. A
        renewed teacher was not trained on D_f, which would come last among what it was trained on: a handful has its
        ranks among unseen samples then, and more than a handful among themselves.
        """
        if run.teacher_is_renewed:
            return run.teacher_predictions("unseen") if len(labels) <= _FEW else None
        retained, rows = run.labels("retain").numpy(), []
        for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
            if count < self.pool_below:
                generator = np.random.default_rng(derived_seed(run.seed, SUBSET, int(label)))
                rows.append(generator.permutation(np.flatnonzero(retained == label))[: self.pool_below])
        taken = np.sort(np.concatenate([*rows, np.empty(0, dtype=np.int64)])).tolist()
        return run.teacher_predictions("retain", taken) if taken else None

    def begin_round(self, run: Run, index: int) -> Round:
        """Close the loop: measure the student's margins on D_f, and move the targets by what is missing."""
        if run.class_wise:
            return Round(state={"shifts": torch.full((run.num_forget,), -math.inf, dtype=torch.float64)})
        prepared = cast(Prepared, run.prepared)
        goals = self._goals(run)
        reached = prepared.forget
        if index > 0:
            reached = _margins(run.student_predictions("forget"))
        if index == 0:
            shifts = goals * prepared.temperature - reached
        else:
            before = run.round_state["shifts"].numpy()
            shifts = closed_loop_shifts(before, goals, reached, self.gain * prepared.temperature)
        values = {
            "forget_accuracy": float((reached > 0).mean()),
            "forget_accuracy_goal": float((goals > 0).mean()),
            "margin_error": float(np.abs(goals - reached).mean()),
        }
        return Round(values, state={"shifts": torch.from_numpy(shifts)})

    def _goals(self, run: Run) -> np.ndarray:
        """The margins that the student should have on D_f, shape (num_forget,)."""
        prepared, wanted = cast(Prepared, run.prepared), []
        if self.unseen_margins != "student":
            wanted.append(self._matched(prepared, run.teacher_predictions("unseen")))
        if self.unseen_margins != "original":
            wanted.append(self._matched(prepared, run.student_predictions("unseen")))
        return np.mean(wanted, axis=0) / prepared.temperature

    def _matched(self, prepared: Prepared, unseen: Predictions) -> np.ndarray:
        beside = (prepared.trained, prepared.trained_labels) if len(prepared.trained) else ()
        there = _margins(unseen)
        return matched_margins(prepared.forget, prepared.forget_labels, there, unseen.labels, self.pool_below, *beside)

    def loss(self, inputs: LossInputs) -> Tensor:
        """Cross-entropy with the matched (forget) or the original's own predictions (retain), shape (batch,)."""
        assert inputs.teacher_logits is not None and inputs.positions is not None
        teacher, forget = inputs.teacher_logits.float(), inputs.is_forget
        prepared, shifts = cast("Prepared | None", inputs.state), inputs.round_state["shifts"]
        temperature = prepared.temperature if prepared else self.temperature
        mine = shifts[inputs.positions % len(shifts)].to(teacher.dtype)
        moved = teacher.scatter_add(1, inputs.labels[:, None], mine[:, None])
        matched = torch.softmax(moved / temperature, dim=1)
        return soft_cross_entropy(inputs.logits, torch.where(forget[:, None], matched, torch.softmax(teacher, dim=1)))

    def default_arguments(self, task: Task) -> dict[str, object]:
        """AdamW at 1e-3 (a large transformer's: 2e-5), ten rounds; 5e-4 and six rounds for few samples.

        The rate rises over 5 % of the steps and falls by a cosine.
        """
        few = task.num_forget <= _FEW
        rate = 2e-5 if task.is_large_transformer else 5e-4 if few else 1e-3
        batch = 32 if task.is_large_transformer else 128 if task.is_batch_norm_model and not few else 64
        return {
            "learning_rate": rate,
            "num_train_epochs": 6 if few else 10,
            "per_device_train_batch_size": batch,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.05,
        }


def _margins(predictions: Predictions) -> np.ndarray:
    assert predictions.logits is not None
    return margins(predictions.logits, predictions.labels)


class Prepared(NamedTuple):
    """What the rounds of a run have in common.

    Attributes:
        forget: the original's margins on the forget set, shape (num_forget,).
        forget_labels: its classes.
        trained: the teacher's margins on what classes with few forget samples are ranked beside, shape (more,).
        trained_labels: their classes.
        temperature: T.
    """

    forget: np.ndarray
    forget_labels: np.ndarray
    trained: np.ndarray
    trained_labels: np.ndarray
    temperature: float
