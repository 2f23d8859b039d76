"""What a run measured, with its controls and its provenance: frozen, to JSON and back, and as a Markdown table."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_lotus.evaluation.metrics import METRICS, ORIGINAL, RETRAIN, Metric, columns
from hf_lotus.utils.documents import read_document, write_document
from hf_lotus.utils.text import markdown_table, nearest, number, plain

FORMAT_VERSION = 1
# Rows of every table that no method may be named after; further retrained models' rows are named after the second.
CONTROL_ROWS = (ORIGINAL, RETRAIN)
RETRAIN_AGAIN = "retrain again"
# Measured of every model.
_ALWAYS = ("forget_accuracy", "retain_accuracy")


def retrained_row(number: int) -> str:
    """The row of a retrained model, by its number from 0: "retrain", "retrain again", "retrain again 2", …."""
    return RETRAIN if number == 0 else RETRAIN_AGAIN if number == 1 else f"{RETRAIN_AGAIN} {number}"


def is_retrained_row(name: str) -> bool:
    """Whether a row is that of a retrained model."""
    again = name.removeprefix(RETRAIN_AGAIN)
    return name == RETRAIN or (again != name and (not again or again.strip().isdecimal()))


def is_control_row(name: str) -> bool:
    """Whether a row is not a method's: that of the original, or of a retrained model."""
    return name == ORIGINAL or is_retrained_row(name)


@dataclass(frozen=True, init=False)
class ModelResult:
    """Every metric of one model, as an attribute of its name: `result.rf_jsd`.

    A metric is None where it needs data, or a retrained model, that was not given. What each is, and what it needs,
    stands in `hf_lotus.evaluation.metrics`.

    Args:
        name: "original", "retrain", or the method that made the model.
        *positional: values in the order of the table of metrics.
        values: metric → value, or None.
        **named: the same by name, over those in `values`.

    Attributes:
        name: as given.
        values: metric → value, of the metrics that were measured, in the order of the table.

    Raises:
        TypeError: for a metric that there is not, or without the accuracies on the forget and the retain set.
    """

    name: str
    values: Mapping[str, float] = field(hash=False)

    def __init__(
        self,
        name: str,
        *positional: float | None,
        values: Mapping[str, float | None] | None = None,
        **named: float | None,
    ):
        given = {**(values or {}), **dict(zip(METRICS.own, positional, strict=False)), **named}
        if len(positional) > len(METRICS.own):
            raise TypeError(f"{len(positional)} values were given, and there are {len(METRICS.own)} metrics.")
        if unknown := [metric for metric in given if metric not in METRICS]:
            raise TypeError(
                f"There is no metric {unknown[0]!r}, here or in an installed plugin. {_nearest(unknown[0])}"
            )
        if missing := [metric for metric in _ALWAYS if given.get(metric) is None]:
            raise TypeError(f"The model {name!r} has no {missing[0]}.")
        measured = {metric: given[metric] for metric in METRICS if given.get(metric) is not None}
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "values", measured)

    def __getattr__(self, metric: str) -> Any:
        # Copying and unpickling ask before there are any values.
        if metric.startswith("_") or metric == "values" or metric not in METRICS:
            raise AttributeError(f"{type(self).__name__!r} has no attribute, and there is no metric, {metric!r}")
        return self.values.get(metric)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *METRICS]

    def metrics(self) -> dict[str, float]:
        """The metrics that were measured, without the name."""
        return dict(self.values)

    def to_dict(self) -> dict[str, str | float | None]:
        """As JSON has it: the name, every metric of ours or None, and what plugins measured."""
        return {"name": self.name, **dict.fromkeys(METRICS.own), **self.values}


def _nearest(name: str) -> str:
    return nearest(name, list(METRICS))


@dataclass(frozen=True)
class Controls:
    """What the metrics would read on a model that had never seen the forget set, measured without retraining.

    Attributes:
        unseen_accuracy: the original model's accuracy on unseen data, each class weighted as in the forget set; the
            forget accuracy's reference.
        unseen_member_rate: the original model's member rate on unseen data, likewise; the member rate's reference.
        rf_jsd_null_mean: mean of RF-JSD over resamples of unseen data against itself.
        rf_jsd_null_std: its standard deviation.
        jsd_floor: mean JSD between original and retrained model on the test set, which neither has seen: two
            trainings differ by that much anyway. Needs a retrained model; the mean over several.
        avg_gap_floor: Avg Gap that one more retrained model would be expected to have. Needs several.
        mia_member_rate_std: standard deviation of the retrained models' member rates. Needs several.
        forget_accuracy_std: the same of their forget accuracies.
        retain_accuracy_std: the same of their retain accuracies.
        test_accuracy_std: the same of their test accuracies.
    """

    unseen_accuracy: float | None = None
    unseen_member_rate: float | None = None
    rf_jsd_null_mean: float | None = None
    rf_jsd_null_std: float | None = None
    jsd_floor: float | None = None
    avg_gap_floor: float | None = None
    mia_member_rate_std: float | None = None
    forget_accuracy_std: float | None = None
    retain_accuracy_std: float | None = None
    test_accuracy_std: float | None = None


REFERENCE_ROW = "reference: unseen data"


@dataclass(frozen=True)
class UnlearningResult:
    """The models that were compared, the controls that calibrate them, and where the figures come from.

    Attributes:
        models: one entry a model; the original first, the retrained models last where there are any.
        controls: the references for the forget set's figures.
        notes: what a reader must know: what was left out, which premise does not hold.
        provenance: versions, hardware, seed, split digest, command, and whatever the run adds; JSON values only.
        audit: what an audit of the unlearned model found, tier → verdict and figures (`findings.AuditReport.figures`);
            None where there was none.
    """

    models: tuple[ModelResult, ...]
    controls: Controls
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    audit: Mapping[str, Any] | None = None

    def __getitem__(self, name: str) -> ModelResult:
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(f"No model named {name!r}; there are {', '.join(model.name for model in self.models)}.")

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, without the format version."""
        return {
            "models": [model.to_dict() for model in self.models],
            "controls": asdict(self.controls),
            "notes": list(self.notes),
            "provenance": copy.deepcopy(self.provenance),
            **({} if self.audit is None else {"audit": copy.deepcopy(self.audit)}),
        }

    def to_json(self, path: str | Path) -> None:
        """Write the result; the file appears whole or not at all.

        Raises:
            ValueError: if a figure is NaN or infinite, which JSON cannot hold.
        """
        document = {"format_version": FORMAT_VERSION, **self.to_dict()}
        write_document(path, document, indent=2, why="a figure is not finite")

    @classmethod
    def from_json(cls, path: str | Path) -> UnlearningResult:
        """Read what `to_json` wrote.

        Raises:
            ValueError: if the file is not JSON, has another format version, or fields this version does not know.
        """
        document = read_document(path)
        version = document.pop("format_version", None) if isinstance(document, dict) else None
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{path} is not a result of format version {FORMAT_VERSION} (it says {version!r}). "
                "Read it with the version of hf-lotus that wrote it."
            )
        try:
            result = cls(
                models=tuple(ModelResult(**model) for model in document.pop("models")),
                controls=Controls(**document.pop("controls")),
                notes=tuple(document.pop("notes")),
                **document,
            )
            if not isinstance(result.provenance, Mapping) or not all(isinstance(note, str) for note in result.notes):
                raise TypeError("its provenance is no mapping, or a note no text")
            result.to_markdown()  # what cannot be written as a table is of other kinds than a result's
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ValueError(f"{path} is not a result that this version can read: {error}.") from error
        return result

    def to_markdown(self) -> str:
        """The table, one row a model, the reference row last; then the notes."""
        return to_markdown({"": self})

    @property
    def shown(self) -> set[str]:
        """The metrics that a model, or the row of references, has a figure for."""
        controls = {name for name, value in asdict(self.controls).items() if value is not None}
        calibrated = {metric.name for metric in METRICS.own.values() if metric.control in controls}
        return calibrated.union(*(model.values for model in self.models))

    def rows(self, metrics: Sequence[Metric]) -> list[list[str]]:
        """The table's cells in these columns, one row a model and, where there are references, one of them."""
        rows = [
            [plain(model.name), *(number(model.values.get(m.name), m.digits) for m in metrics)]
            for model in self.models
        ]
        controls = asdict(self.controls)
        if any(value is not None for value in controls.values()):
            rows.append([f"*{REFERENCE_ROW}*", *(_reference(controls, metric) for metric in metrics)])
        return rows


def _reference(controls: Mapping[str, float | None], metric: Metric) -> str:
    deviation = controls.get(metric.control_std or "")
    found = number(controls.get(metric.control or ""), metric.digits)
    return found if deviation is None else f"{found} ± {number(deviation, metric.digits)}"


def to_markdown(results: Mapping[str, UnlearningResult]) -> str:
    """One table of several comparisons, each row headed by the comparison's name; then the notes.

    Columns that no row has a value for are left out.

    Args:
        results: name → result; the name "" heads nothing.
    """
    shown = columns(set().union(*(result.shown for result in results.values())))
    rows, notes = [], []
    for name, result in results.items():
        for row in result.rows(shown):
            rows.append([f"{plain(name)} {row[0]}".strip(), *row[1:]])
        notes += [f"- {plain(name) + ': ' if name else ''}{note}" for note in result.notes]
    table = markdown_table(["Model", *(plain(metric.heading) for metric in shown)], rows)
    return "\n".join([table, *([""] if notes else []), *notes])
