"""Jensen-Shannon divergence of an unlearned from a retrained model, row by row, as an `evaluate` metric.

Only sums are kept. The convention "reference" divides by totals over the whole matrix, so it keeps the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import datasets
import evaluate
import numpy as np

from .arrays import check_labels, check_rows, distributions
from .divergences import check_convention, divergence, jensen_shannon
from .streaming import StreamingMetric, gather

_DESCRIPTION = """\
Jensen-Shannon divergence (JSD) of machine unlearning: the mean, over the forget set, of the divergence between an
unlearned model's prediction and that of a model retrained without the forget set. 0 means that the two predict alike.
Two trainings differ even on data that neither has seen: measure that floor too, original against retrained model on a
test set.
"""

_INPUTS = """
Args:
    predictions: probabilities (or logits, with from_logits=True) of the unlearned model, shape (rows, classes).
    references: the same of the retrained model on the same samples in the same order.
    labels: the true classes, integers, shape (rows,); optional, for the value of each class.

Options, at load or for one compute:
    from_logits (bool): predictions and references are logits. Default False.
    base (float): base of the logarithm, e (default) or 2.
    convention (str): "paper" (default), the divergence as defined, 0 to ln 2; or "reference", the number that the
        published code of LoTUS computes, which the paper prints times 1e4. It keeps all rows in memory: at load, or
        with the rows in one compute.
    per_class (bool): return the value of each class too, where labels were given. Default True.

Returns:
    jsd: the mean over the rows.
    per_class: class → mean over its rows; with labels alone.
    num_rows: how many rows the mean runs over.

Example:
    >>> metric = evaluate.load("jsd")
    >>> round(metric.compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[[0.7, 0.3], [0.2, 0.8]])["jsd"], 6)
    0.016214
"""

_CITATION = """\
@inproceedings{spartalis2025lotus,
    title     = {{LoTUS}: Large-Scale Machine Unlearning with a Taste of Uncertainty},
    author    = {Spartalis, Christoforos N. and Semertzidis, Theodoros and Gavves, Efstratios and Daras, Petros},
    booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
    year      = {2025}
}
"""


@dataclass(frozen=True)
class Options:
    """What a user may set; described in the metric's inputs."""

    from_logits: bool = False
    base: float = math.e
    convention: str = "paper"
    per_class: bool = True

    def __post_init__(self):
        check_convention(self.convention, self.base)


@dataclass
class State:
    """What is kept of the rows: the sum of the divergence and the count for each class (without labels, for one)."""

    num_classes: int = 0
    labelled: bool = False
    sums: np.ndarray = field(default_factory=lambda: np.zeros(1))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    # Predictions, references and classes of each batch; only for the convention that needs the whole matrix.
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None

    def __len__(self) -> int:
        return int(self.counts.sum())

    def open(self, num_classes: int, labelled: bool) -> None:
        """Make room for rows of that many columns."""
        self.num_classes, self.labelled = num_classes, labelled
        size = num_classes if labelled else 1
        self.sums, self.counts = np.zeros(size), np.zeros(size, dtype=np.int64)

    def require_alike(self, num_classes: int, labelled: bool) -> None:
        """Raise `ValueError` unless rows of that kind can be added."""
        if self.num_classes != num_classes:
            raise ValueError(f"These rows have {num_classes} classes, the ones before them {self.num_classes}.")
        if self.labelled != labelled:
            raise ValueError("Give labels with all rows or with none: some have them, some have not.")


class Jsd(StreamingMetric, evaluate.Metric):
    """Jensen-Shannon divergence; `Options` and the inputs' description say how to use it."""

    Options = Options

    def _info(self) -> evaluate.MetricInfo:
        rows = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": rows, "references": rows}),
            reference_urls=["https://arxiv.org/abs/2503.18314"],
        )

    def _start(self, options: Options) -> State:
        return State(kept=[] if options.convention == "reference" else None)

    def _add(self, state: State, options: Options, predictions: Any, references: Any, labels: Any = None) -> None:
        p = check_rows("predictions", predictions, from_logits=options.from_logits)
        q = check_rows("references", references, from_logits=options.from_logits)
        if p.shape != q.shape:
            raise ValueError(f"predictions and references must have the same shape, got {p.shape} and {q.shape}.")
        classes = np.zeros(len(p), np.int64) if labels is None else check_labels(labels, *p.shape)
        if not len(p):
            return
        if len(state):
            state.require_alike(p.shape[1], labels is not None)
        else:
            state.open(p.shape[1], labels is not None)
        size = len(state.sums)
        divergences = jensen_shannon(p, q, from_logits=options.from_logits)
        state.sums += np.bincount(classes, weights=divergences, minlength=size)
        state.counts += np.bincount(classes, minlength=size)
        if state.kept is not None:
            state.kept.append((*(distributions(x, from_logits=options.from_logits) for x in (p, q)), classes))

    def _gather(self, state: State, accelerator: Any) -> State:
        states = [other for other in gather(state, accelerator) if len(other)]
        if not states:
            return state
        total = State(kept=None if state.kept is None else [])
        total.open(states[0].num_classes, states[0].labelled)
        for other in states:
            total.require_alike(other.num_classes, other.labelled)
            total.sums += other.sums
            total.counts += other.counts
            if total.kept is not None:
                total.kept += other.kept
        return total

    def _result(self, state: State, options: Options) -> dict[str, Any]:
        if not len(state):
            raise ValueError("Nothing to compute: add predictions and references first.")
        sums = state.sums / math.log(options.base)
        if options.convention == "reference":
            if state.kept is None:
                raise ValueError('"reference" needs rows that were not kept: give the convention to evaluate.load.')
            p, q, classes = (np.concatenate(arrays) for arrays in zip(*state.kept, strict=True))
            divergences = divergence(p, q, convention="reference", base=options.base)
            sums = np.bincount(classes, weights=divergences, minlength=len(sums))
        result = {"jsd": float(sums.sum() / len(state)), "num_rows": len(state)}
        if options.per_class and state.labelled:
            result["per_class"] = {int(c): float(sums[c] / state.counts[c]) for c in np.flatnonzero(state.counts)}
        return result
