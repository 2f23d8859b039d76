"""What a model is measured against, and the measuring: every metric of the table, of one model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from hf_lotus.evaluation.attacks import ENTROPY, Attack, MemberRates
from hf_lotus.evaluation.metrics import COMPARED, METRICS, ORIGINAL, RANDOM, RETRAIN, Metric, offered_by
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.results import Controls, ModelResult, retrained_row
from hf_lotus.functional.divergences import Null, RunningClassMeans, jensen_shannon, rf_jsd_null
from hf_lotus.functional.weighting import same_shares

# So much less of the retain set than the original gets right, and a retrained model is none to compare with.
_FAR_WORSE = 0.1


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What a model is measured against: the original's predictions, the retrained model's where there is one.

    Attributes:
        original: predictions of the model before unlearning.
        retrained: predictions of a model trained without the forget set, or None.
        fold_seed: seed of the attacks' folds; None for the same ones always.
        further: predictions of further such models, of other seeds. Gaps are then from the mean of all of them.
        class_wise: whether whole classes are forgotten, so that no unseen data stands for the forget set.
        seed: seed of the null's resampling.
        ignorant: predictions of a randomly initialised model on the forget set, or None.
    """

    original: Mapping[str, Predictions]
    retrained: Mapping[str, Predictions] | None = None
    class_wise: bool = False
    seed: int = 0
    ignorant: Predictions | None = None
    further: Sequence[Mapping[str, Predictions]] = ()
    fold_seed: int | None = None

    @cached_property
    def rf_jsd_null(self) -> Null | None:
        """The null of RF-JSD; None without unseen data, or where whole classes are forgotten."""
        unseen = self.original.get("unseen")
        if unseen is None or self.class_wise or not len(self.common_classes):
            return None
        counts = np.bincount(self.original["forget"].labels, minlength=unseen.probabilities.shape[1])
        return rf_jsd_null(unseen.probabilities, unseen.labels, counts, seed=self.seed)

    @cached_property
    def common_classes(self) -> np.ndarray:
        """The classes of both the forget and the unseen set, int64, sorted."""
        return np.intersect1d(self.original["forget"].labels, self.original["unseen"].labels)

    @cached_property
    def unseen_means(self) -> RunningClassMeans:
        """The original's mean prediction on each class of the unseen set."""
        unseen = self.original["unseen"]
        return RunningClassMeans.of(unseen.probabilities, unseen.labels)

    @property
    def all_retrained(self) -> tuple[Mapping[str, Predictions], ...]:
        """Predictions of every retrained model."""
        return () if self.retrained is None else (self.retrained, *self.further)

    @cached_property
    def gold_standards(self) -> tuple[Measurement, ...]:
        """The retrained models' metrics, from whose mean every gap is measured."""
        return tuple(Measurement(self, predictions, number=k) for k, predictions in enumerate(self.all_retrained))

    def reseeded(self, seed: int) -> Yardstick:
        """The same with another seed of the null's resamples and of the attacks' folds."""
        return replace(self, seed=seed, fold_seed=seed)

    def measure_retrained(
        self,
        seconds: Sequence[float | None] = (),
        given: Mapping[str, Mapping[str, float | None]] | None = None,
    ) -> list[ModelResult]:
        """The rows of the retrained models, each measured from the mean of the OTHERS: what the noise of training is.

        A single one is measured from itself.

        Args:
            seconds: what each took, where it is known.
            given: row → values, as in `measure`.
        """
        rows = []
        for number, predictions in enumerate(self.all_retrained):
            name = retrained_row(number)
            took = seconds[number] if number < len(seconds) else None
            values = {**((given or {}).get(name) or {}), "seconds": took}
            model = Measurement(self, predictions, values, number)
            rows.append(ModelResult(name, values={metric: model[metric] for metric in METRICS}))
        return rows

    @cached_property
    def controls(self) -> Controls:
        """The references for the forget set's figures, measured on the original model."""
        null, floor = self.rf_jsd_null, None
        if self.retrained is not None and "test" in self.original:
            own, golds = self.original["test"].probabilities, self.all_retrained
            floor = float(np.mean([jensen_shannon(own, gold["test"].probabilities).mean() for gold in golds]))
        return Controls(
            **self._spread_of_retrained,
            unseen_accuracy=self.unseen_accuracy,
            unseen_member_rate=None if self.class_wise else ENTROPY.rates(self.original, self.fold_seed).unseen,
            rf_jsd_null_mean=null.mean if null else None,
            rf_jsd_null_std=null.std if null else None,
            jsd_floor=floor,
        )

    @cached_property
    def _spread_of_retrained(self) -> dict[str, float]:
        """How far retrained models lie apart; {} where there are not several.

        Each one's gap is from the mean of the other n − 1, and so of variance σ²(1 + 1 / (n − 1)). A method's is from
        the mean of all n, from which one more retrained model would lie with σ²(1 + 1 / n): the mean is scaled so.
        """
        golds, n = self.gold_standards, len(self.gold_standards)
        if n < 2:
            return {}
        figures = {name: [gold[name] for gold in golds] for name in COMPARED}
        known = {name: [v for v in values if v is not None] for name, values in figures.items()}
        spread = {f"{name}_std": float(np.std(values, ddof=1)) for name, values in known.items() if len(values) == n}
        gaps = [gold["avg_gap"] for gold in golds]
        if all(gap is not None for gap in gaps):
            mean = float(np.mean([gap for gap in gaps if gap is not None]))
            spread["avg_gap_floor"] = mean * math.sqrt((1 + 1 / n) / (1 + 1 / (n - 1)))
        return spread

    @cached_property
    def unseen_accuracy(self) -> float | None:
        """The original's accuracy on unseen data, each class weighted as in the forget set; None without any."""
        if self.class_wise or "unseen" not in self.original or not len(self.common_classes):
            return None
        return self.original["unseen"].accuracy_weighted(self.original["forget"].labels)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the figures must know."""
        notes = []
        if "unseen" not in self.original:
            notes.append("No unseen set was given: RF-JSD, its null and the retrain-free gap are not measured.")
        elif self.class_wise:
            notes.append(
                "Whole classes are forgotten, so no unseen sample should look like a forgotten one: RF-JSD's premise "
                "does not hold, and the retrain-free gap and the null are left out."
            )
        elif missing := self._missing_classes:
            shown = ", ".join(map(str, missing[:10]))
            notes.append(f"Classes of the forget set without unseen samples are left out of RF-JSD: {shown}.")
        if self.unseen_accuracy is not None and not self._has_the_same_shares:
            notes.append(
                "The references on unseen data (accuracy, member rate, retrain-free gap) weight each class as the "
                "forget set has it. Results without this note took the unseen set as it is."
            )
        worst = min((gold["retain"].accuracy for gold in self.all_retrained), default=math.inf)
        if worst < self.original["retain"].accuracy - _FAR_WORSE:
            notes.append(
                f"A retrained model classifies {worst:.2f} of the retain set correctly, and the original "
                f"{self.original['retain'].accuracy:.2f}: it is not trained enough to compare with. Gaps from it say "
                "nothing of forgetting."
            )
        if (count := len(self.all_retrained)) > 1:
            notes.append(
                f"Gaps and differences are from the mean of {count} retrained models, JSD is the mean of the "
                "divergences from each; a retrained model's own are from the others. The reference under Avg Gap is "
                "what one more retrained model would be expected to have: the floor of the gaps."
            )
        return tuple(notes)

    @property
    def _has_the_same_shares(self) -> bool:
        return same_shares(self.original["unseen"].labels, self.original["forget"].labels)

    @property
    def _missing_classes(self) -> list[int]:
        return np.setdiff1d(self.original["forget"].labels, self.original["unseen"].labels).tolist()

    def measure(
        self,
        name: str,
        predictions: Mapping[str, Predictions],
        seconds: float | None = None,
        given: Mapping[str, float | None] | None = None,
    ) -> ModelResult:
        """Every metric of one model.

        Args:
            name: what to call the model in the result.
            predictions: its predictions, split → `Predictions`.
            seconds: wall time of making it.
            given: metric → value, of the metrics that are not computed from predictions, such as those that need a
                model to be trained.

        Raises:
            ValueError: for a given value of a metric that is computed, or that there is none of.
            PluginError: for a metric of another distribution that cannot be used.
            RuntimeError: for one that fails.
        """
        model = Measurement(self, predictions, {**(given or {}), "seconds": seconds})
        return ModelResult(name, values={metric: model[metric] for metric in METRICS})


@dataclass(frozen=True, eq=False)
class Measurement:
    """One model's metrics, by name, each computed when it is first asked for.

    Attributes:
        yardstick: what it is measured against.
        predictions: its predictions, split → `Predictions`; "forget" and "retain" are there.
        given: metric → value, of the metrics that are not computed.
        number: which of the retrained models it is, from 0; None for any other model.
    """

    yardstick: Yardstick
    predictions: Mapping[str, Predictions]
    given: Mapping[str, float | None] = field(default_factory=dict)
    number: int | None = None
    _values: dict[str, float | None] = field(default_factory=dict, repr=False)
    _rates: dict[str, MemberRates] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in self.given:
            if name not in METRICS or METRICS[name].compute is not None:
                taken = ", ".join(name for name in METRICS if METRICS[name].compute is None)
                raise ValueError(f"No value can be given for {name!r}; values are given for {taken}.")

    def __getitem__(self, name: str) -> float | None:
        """The value of a metric; None where it needs what there is not."""
        if name not in self._values:
            self._values[name] = self._computed(METRICS[name])
        return self._values[name]

    @property
    def golds(self) -> tuple[Measurement, ...]:
        """The retrained models that this one is measured from: all of them, or all others where there are any."""
        every = self.yardstick.gold_standards
        if self.number is None or len(every) < 2:
            return every
        return tuple(gold for gold in every if gold.number != self.number)

    def mean_of_retrained(self, name: str) -> float | None:
        """The mean of a metric over the retrained models that this one is measured from; None where one lacks it."""
        values = [gold[name] for gold in self.golds]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known and len(known) == len(values) else None

    def member_rates(self, attack: Attack) -> MemberRates:
        """What a membership attack says of the model."""
        if attack.name not in self._rates:
            self._rates[attack.name] = attack.rates(self.predictions, self.yardstick.fold_seed)
        return self._rates[attack.name]

    def lacks(self, metric: Metric) -> list[str]:
        """What a metric needs, and there is not."""
        has = set(self.yardstick.original if ORIGINAL in metric.needs else self.predictions) | {ORIGINAL}
        has |= {RETRAIN} if self.yardstick.retrained is not None else set()
        has |= {RANDOM} if self.yardstick.ignorant is not None else set()
        return [need for need in metric.needs if need not in has]

    def _computed(self, metric: Metric) -> float | None:
        if self.lacks(metric) or (self.yardstick.class_wise and not metric.class_wise):
            return None
        if metric.compute is None:
            return self.given.get(metric.name)
        if metric.name in METRICS.own:
            return metric.compute(self)
        try:
            value = metric.compute(self)
            return None if value is None else float(value)
        except Exception as error:  # a stranger's function may raise anything
            told = f"The metric {metric.name!r} of {offered_by(metric.name)} failed"
            raise RuntimeError(f"{told}: {type(error).__name__}: {error}") from error
