"""RF-JSD as an `evaluate` metric: how an unlearned model treats its forget set, beside how data never seen is treated.

Only sums per class are kept, K × K numbers for K classes whatever the number of rows.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import datasets
import evaluate
import numpy as np

from .arrays import ClassSample, check_labels, check_rows, distributions
from .divergences import RunningClassMeans, check_convention, rf_jsd, rf_jsd_null
from .streaming import StreamingMetric, check_source, gather

SOURCES = ("forget", "unseen")

# A class of which a forget set drawn at random would hold this many samples is not absent by chance (e^-20).
NOT_BY_CHANCE = 20

_DESCRIPTION = """\
Retrain-free Jensen-Shannon divergence (RF-JSD) of machine unlearning: the divergence, class by class, between an
unlearned model's mean prediction on the forget set and the original model's mean prediction on data that was never
trained on. It needs no retrained model. Closer to what a retrained model shows (the null) is better; 0 is not the aim.
"""

_INPUTS = """
Args:
    predictions: probabilities (or logits, with from_logits=True), shape (rows, classes).
    references: the true classes, integers, shape (rows,).
    source: "forget" for rows of the unlearned model on the forget set, "unseen" for rows of the original model on
        data that was never trained on; one for the whole batch, or one for each row.

Options, at load or for one compute:
    from_logits (bool): the predictions are logits. Default False.
    base (float): base of the logarithm, e (default) or 2.
    convention (str): "paper" (default), the divergence as defined, 0 to ln 2; or "reference", the number that the
        paper's published code computes, which the paper prints times 1e4.
    per_class (bool): return the value of each class too. Default True.
    null_resamples (int): resamples of the null, such as 50. Default 0: no null, and no row is kept. At load, or with
        the rows in one compute.
    null_rows (int): the most unseen rows to keep for the null, an equal share for each class. Default 50,000.
    seed (int): seed of the null. Default 0.

Returns:
    rf_jsd: the mean over the classes present in both sources.
    per_class: class → value.
    num_classes: how many classes the mean runs over.
    missing_classes: classes of the forget set without a single unseen row; they are left out.
    null_mean, null_std: with null_resamples, what RF-JSD would be if the forget set had been unseen.
    z: how many null_std the value lies above null_mean; None where the null has no spread.

Example:
    >>> metric = evaluate.load("rf_jsd")
    >>> metric.add_batch(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[0, 1], source="forget")
    >>> metric.add_batch(predictions=[[0.7, 0.3], [0.2, 0.8]], references=[0, 1], source="unseen")
    >>> round(metric.compute()["rf_jsd"], 6)
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
    null_resamples: int = 0
    null_rows: int = 50_000
    seed: int = 0

    def __post_init__(self):
        check_convention(self.convention, self.base)
        if self.null_resamples < 0 or self.null_resamples == 1 or self.null_rows < 1:
            raise ValueError(
                "null_resamples must be 0 (no null) or at least 2, and null_rows at least 1; got "
                f"{self.null_resamples} and {self.null_rows}."
            )
        if self.null_resamples and self.convention != "paper":
            raise ValueError('The null is measured in the convention "paper": leave one of the two out.')


@dataclass
class State:
    """What is kept of the rows: sums for each source, and unseen rows if there is to be a null."""

    sums: dict[str, RunningClassMeans] = field(default_factory=dict)
    kept: ClassSample | None = None

    def __len__(self) -> int:
        return sum(int(running.counts.sum()) for running in self.sums.values())

    @property
    def num_classes(self) -> int | None:
        """Number of columns of the rows; None before the first."""
        return len(self.sums["forget"].counts) if self.sums else None

    def open(self, num_classes: int, options: Options) -> None:
        """Make room for rows of that many columns."""
        self.sums = {name: RunningClassMeans(num_classes) for name in SOURCES}
        if options.null_resamples:
            self.kept = ClassSample(max(1, options.null_rows // num_classes), options.seed)


class RfJsd(StreamingMetric, evaluate.Metric):
    """Retrain-free Jensen-Shannon divergence; `Options` and the inputs' description say how to use it."""

    Options = Options

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Value("int64"),
                    "source": datasets.Value("string"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/2503.18314"],
        )

    def _start(self, options: Options) -> State:
        return State()

    def _add(self, state: State, options: Options, predictions: Any, references: Any, source: Any = None) -> None:
        rows = check_rows("predictions", predictions, from_logits=options.from_logits)
        if state.num_classes not in (None, rows.shape[1]):
            raise ValueError(f"These rows have {rows.shape[1]} classes, the ones before them {state.num_classes}.")
        labels = check_labels(references, *rows.shape)
        parts = check_source(source, len(rows), SOURCES)
        # From here on nothing can fail: a batch is added whole or not at all.
        if state.num_classes is None:
            state.open(rows.shape[1], options)
        for name, part in parts:
            state.sums[name].accumulate(rows[part], labels[part], from_logits=options.from_logits)
            if name == "unseen" and state.kept is not None:
                state.kept.add(distributions(rows[part], from_logits=options.from_logits), labels[part])

    def _gather(self, state: State, accelerator: Any) -> State:
        # A process without rows does not know the number of classes.
        sizes = {size for size in gather(state.num_classes, accelerator) if size is not None}
        if len(sizes) > 1:
            raise ValueError(f"The processes were given rows of different numbers of classes: {sorted(sizes)}.")
        if not sizes:
            return state
        empty = RunningClassMeans(sizes.pop())
        sums = {name: state.sums.get(name, empty).reduced(accelerator) for name in SOURCES}
        samples = [sample for sample in gather(state.kept, accelerator) if sample is not None]
        return State(sums, ClassSample.merged(samples) if samples else None)

    def _result(self, state: State, options: Options) -> dict[str, Any]:
        if not len(state):
            raise ValueError('Nothing to compute: add rows of both sources, "forget" and "unseen", first.')
        if options.null_resamples and state.kept is None:
            raise ValueError("The null needs rows that were not kept: give null_resamples to evaluate.load.")
        forget, unseen = (state.sums[name] for name in SOURCES)
        measured = rf_jsd(forget, unseen, convention=options.convention, base=options.base)
        result = {
            "rf_jsd": measured.value,
            **({"per_class": measured.per_class} if options.per_class else {}),
            "num_classes": len(measured.per_class),
            "missing_classes": list(measured.missing_classes),
        }
        if options.null_resamples:
            null = rf_jsd_null(
                *state.kept.rows(),
                forget.counts,
                options.null_resamples,
                options.seed,
                unseen_counts=unseen.counts,
                base=options.base,
            )
            result |= {"null_mean": null.mean, "null_std": null.std, "z": null.z_score(measured.value)}
        _warn(forget.counts, unseen.counts)
        return result


def _warn(forget: np.ndarray, unseen: np.ndarray) -> None:
    """Warn of forget classes without unseen rows, and of a forget set that looks like whole classes."""
    missing = np.flatnonzero((forget > 0) & (unseen == 0))
    if len(missing):
        warnings.warn(
            f"RF-JSD leaves out classes of the forget set that have no unseen rows: {_shown(missing)}.", stacklevel=4
        )
    expected = unseen / unseen.sum() * forget.sum()
    absent = np.flatnonzero((forget == 0) & (expected >= NOT_BY_CHANCE))
    if len(absent):
        warnings.warn(
            f"The forget set has no row of classes {_shown(absent)}, of which one drawn at random would. If whole "
            "classes were forgotten, no unseen sample should look like a forgotten one: RF-JSD's premise does not "
            "hold, and its value says little.",
            stacklevel=4,
        )


def _shown(classes: np.ndarray) -> str:
    return ", ".join(map(str, classes[:10])) + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")
