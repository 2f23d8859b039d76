"""The relative test as an `evaluate` metric: is an unlearned model nearer to the original on the forget set?

One number is kept of each row, and its class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np

from .arrays import as_array
from .confidence import logit_confidence

# `evaluate` brings along what this script names, and does not look further: what the others need stands here too.
from .mmd import mmd2 as mmd2
from .pooled import PooledMetric, Rows, one_a_row
from .streaming import StreamingMetric as StreamingMetric
from .three_samples import relative_test, relative_test_unseen

SOURCES = ("unlearned", "original", "reference", "unseen")
# The class of a row that came without one.
_NO_CLASS = -1

_DESCRIPTION = """\
Relative three-sample test of machine unlearning: is the unlearned model's output on the forget set nearer to the
original model's than to a retrained model's, or, without one, than to the original model's output on unseen data? Both
distances are maximum mean discrepancies. A small p-value means "not forgotten"; a large one is no proof of forgetting.
"""

_INPUTS = """
Args:
    predictions: one number a row, such as the logit-scaled confidence, log(p / (1 - p)) of the true class's
        probability, shape (rows,); or probabilities (or logits, with from_logits=True), shape (rows, classes), of
        which that is computed.
    references: the true classes, integers, shape (rows,); for probabilities or logits, and for the rows "unseen".
    source: "unlearned" for rows of the unlearned model on the forget set, "original" for rows of the original model on
        it, "reference" for rows of the retrained model on it, all three the same samples in the same order; "unseen"
        for rows of the original model on data that was never trained on. One for the whole batch, or one for each row.
        Either of the last two will do.

Options, at load or for one compute:
    from_logits (bool): the predictions are logits. Default False.
    bandwidth (float): of the Gaussian kernel. Default None: the median distance in a fifth of the samples, which are
        then not tested.
    tolerance (float): squared discrepancy by which the unlearned model may be farther from the reference: that of two
        retrained models. Default 0.
    resamples (int): of the test whether original and reference differ at all. Default 500.
    seed (int): Default 0.

Returns:
    p_value: small means "not forgotten". None with fewer than 50 samples to test, and reason says so.
    statistic, standard_error: of the difference of the squared discrepancies; above 0 leans to the original.
    mmd2_original, mmd2_reference: squared discrepancies from the original and from the reference.
    references_p_value: of "original and reference are alike": where it is large there is nothing to be nearer to.
    bandwidth, tolerance, n, left_out, reason: the kernel's, as given, samples tested, samples left out, why not.
    unseen_p_value, unseen_statistic, ...: the same of the test without a retrained model, where there are rows of
        "unseen".

Example:
    >>> metric = evaluate.load("relative_test")
    >>> metric.add_batch(predictions=[i / 50 + 1 for i in range(100)], source="unlearned")
    >>> metric.add_batch(predictions=[i / 50 + 1 for i in range(100)], source="original")
    >>> metric.add_batch(predictions=[i / 50 for i in range(100)], source="reference")
    >>> round(metric.compute()["p_value"], 3)
    0.0
"""

_CITATION = """\
@inproceedings{spartalis2025lotus,
    title     = {{LoTUS}: Large-Scale Machine Unlearning with a Taste of Uncertainty},
    author    = {Spartalis, Christoforos N. and Semertzidis, Theodoros and Gavves, Efstratios and Daras, Petros},
    booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
    year      = {2025}
}
@inproceedings{ribero2026regularized,
    title     = {Regularized f-Divergence Kernel Tests},
    author    = {Ribero, M{\\'o}nica and Schrab, Antonin and Gretton, Arthur},
    booktitle = {International Conference on Artificial Intelligence and Statistics},
    year      = {2026}
}
@inproceedings{bounliphone2016test,
    title     = {A Test of Relative Similarity For Model Selection in Generative Models},
    author    = {Bounliphone, Wacha and Belilovsky, Eugene and Blaschko, Matthew B. and Antonoglou, Ioannis and
                 Gretton, Arthur},
    booktitle = {International Conference on Learning Representations},
    year      = {2016}
}
"""


@dataclass(frozen=True)
class Options:
    """What a user may set; described in the metric's inputs."""

    from_logits: bool = False
    bandwidth: float | None = None
    tolerance: float = 0.0
    resamples: int = 500
    seed: int = 0

    def __post_init__(self):
        if not (self.bandwidth is None or 0 < self.bandwidth < math.inf) or not 0 <= self.tolerance < math.inf:
            raise ValueError(
                f"bandwidth must be above 0, or None, and tolerance at least 0; got {self.bandwidth} and "
                f"{self.tolerance}."
            )
        if self.resamples < 1:
            raise ValueError(f"resamples must be 1 or more, got {self.resamples}.")


class RelativeTest(PooledMetric, evaluate.Metric):
    """The relative three-sample test; `Options` and the inputs' description say how to use it."""

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
            reference_urls=["https://arxiv.org/abs/2601.19755", "https://arxiv.org/abs/1511.04581"],
        )

    def _add(
        self, state: Rows, options: Options, predictions: Any, references: Any = None, source: Any = None
    ) -> None:
        kind, values = one_a_row(
            predictions,
            references,
            "logit-scaled confidences",
            lambda rows, labels: logit_confidence(rows, as_array("labels", labels), from_logits=options.from_logits),
        )
        labels = np.full(len(values), _NO_CLASS) if references is None else as_array("references", references)
        if labels.shape != values.shape or labels.dtype.kind not in "iu":
            raise ValueError(
                f"references must be integers of shape ({len(values)},), got {labels.dtype} of shape {labels.shape}."
            )
        # All rows of a source are of one model.
        state.add(kind, values, labels.astype(np.int64), source, "", SOURCES)

    def _result(self, state: Rows, options: Options) -> dict[str, Any]:
        there = [name for name in SOURCES if state.models(name)]
        if not {"unlearned", "original"} <= set(there) or not {"reference", "unseen"} & set(there):
            raise ValueError(
                "Nothing to compute: add rows of 'unlearned' and 'original', and of 'reference' or 'unseen' or both; "
                f"there are rows of {', '.join(map(repr, there)) or 'none'}."
            )
        values = {name: state.column(name, "") for name in there}
        labels = {name: state.column(name, "", beside=True) for name in there}
        for name in ("original", "reference"):
            # Where both came with their classes they can be compared.
            known = name in there and len(labels[name]) == len(labels["unlearned"])
            if known and min(labels[name].min(), labels["unlearned"].min()) > _NO_CLASS:
                apart = np.flatnonzero(labels[name] != labels["unlearned"])
                if len(apart):
                    raise ValueError(
                        f"Row {apart[0]} of 'unlearned' and of {name!r} have different classes: they must be the same "
                        "samples in the same order."
                    )
        settings = {name: getattr(options, name) for name in ("bandwidth", "tolerance", "resamples", "seed")}
        result: dict[str, Any] = {}
        if "reference" in there:
            result |= relative_test(values["unlearned"], values["original"], values["reference"], **settings).to_dict()
        if "unseen" in there:
            if min(labels["unlearned"].min(), labels["unseen"].min()) == _NO_CLASS:
                raise ValueError("Unseen rows are matched by class: give references with 'unlearned' and 'unseen'.")
            found = relative_test_unseen(
                values["unlearned"],
                values["original"],
                labels["unlearned"],
                values["unseen"],
                labels["unseen"],
                **settings,
            )
            result |= {f"unseen_{name}": value for name, value in found.to_dict().items()}
        return result
