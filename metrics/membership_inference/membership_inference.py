"""Membership inference on the forget set, as an `evaluate` metric.

One number is kept of each row: the statistic that the attack looks at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import datasets
import evaluate
import numpy as np

from .arrays import as_array, blocks, check_labels, check_rows, distributions
from .membership import (
    attack_scores,
    auc,
    fit_attack,
    held_out_member_rate,
    member_rate,
    prediction_entropy,
    tpr_at_fpr,
    true_class_confidence,
)
from .streaming import StreamingMetric, check_source, gather

SOURCES = ("member", "non_member", "forget")
ATTACKS = ("entropy", "confidence")
FALSE_POSITIVE_RATES = (0.001, 0.01)

_DESCRIPTION = """\
Membership inference on an unlearned model: a logistic regression learns to tell rows that the model was trained on
from rows that it never saw, by one statistic of its predictions, and then judges the forget set. The member rate is
the share of the forget set that it calls member. Closer to a retrained model's is better, neither high nor low.
"""

_INPUTS = """
Args:
    predictions: the unlearned model's probabilities (or logits, with from_logits=True), shape (rows, classes); or a
        statistic of your own, shape (rows,).
    references: the true classes, integers, shape (rows,); for attack="confidence" alone.
    source: "member" for rows that the model was trained on and still is to know (the retain set), "non_member" for
        rows that it never saw, "forget" for the forget set; one for the whole batch, or one for each row.

Options, at load or with the rows in one compute:
    attack (str): "entropy" (default) of the prediction, or "confidence", the probability of the true class.
    from_logits (bool): the predictions are logits. Default False.

Returns:
    member_rate: share of the forget set that the attack calls member (the polarity of LoTUS).
    efficacy: share that it calls non-member (the polarity of SalUn): one minus the member rate.
    non_member_rate: the same attack's member rate on the non-members, each half judged by an attack that was trained
        on the other: what data that the model never saw looks like. The forget set's should be close to it.
    auc: chance that a row of the forget set looks more like a member than a row of the non-members; 0.5 is ideal.
    tpr_at_0.001_fpr, tpr_at_0.01_fpr: share of the forget set found by a threshold that takes at most 0.1 % (1 %) of
        the non-members for members.
    members_auc, members_tpr_at_0.001_fpr, members_tpr_at_0.01_fpr: the same of the members themselves: how much the
        attack can find at all.

Example:
    >>> metric = evaluate.load("membership_inference")
    >>> metric.add_batch(predictions=[0.1, 0.2, 0.3, 0.2], source="member")
    >>> metric.add_batch(predictions=[0.9, 0.8, 1.0, 0.7], source="non_member")
    >>> metric.add_batch(predictions=[0.2, 0.9], source="forget")
    >>> metric.compute()["member_rate"]
    0.5
"""

_CITATION = """\
@inproceedings{spartalis2025lotus,
    title     = {{LoTUS}: Large-Scale Machine Unlearning with a Taste of Uncertainty},
    author    = {Spartalis, Christoforos N. and Semertzidis, Theodoros and Gavves, Efstratios and Daras, Petros},
    booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
    year      = {2025}
}
@inproceedings{carlini2022membership,
    title     = {Membership Inference Attacks From First Principles},
    author    = {Carlini, Nicholas and Chien, Steve and Nasr, Milad and Song, Shuang and Terzis, Andreas and
                 Tram{\\`e}r, Florian},
    booktitle = {IEEE Symposium on Security and Privacy},
    year      = {2022}
}
"""


@dataclass(frozen=True)
class Options:
    """What a user may set; described in the metric's inputs."""

    attack: str = "entropy"
    from_logits: bool = False

    def __post_init__(self):
        if self.attack not in ATTACKS:
            raise ValueError(f"attack must be one of {', '.join(ATTACKS)}, got {self.attack!r}.")


@dataclass
class State:
    """The statistics of the rows of each source, and which statistic it is: an attack's name, or "given"."""

    kind: str | None = None
    statistics: dict[str, list[np.ndarray]] = field(default_factory=lambda: {name: [] for name in SOURCES})

    def __len__(self) -> int:
        return sum(len(part) for parts in self.statistics.values() for part in parts)

    def add(self, kind: str, parts: dict[str, np.ndarray]) -> None:
        """Add statistics of one kind, source → array; another kind than before raises `ValueError`."""
        if self.kind not in (None, kind):
            raise ValueError(f"These rows give the statistic {kind!r}, the ones before them {self.kind!r}.")
        self.kind = kind
        for name, part in parts.items():
            self.statistics[name].append(part)


class MembershipInference(StreamingMetric, evaluate.Metric):
    """Membership inference; `Options` and the inputs' description say how to use it."""

    Options = Options
    when_adding = ("from_logits", "attack")

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
            reference_urls=["https://arxiv.org/abs/2503.18314", "https://arxiv.org/abs/2112.03570"],
        )

    def _start(self, options: Options) -> State:
        return State()

    def _add(
        self, state: State, options: Options, predictions: Any, references: Any = None, source: Any = None
    ) -> None:
        array = as_array("predictions", predictions)
        given = array.ndim == 1
        statistics = _given(array) if given else _statistics(array, references, options)
        parts = check_source(source, len(statistics), SOURCES)
        state.add("given" if given else options.attack, {name: statistics[part] for name, part in parts})

    def _gather(self, state: State, accelerator: Any) -> State:
        total = State()
        for other in gather(state, accelerator):
            if len(other):
                total.add(other.kind, {name: _concatenated(parts) for name, parts in other.statistics.items()})
        return total

    def _result(self, state: State, options: Options) -> dict[str, Any]:
        members, non_members, forget = (_concatenated(state.statistics[name]) for name in SOURCES)
        for name, statistics in zip(SOURCES, (members, non_members, forget), strict=True):
            if not len(statistics):
                raise ValueError(
                    f"Nothing to compute: add rows of all three sources first. There are none of {name!r}."
                )
        attack = fit_attack(members, non_members)
        rate = member_rate(attack, forget)
        result = {
            "member_rate": rate,
            "efficacy": 1 - rate,
            "non_member_rate": held_out_member_rate(members, np.empty(0), non_members),
        }
        scores = [attack_scores(attack, statistics) for statistics in (forget, members, non_members)]
        for prefix, positives in (("", scores[0]), ("members_", scores[1])):
            result[f"{prefix}auc"] = auc(positives, scores[2])
            for fpr in FALSE_POSITIVE_RATES:
                result[f"{prefix}tpr_at_{fpr}_fpr"] = tpr_at_fpr(positives, scores[2], fpr)
        return result


def _given(statistics: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(statistics))
    if len(bad):
        raise ValueError(f"Statistics must be finite; row {bad[0]} is {statistics[bad[0]]}.")
    # A copy: the caller may use the array again.
    return statistics.astype(np.float64)


def _statistics(predictions: np.ndarray, labels: Any, options: Options) -> np.ndarray:
    """The attack's statistic of each row of probabilities or logits, shape (rows,)."""
    rows = check_rows("predictions", predictions, from_logits=options.from_logits)
    if options.attack == "confidence":
        if labels is None:
            raise ValueError('The attack "confidence" needs references: the true class of each row.')
        labels = check_labels(labels, *rows.shape)
    statistics = np.empty(len(rows))
    for block in blocks(*rows.shape):
        probabilities = distributions(rows[block], from_logits=options.from_logits)
        if options.attack == "confidence":
            statistics[block] = true_class_confidence(probabilities, labels[block])
        else:
            statistics[block] = prediction_entropy(probabilities)
    return statistics


def _concatenated(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0), *parts])
