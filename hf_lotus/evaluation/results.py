"""What a run measured, with its controls and its provenance: frozen, to JSON and back, and as a Markdown table."""

from __future__ import annotations

import html
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import torch
from hf_lotus.utils.files import write_whole
from hf_lotus.utils.text import plain, number, markdown_table
from hf_lotus.evaluation.provenance import provenance

FORMAT_VERSION = 1
# Rows of every table that no method may be named after.
ORIGINAL, RETRAIN = "original", "retrain"
CONTROL_ROWS = (ORIGINAL, RETRAIN)


@dataclass(frozen=True)
class ModelResult:
    """Every metric of one model. None where a metric needs data, or a retrained model, that was not given.

    Attributes:
        name: "original", "retrain", or the method that made the model.
        forget_accuracy: share of the forget set classified correctly, exact.
        retain_accuracy: the same on the retain set.
        unseen_accuracy: the same on the unseen set.
        test_accuracy: the same on the test set.
        mia_member_rate: share of the forget set that the entropy attack calls member.
        unseen_member_rate: the same of the unseen set, by an attack that did not train on it, each class weighted as
            in the forget set.
        jsd: mean JSD from the retrained model's predictions on the forget set, in nats.
        rf_jsd: the retrain-free divergence, in nats.
        rf_jsd_z: how many deviations `rf_jsd` lies above its null.
        mia_efficacy: share of the forget set that the attack calls non-member (SalUn's polarity).
        zrf: one minus the mean JSD from a randomly initialised model's predictions on the forget set (the zero
            retrain forgetting score of Bad Teacher).
        avg_gap: mean distance from the retrained model in member rate, forget, retain and test accuracy.
        retrain_free_gap: the estimate of `avg_gap` when nobody can retrain.
        seconds: wall time of making the model.
    """

    name: str
    forget_accuracy: float
    retain_accuracy: float
    unseen_accuracy: float | None = None
    test_accuracy: float | None = None
    mia_member_rate: float | None = None
    unseen_member_rate: float | None = None
    jsd: float | None = None
    rf_jsd: float | None = None
    rf_jsd_z: float | None = None
    mia_efficacy: float | None = None
    zrf: float | None = None
    avg_gap: float | None = None
    retrain_free_gap: float | None = None
    seconds: float | None = None

    def metrics(self) -> dict[str, float]:
        """The metrics that were measured, without the name."""
        return {name: value for name, value in asdict(self).items() if name != "name" and value is not None}


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
            trainings differ by that much anyway. Needs a retrained model.
    """

    unseen_accuracy: float | None = None
    unseen_member_rate: float | None = None
    rf_jsd_null_mean: float | None = None
    rf_jsd_null_std: float | None = None
    jsd_floor: float | None = None


# Column heading → field of ModelResult, its field of Controls, and decimals.
COLUMNS = {
    "Forget acc.": ("forget_accuracy", "unseen_accuracy", 3),
    "Retain acc.": ("retain_accuracy", None, 3),
    "Unseen acc.": ("unseen_accuracy", None, 3),
    "Test acc.": ("test_accuracy", None, 3),
    "MIA member rate": ("mia_member_rate", "unseen_member_rate", 3),
    "MIA efficacy": ("mia_efficacy", None, 3),
    "JSD": ("jsd", "jsd_floor", 4),
    "RF-JSD": ("rf_jsd", "rf_jsd_null_mean", 4),
    "RF-JSD z": ("rf_jsd_z", None, 1),
    "ZRF": ("zrf", None, 3),
    "Avg Gap": ("avg_gap", None, 4),
    "Retrain-free gap": ("retrain_free_gap", None, 4),
    "Seconds": ("seconds", None, 1),
}
REFERENCE_ROW = "reference: unseen data"


@dataclass(frozen=True)
class UnlearningResult:
    """The models that were compared, the controls that calibrate them, and where the figures come from.

    Attributes:
        models: one entry a model; the original first, the retrained model last where there is one.
        controls: the references for the forget set's figures.
        notes: what a reader must know: what was left out, which premise does not hold.
        provenance: versions, hardware, seed, split digest, command, and whatever the run adds; JSON values only.
    """

    models: tuple[ModelResult, ...]
    controls: Controls
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __getitem__(self, name: str) -> ModelResult:
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(f"No model named {name!r}; there are {', '.join(model.name for model in self.models)}.")

    def to_json(self, path: str | Path) -> None:
        """Write the result; the file appears whole or not at all.

        Raises:
            ValueError: if a figure is NaN or infinite, which JSON cannot hold.
        """
        try:
            text = json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=2, allow_nan=False)
        except ValueError as error:
            raise ValueError(f"{path} was not written, as a figure is not finite: {error}.") from error
        write_whole(path, text + "\n")

    @classmethod
    def from_json(cls, path: str | Path) -> UnlearningResult:
        """Read what `to_json` wrote.

        Raises:
            ValueError: if the file is not JSON, has another format version, or fields this version does not know.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not valid JSON: {error}.") from error
        version = document.pop("format_version", None) if isinstance(document, dict) else None
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{path} is not a result of format version {FORMAT_VERSION} (it says {version!r}). "
                "Read it with the version of hf-lotus that wrote it."
            )
        try:
            return cls(
                models=tuple(ModelResult(**model) for model in document.pop("models")),
                controls=Controls(**document.pop("controls")),
                notes=tuple(document.pop("notes")),
                **document,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a result that this version can read: {error}.") from error

    def to_markdown(self) -> str:
        """The table, one row a model, the reference row last; then the notes."""
        return to_markdown({"": self})

    def _rows(self) -> list[list[str]]:
        """The table's cells, one row a model and one of references."""
        columns = COLUMNS.values()
        rows = [
            [plain(model.name), *(number(getattr(model, metric), digits) for metric, _, digits in columns)]
            for model in self.models
        ]
        controls = asdict(self.controls)
        if any(value is not None for value in controls.values()):
            rows.append([f"*{REFERENCE_ROW}*", *(number(controls.get(c), digits) for _, c, digits in columns)])
            if self.controls.rf_jsd_null_std is not None:
                rows[-1][1 + list(COLUMNS).index("RF-JSD")] += f" ± {self.controls.rf_jsd_null_std:.4f}"
        return rows


def to_markdown(results: Mapping[str, UnlearningResult]) -> str:
    """One table of several comparisons, each row headed by the comparison's name; then the notes.

    Columns that no row has a value for are left out.

    Args:
        results: name → result; the name "" heads nothing.
    """
    rows, notes = [], []
    for name, result in results.items():
        for row in result._rows():
            rows.append([f"{plain(name)} {row[0]}".strip(), *row[1:]])
        notes += [f"- {plain(name) + ': ' if name else ''}{note}" for note in result.notes]
    used = [0] + [i for i in range(1, len(COLUMNS) + 1) if any(row[i] != "–" for row in rows)]
    header = ["Model", *COLUMNS]
    table = markdown_table([header[i] for i in used], [[row[i] for i in used] for row in rows])
    return "\n".join([table, *([""] if notes else []), *notes])


