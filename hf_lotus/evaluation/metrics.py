"""The one table of metrics: what each is called, how it is written, what it needs, and what it is held against.

Results, tables, figures, cards, verification and the choice of a round read it. To add a metric is one entry of
`METRICS` and one function of a `Measurement`. Another distribution adds one by an entry point of the group
`hf_lotus.metrics`, whose name is the metric's and whose value is a `Metric`:

    [project.entry-points."hf_lotus.metrics"]
    confidence = "confidence_metric:CONFIDENCE"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hf_lotus.evaluation.attacks import ENTROPY, Attack
from hf_lotus.functional.divergences import RunningClassMeans, jensen_shannon, rf_jsd
from hf_lotus.utils.plugins import Registry
from hf_lotus.utils.text import markdown_table, plain

if TYPE_CHECKING:
    from hf_lotus.evaluation.yardstick import Measurement

# Models that a metric needs or is held against; the first two are rows of every table.
ORIGINAL, RETRAIN, RANDOM = "original", "retrain", "random"
# What else a metric may be held against: its field of `Controls`, or nought.
CONTROL, ZERO = "control", "zero"
# What a metric may need beside the forget and the retain set, which are always there, in words.
NEEDS = {
    "unseen": "the unseen set",
    "test": "the test set",
    ORIGINAL: "the original model",
    RETRAIN: "a retrained model",
    RANDOM: "a randomly initialised model",
}
_HELD_AGAINST = {
    RETRAIN: "the retrained model's",
    CONTROL: "its reference",
    ORIGINAL: "the original's",
    ZERO: "zero",
}
# Names of something else in a result or in the log of `trainer.evaluate()`.
_TAKEN = {"name", "values", "metrics", "to_dict", "loss", "runtime", "samples_per_second", "steps_per_second", "epoch"}


@dataclass(frozen=True)
class Metric:
    """A metric of one model.

    Attributes:
        name: its key in results, records and logs, and its attribute of `ModelResult`: lower case, `_` for a space.
        heading: of its column; "" for a metric that has none.
        description: what it is, in one line.
        compute: its function; it returns None where the data do not allow it. None for a value that is handed to
            `Yardstick.measure`, as of what takes a training to find.
        digits: decimals in tables.
        needs: the keys of `NEEDS` without which it is not measured.
        best: how one round is better than another: "nearest" to what it is held against, "least" or "most".
        held_against: what an unlearned model should read, the first of these that there is: `RETRAIN`, `CONTROL`,
            `ORIGINAL` (their values), or `ZERO`.
        control: the field of `Controls` that stands under it, or None.
        control_std: the field with that one's deviation, or None.
        class_wise: whether it is defined where whole classes are forgotten.
        split: the split that a card's header says it is measured on.
        hub_name: the Hub's name of its kind; its own if "".
        on_card: whether a card's header has it.
        after: the metric whose column stands before its own, where that is not the one before it in the table.
        needs_retain_logits: whether it reads the retain set's logits, which are kept only if something does.

    Raises:
        ValueError: for a name that is none or is taken, or an unknown need or reference.
    """

    name: str
    heading: str
    description: str
    compute: Callable[[Measurement], float | None] | None
    digits: int = 3
    needs: tuple[str, ...] = ()
    best: Literal["nearest", "least", "most"] = "nearest"
    held_against: tuple[str, ...] = (RETRAIN,)
    control: str | None = None
    control_std: str | None = None
    class_wise: bool = True
    split: str = "forget"
    hub_name: str = ""
    on_card: bool = True
    after: str | None = None
    needs_retain_logits: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name in _TAKEN:
            raise ValueError(
                f"A metric's name has lower-case letters, digits and '_', and is none of {', '.join(sorted(_TAKEN))}; "
                f"got {self.name!r}."
            )
        for what, given, allowed in (
            ("needs", self.needs, NEEDS),
            ("held_against", self.held_against, _HELD_AGAINST),
            ("best", (self.best,), ("nearest", "least", "most")),
        ):
            if unknown := [value for value in given if value not in allowed]:
                raise ValueError(f"{what} of the metric {self.name!r} knows {', '.join(allowed)}; got {unknown[0]!r}.")

    @property
    def words(self) -> str:
        """Its name as a card's header, a figure and `hf-lotus verify` have it."""
        return self.name.replace("_", " ")

    @property
    def hub_type(self) -> str:
        """The Hub's name of its kind."""
        return self.hub_name or self.name

    @property
    def is_retrain_free(self) -> bool:
        """Whether it can be measured where nobody can retrain."""
        return RETRAIN not in self.needs


def member_rate_of(attack: Attack, **entry: Any) -> Metric:
    """The metric of a membership attack: the share of the forget set that it calls member.

    Args:
        attack: the attack.
        **entry: fields of the `Metric` that shall read otherwise than for any attack.
    """
    default: dict[str, Any] = {
        "name": f"{attack.name}_member_rate",
        "heading": f"{attack.name.replace('_', ' ').capitalize()} member rate",
        "description": f"Share of the forget set that an attack calls member by {attack.description}.",
        "compute": lambda model: model.member_rates(attack).forget,
        "needs_retain_logits": attack.needs_retain_logits,
    }
    return Metric(**{**default, **entry})


def _accuracy(model: Measurement, split: str) -> float:
    return model.predictions[split].accuracy


def _unseen_member_rate(model: Measurement) -> float | None:
    return model.member_rates(ENTROPY).unseen


def _mia_efficacy(model: Measurement) -> float | None:
    rate = model["mia_member_rate"]
    return None if rate is None else 1 - rate


def _jsd(model: Measurement) -> float:
    """Of several retrained models the mean of the divergences, not the divergence from their mean prediction.

    An average of several models' predictions is flatter than any one's: measured from it, a model that is merely less
    sure would score better than a retrained one, and figures from one and from three retrained models would not be
    comparable. The mean of the divergences estimates the same quantity, with less noise, whatever their number.
    """
    own = model.predictions["forget"].probabilities
    golds = (gold.predictions["forget"].probabilities for gold in model.golds)
    return float(np.mean([jensen_shannon(own, gold).mean() for gold in golds]))


def _rf_jsd(model: Measurement) -> float | None:
    if not len(model.yardstick.common_classes):
        return None
    forget = model.predictions["forget"]
    return rf_jsd(RunningClassMeans.of(forget.probabilities, forget.labels), model.yardstick.unseen_means).value


def _rf_jsd_z(model: Measurement) -> float | None:
    null, divergence = model.yardstick.rf_jsd_null, model["rf_jsd"]
    return None if null is None or divergence is None else null.z_score(divergence)


def _zrf(model: Measurement) -> float:
    forget, ignorant = model.predictions["forget"], model.yardstick.ignorant
    assert ignorant is not None  # as the entry needs it
    return 1 - float(jensen_shannon(forget.probabilities, ignorant.probabilities).mean())


def _avg_gap(model: Measurement) -> float | None:
    return mean_distance((model[name], model.mean_of_retrained(name)) for name in COMPARED)


def _difference(model: Measurement, figure: str) -> float | None:
    own, gold = model[figure], model.mean_of_retrained(figure)
    return None if own is None or gold is None else own - gold


def _gap_deviations(model: Measurement) -> float | None:
    deviations = [getattr(model.yardstick.controls, f"{name}_std") for name in COMPARED]
    apart = [_difference(model, name) for name in COMPARED]
    if any(value is None for value in apart) or not all(deviations):
        return None
    return float(np.mean([abs(a) / d for a, d in zip(apart, deviations, strict=True) if a is not None and d]))


def _retrain_free_gap(model: Measurement) -> float | None:
    """A retrained model treats the forget set as it treats unseen data, and the rest as the original did."""
    original, unseen_accuracy = model.yardstick.original, model.yardstick.unseen_accuracy
    if unseen_accuracy is None:
        return None
    return mean_distance(
        [
            (model["mia_member_rate"], model["unseen_member_rate"]),
            (model["forget_accuracy"], unseen_accuracy),
            (model["retain_accuracy"], original["retain"].accuracy),
            (model["test_accuracy"], original["test"].accuracy),
        ]
    )


# What Avg Gap is the mean distance in.
COMPARED = ("mia_member_rate", "forget_accuracy", "retain_accuracy", "test_accuracy")
# The same with their signs: figure → metric.
DIFFERENCES = {name: f"{name.removesuffix('_accuracy').removeprefix('mia_')}_difference" for name in COMPARED}


def mean_distance(pairs: Iterable[tuple[float | None, float | None]]) -> float | None:
    """The mean of |a − b| over pairs; None where a value is missing."""
    pairs = list(pairs)
    apart = [abs(a - b) for a, b in pairs if a is not None and b is not None]
    return float(np.mean(apart)) if len(apart) == len(pairs) else None


def _accuracy_of(split: str, description: str, **entry: Any) -> Metric:
    heading, compute = f"{split.capitalize()} acc.", partial(_accuracy, split=split)
    return Metric(f"{split}_accuracy", heading, description, compute, split=split, hub_name="accuracy", **entry)


_KEPT = {"held_against": (RETRAIN, ORIGINAL)}
_OURS = (
    _accuracy_of(
        "forget",
        "Share of the forget set classified correctly, exact.",
        held_against=(RETRAIN, CONTROL),
        control="unseen_accuracy",
    ),
    _accuracy_of("retain", "The same on the retain set.", **_KEPT),
    _accuracy_of("unseen", "The same on the unseen set.", needs=("unseen",), **_KEPT),
    _accuracy_of("test", "The same on the test set.", needs=("test",), **_KEPT),
    member_rate_of(
        ENTROPY,
        name="mia_member_rate",
        heading="MIA member rate",
        description="Share of the forget set that the entropy attack calls member.",
        held_against=(RETRAIN, CONTROL),
        control="unseen_member_rate",
    ),
    Metric(
        "unseen_member_rate",
        "",
        "The same of the unseen set, by an attack that did not train on it, each class weighted as in the forget set.",
        _unseen_member_rate,
        needs=("unseen",),
        split="unseen",
    ),
    Metric(
        "jsd",
        "JSD",
        "Mean JSD from the retrained model's predictions on the forget set, in nats; of several, the mean over them.",
        _jsd,
        digits=4,
        needs=(RETRAIN,),
        best="least",
        held_against=(ZERO,),
        control="jsd_floor",
    ),
    Metric(
        "rf_jsd",
        "RF-JSD",
        "The retrain-free divergence, in nats.",
        _rf_jsd,
        digits=4,
        needs=(ORIGINAL, "unseen"),
        best="least",
        held_against=(RETRAIN, CONTROL),
        control="rf_jsd_null_mean",
        control_std="rf_jsd_null_std",
    ),
    Metric(
        "rf_jsd_z",
        "RF-JSD z",
        "How many deviations RF-JSD lies above its null.",
        _rf_jsd_z,
        digits=1,
        needs=(ORIGINAL, "unseen"),
        best="least",
        held_against=(RETRAIN, ZERO),
        class_wise=False,
    ),
    Metric(
        "mia_efficacy",
        "MIA efficacy",
        "Share of the forget set that the entropy attack calls non-member (SalUn's polarity).",
        _mia_efficacy,
        after="mia_member_rate",
    ),
    Metric(
        "zrf",
        "ZRF",
        "One minus the mean JSD from a randomly initialised model's predictions on the forget set (the zero retrain "
        "forgetting score of Bad Teacher).",
        _zrf,
        needs=(RANDOM,),
    ),
    Metric(
        "avg_gap",
        "Avg Gap",
        "Mean distance from the retrained model in member rate, forget, retain and test accuracy; where there are "
        "several, from their mean.",
        _avg_gap,
        digits=4,
        needs=(RETRAIN, "test"),
        best="least",
        held_against=(ZERO,),
        control="avg_gap_floor",
    ),
    Metric(
        "retrain_free_gap",
        "Retrain-free gap",
        "The estimate of Avg Gap when nobody can retrain.",
        _retrain_free_gap,
        digits=4,
        needs=(ORIGINAL, "unseen", "test"),
        best="least",
        held_against=(ZERO,),
        class_wise=False,
    ),
    Metric(
        "seconds",
        "Seconds",
        "Wall time of making the model.",
        None,
        digits=1,
        best="least",
        held_against=(ZERO,),
        on_card=False,
    ),
    Metric(
        "relearning_excess",
        "Relearning excess",
        "How much more accuracy a round on the retain set alone brings back on the forget set than on unseen data, "
        "each class weighted as in the forget set. A model that never knew: about 0; one that hides it: more.",
        None,
        needs=("unseen",),
        held_against=(RETRAIN, ZERO),
        class_wise=False,
        after="retrain_free_gap",
    ),
    *(
        Metric(
            DIFFERENCES[figure],
            "",
            f"The {figure.replace('mia', 'MIA').replace('_', ' ')} less that of the retrained models, of their mean.",
            partial(_difference, figure=figure),
            needs=(RETRAIN, "test") if figure == "test_accuracy" else (RETRAIN,),
            held_against=(ZERO,),
            on_card=False,
        )
        for figure in COMPARED
    ),
    Metric(
        "gap_deviations",
        "",
        "Avg Gap with each distance in standard deviations of the retrained models, of which it takes several.",
        _gap_deviations,
        digits=1,
        needs=(RETRAIN, "test"),
        best="least",
        held_against=(ZERO,),
        on_card=False,
    ),
)


def _check(name: str, thing: object) -> None:
    if not isinstance(thing, Metric):
        raise TypeError(f"it is {thing!r}, and a metric is a hf_lotus.evaluation.metrics.Metric")
    if thing.name != name:
        raise ValueError(f"its entry point is called {name!r}, and the metric {thing.name!r}; give both one name")


# By name, in the order of results and records; those of other distributions come last.
METRICS: Registry[Metric] = Registry("metric", "hf_lotus.metrics", {metric.name: metric for metric in _OURS}, _check)


def offered_by(name: str) -> str:
    """The distribution that a metric is of: "hf_lotus", or its name and version."""
    entries = METRICS.added().get(name, ())
    if name in METRICS.own or not entries:
        return "hf_lotus"
    found = entries[0].dist
    return "an unnamed distribution" if found is None else f"{found.name} {found.version}"


def columns(names: Collection[str]) -> list[Metric]:
    """The metrics among `names` that have a column, in the order of the columns."""
    # Those that are shown are loaded, and no others: a table is to be had where a plugin is broken.
    listed = [METRICS[name] for name in METRICS if name in METRICS.own or name in names]
    placed = [metric for metric in listed if metric.after is None]
    for metric in (metric for metric in listed if metric.after is not None):
        before = [place for place, other in enumerate(placed, start=1) if other.name == metric.after]
        placed.insert(before[0] if before else len(placed), metric)
    return [metric for metric in placed if metric.heading and metric.name in names]


def metrics_table() -> str:
    """All metrics as a Markdown table: what each is, what it needs, and what it is held against."""
    rows = [
        [
            f"`{metric.name}`",
            plain(metric.description),
            ", ".join(NEEDS[need] for need in metric.needs) or "–",
            "; else ".join(_HELD_AGAINST[what] for what in metric.held_against),
            "yes" if metric.class_wise else "no",
        ]
        for metric in METRICS.values()
    ]
    return markdown_table(["Metric", "What it is", "Needs", "Held against", "Whole classes"], rows)
