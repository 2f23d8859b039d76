"""KLOM as an `evaluate` metric: how far a pool's unlearned models' margins are from its retrained models', by sample.

One number is kept of each row: the margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets
import evaluate
import numpy as np

from .arrays import as_array
from .confidence import logit_confidence

# `evaluate` brings along what this script names, and does not look further: what the others need stands here too.
from .intervals import Estimate as Estimate
from .margin_divergence import BINS, CLIP, EPSILON, klom
from .pooled import PooledMetric, Rows, flat, one_a_row
from .pools import check_pools as check_pools
from .roc import Roc as Roc
from .streaming import StreamingMetric as StreamingMetric

SOURCES = ("unlearned", "retrained")

_DESCRIPTION = """\
KL divergence of margins (KLOM) of machine unlearning: of every sample, the divergence between the histogram of its
margins under a pool of unlearned models and that under a pool of retrained models, KL(unlearned || retrained). Its
95th percentile over the samples is read beside the floor, retrained models against other retrained models: closer to
that is better, and 0 is not the aim.
"""

_INPUTS = """
Args:
    predictions: the margin of each row, log(p / (1 - p)) of the true class's probability, shape (rows,); or
        probabilities (or logits, with from_logits=True), shape (rows, classes).
    references: the true classes, integers, shape (rows,); for probabilities or logits alone.
    source: "unlearned" for rows of a model that was trained on the samples and unlearned them, "retrained" for rows of
        one that never saw them; one for the whole batch, or one for each row.
    model: the model's number or name within its source; one for the whole batch, or one for each row. All models of
        both sources must have the same samples in the same order.

Options, at load or for one compute:
    from_logits (bool): the predictions are logits. Default False.
    bins (int), clip (float), epsilon (float): of the histograms: number of bins, where margins are cut off, the least
        share of a retrained bin. Default 20, 100 and 1e-5, as in the authors' code.
    resamples (int): of the bootstrap over samples. Default 1,000.
    seed (int): of the bootstrap and of the floor's halves. Default 0.

Returns:
    percentile_95, median, mean: over the samples, in nats; None with fewer than four models of a source, and reason
        says so. Each with its 95 % interval over the samples, as ..._low and ..._high.
    floor_percentile_95, floor_median, floor_mean: half of the retrained models against the other half.
    matched_percentile_95, matched_median, matched_mean: the unlearned models at the floor's number: held against it.
    floor_models, unlearned_models, retrained_models, samples: how many there were.
    reason: why there are no figures, or None.

Example:
    >>> metric = evaluate.load("klom")
    >>> metric.add_batch(predictions=[1, 2, 3, 4], source="unlearned", model=["a", "b", "c", "d"])
    >>> metric.add_batch(predictions=[5, 6, 7, 8], source="retrained", model=["e", "f", "g", "h"])
    >>> round(metric.compute()["percentile_95"], 4)
    10.1268
"""

_CITATION = """\
@inproceedings{spartalis2025lotus,
    title     = {{LoTUS}: Large-Scale Machine Unlearning with a Taste of Uncertainty},
    author    = {Spartalis, Christoforos N. and Semertzidis, Theodoros and Gavves, Efstratios and Daras, Petros},
    booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
    year      = {2025}
}
@inproceedings{georgiev2025attribute,
    title     = {Attribute-to-Delete: Machine Unlearning via Datamodel Matching},
    author    = {Georgiev, Kristian and Rinberg, Roy and Park, Sung Min and Garg, Shivam and Ilyas, Andrew and
                 M{\\k{a}}dry, Aleksander and Neel, Seth},
    booktitle = {International Conference on Learning Representations},
    year      = {2025}
}
"""


@dataclass(frozen=True)
class Options:
    """What a user may set; described in the metric's inputs."""

    from_logits: bool = False
    bins: int = BINS
    clip: float = CLIP
    epsilon: float = EPSILON
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self):
        if self.bins < 2 or not self.clip > 0 or not 0 < self.epsilon < 1 or self.resamples < 1:
            raise ValueError(
                "bins must be 2 or more, clip above 0, epsilon between 0 and 1 and resamples 1 or more; got "
                f"{self.bins}, {self.clip}, {self.epsilon} and {self.resamples}."
            )


class Klom(PooledMetric, evaluate.Metric):
    """KL divergence of margins; `Options` and the inputs' description say how to use it."""

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
                }
            ),
            reference_urls=["https://arxiv.org/abs/2410.23232"],
        )

    def _add(
        self,
        state: Rows,
        options: Options,
        predictions: Any,
        references: Any = None,
        source: Any = None,
        model: Any = None,
    ) -> None:
        if model is None:
            raise ValueError("KLOM compares pools of models: say with model which one each row is of.")
        kind, values = one_a_row(
            predictions,
            references,
            "margins",
            lambda rows, labels: logit_confidence(rows, as_array("labels", labels), from_logits=options.from_logits),
        )
        state.add(kind, values, np.zeros(len(values)), source, model, SOURCES)

    def _result(self, state: Rows, options: Options) -> dict[str, Any]:
        for name in SOURCES:
            if not state.models(name):
                raise ValueError(f"Nothing to compute: add rows of both sources first. There are none of {name!r}.")
        sides = [state.matrix(name, state.models(name)) for name in SOURCES]
        settings = {name: getattr(options, name) for name in ("bins", "clip", "epsilon", "resamples", "seed")}
        return flat(klom(*sides, **settings).to_dict())
