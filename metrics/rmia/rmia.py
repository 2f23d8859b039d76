"""RMIA on a forget set as an `evaluate` metric: does the judged model treat it like data that it was trained on?

One number is kept of each row: the probability of its true class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np

from .arrays import blocks, check_labels, check_rows, distributions

# `evaluate` brings along what this script names, and does not look further: what the others need stands here too.
from .intervals import Estimate as Estimate
from .likelihood_ratios import GAMMA, A, rmia
from .pooled import PooledMetric, Rows, flat, one_a_row
from .pools import check_used as check_used
from .roc import Roc as Roc
from .streaming import StreamingMetric as StreamingMetric

SOURCES = ("forget", "unseen")
TARGET = "target"

_DESCRIPTION = """\
RMIA, membership inference by likelihood ratios, on a model after machine unlearning: a sample of the forget set looks
like a member where the judged model finds it likelier than reference models do, and more so than it finds other
samples. The area under the ROC curve tells the forget set from data that the model never saw: a retrained model reads
0.5, in its interval.
"""

_INPUTS = """
Args:
    predictions: the probability of the true class of each row, shape (rows,); or probabilities (or logits, with
        from_logits=True), shape (rows, classes).
    references: the true classes, integers, shape (rows,); for the latter alone.
    source: "forget" for rows of the forget set, "unseen" for rows that the judged model never saw, of the same
        classes; one for the whole batch, or one for each row.
    model: "target" for rows of the judged model, any other name for rows of a reference model; one for the whole
        batch, or one for each row. All must have the same samples in the same order.
    trained_on: True for rows that their reference model was trained on: they are not used. None, one for the whole
        batch, or one for each row. Default: none was.

Options, at load or for one compute:
    from_logits (bool): the predictions are logits. Default False.
    a (float): 0 to 1, how much models that know a sample are like those that do not. Default 0.3, the authors' for
        CIFAR-10; they take 0.6 for CIFAR-100.
    gamma (float): by how much a ratio must exceed another to dominate it, 1 or more. Default 2.
    resamples (int): of the bootstrap. Default 1,000.
    seed (int): of the halves of the unseen rows, and of the bootstrap. Default 0.

Returns:
    auc: chance that a forget sample looks more like a member than an unseen one does; 0.5 is what a model shows that
        never saw the forget set. With its 95 % interval, auc_low and auc_high.
    tpr_at_0.001_fpr, tpr_at_0.01_fpr: share of the forget set found while 0.1 % (1 %) of the unseen samples are taken
        for members, with ..._low and ..._high. None where there are not 1,000 (100) unseen samples to tell it from,
        and ..._reason says so.
    positives, negatives, population, models: forget samples, unseen ones to tell them from, unseen ones to compare
        with, reference models.
    a, gamma: as given.

Example:
    >>> metric = evaluate.load("rmia")
    >>> metric.add_batch(predictions=[0.9] * 10, source="forget", model="target")
    >>> metric.add_batch(predictions=[0.4] * 10, source="forget", model="reference")
    >>> metric.add_batch(predictions=[0.4] * 20, source="unseen", model="target")
    >>> metric.add_batch(predictions=[0.4] * 20, source="unseen", model="reference")
    >>> metric.compute()["auc"]
    1.0
"""

_CITATION = """\
@inproceedings{spartalis2025lotus,
    title     = {{LoTUS}: Large-Scale Machine Unlearning with a Taste of Uncertainty},
    author    = {Spartalis, Christoforos N. and Semertzidis, Theodoros and Gavves, Efstratios and Daras, Petros},
    booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
    year      = {2025}
}
@inproceedings{zarifzadeh2024low,
    title     = {Low-Cost High-Power Membership Inference Attacks},
    author    = {Zarifzadeh, Sajjad and Liu, Philippe and Shokri, Reza},
    booktitle = {International Conference on Machine Learning},
    year      = {2024}
}
"""


@dataclass(frozen=True)
class Options:
    """What a user may set; described in the metric's inputs."""

    from_logits: bool = False
    a: float = A
    gamma: float = GAMMA
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.a <= 1 or not self.gamma >= 1 or self.resamples < 1:
            raise ValueError(
                "a must lie between 0 and 1, gamma be 1 or more and resamples 1 or more; got "
                f"{self.a}, {self.gamma} and {self.resamples}."
            )


class Rmia(PooledMetric, evaluate.Metric):
    """Membership inference by likelihood ratios; `Options` and the inputs' description say how to use it."""

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
                    "model": datasets.Value("string"),
                    "trained_on": datasets.Value("bool"),
                }
            ),
            reference_urls=["https://arxiv.org/abs/2312.03262"],
        )

    def _add(
        self,
        state: Rows,
        options: Options,
        predictions: Any,
        references: Any = None,
        source: Any = None,
        model: Any = None,
        trained_on: Any = None,
    ) -> None:
        if model is None:
            raise ValueError(f"Say with model which one each row is of: {TARGET!r} is the judged one.")
        kind, values = one_a_row(
            predictions,
            references,
            "probabilities of the true class",
            lambda rows, labels: _true_class(rows, labels, options.from_logits),
        )
        if ((values < 0) | (values > 1)).any():
            raise ValueError("RMIA takes probabilities of the true class: numbers between 0 and 1.")
        trained = np.asarray(False if trained_on is None else trained_on)
        if trained.dtype != bool or trained.shape not in ((), (len(values),)):
            raise ValueError(
                f"trained_on must be a boolean, or one for each of the {len(values)} rows; got {trained.dtype} of "
                f"shape {trained.shape}."
            )
        state.add(kind, values, np.broadcast_to(trained, len(values)), source, model, SOURCES)

    def _result(self, state: Rows, options: Options) -> dict[str, Any]:
        for name in SOURCES:
            if TARGET not in state.models(name):
                raise ValueError(f"Nothing to compute: add rows of {name!r} under the model {TARGET!r} first.")
        others = sorted({model for name in SOURCES for model in state.models(name)} - {TARGET})
        if not others:
            raise ValueError("RMIA needs a reference model: add its rows of both sources, under a name of its own.")
        columns, trained = {}, {}
        for name in SOURCES:
            target, *reference = state.matrix(name, [TARGET, *others])
            columns[name] = (target, np.stack(reference))
            trained[name] = state.matrix(name, others, beside=True)
        found = rmia(
            *columns["forget"],
            *columns["unseen"],
            a=options.a,
            gamma=options.gamma,
            trained_on=trained["forget"],
            unseen_trained_on=trained["unseen"],
            resamples=options.resamples,
            seed=options.seed,
        )
        return flat(found.to_dict())


def _true_class(predictions: np.ndarray, labels: Any, from_logits: bool) -> np.ndarray:
    """Probability of the true class of each row of probabilities or logits, shape (rows,)."""
    rows = check_rows("predictions", predictions, from_logits=from_logits)
    labels = check_labels(labels, *rows.shape)
    values = np.empty(len(rows))
    for block in blocks(*rows.shape):
        probabilities = distributions(rows[block], from_logits=from_logits)
        values[block] = probabilities[np.arange(len(probabilities)), labels[block]]
    return values
