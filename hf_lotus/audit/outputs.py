"""Models that are only known by what they said: outputs from any toolbox, as `.npz`, Parquet, or a benchmark's folder.

One row a sample: `split` ("forget" or "unseen"; rows of others are left out), `labels` (Parquet: `label`), and a
model's outputs under its role: `unlearned` (the audited one), `original`, `retrain`, `reference`. `.npz` may hold
several models of a role, one after another along the first axis; Parquet as columns `retrain`, `retrain.1`, …. `kind`
says what the outputs are: "logits" or "probabilities" of shape (samples, classes), or "margins", log(p / (1 − p)) of
the true class, of shape (samples,).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hf_lotus.audit.evidence import FORGET, UNSEEN, Ensemble, Evidence, Outputs, References
from hf_lotus.audit.judgement import judge
from hf_lotus.evaluation.findings import AuditReport
from hf_lotus.evaluation.provenance import provenance
from hf_lotus.evaluation.results import ORIGINAL, retrained_row
from hf_lotus.functional.confidence import logit_confidence

ROLES = ("unlearned", "original", "retrain", "reference")
KINDS = ("logits", "probabilities", "margins")
# Retrained models that are rows of their own, and references; more serve the tiers that need many.
_ROWS, _REFERENCES = 2, 4


@dataclass(frozen=True, eq=False)
class GivenOutputs:
    """Outputs of models that are not here.

    Attributes:
        confidence: role → split → ``log(p / (1 − p))`` of the true class, shape (models, samples); "unlearned" is
            there, and every role has "forget".
        labels: split → classes, shape (samples,); all 0 where they are not known.
        about: what the report says of them, JSON values.
        notes: what a reader must know.
    """

    confidence: Mapping[str, Mapping[str, np.ndarray]]
    labels: Mapping[str, np.ndarray]
    about: Mapping[str, Any]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if "unlearned" not in self.confidence:
            raise ValueError(
                f"There are no outputs of the audited model (unlearned); there are {', '.join(self.confidence)}."
            )
        for role, splits in self.confidence.items():
            for split, values in splits.items():
                if values.ndim != 2 or values.shape[1] != len(self.labels[split]):
                    raise ValueError(
                        f"The outputs of {role} on {split} are of {values.shape[-1]} samples, and those of others of "
                        f"{len(self.labels[split])}: all models must be given on the same samples in one order."
                    )
                if not np.isfinite(values).all():
                    bad = np.argwhere(~np.isfinite(values))[0]
                    raise ValueError(
                        f"The outputs of {role} model {bad[0]} on {split} are not finite at sample {bad[1]}: "
                        f"{values[tuple(bad)]}. Probabilities of exactly 0 or 1 have no logit: give logits or margins."
                    )


def audit_outputs(given: GivenOutputs, *, name: str = "unlearned", seed: int = 42) -> AuditReport:
    """Ask every tier that needs outputs alone.

        report = audit_outputs(read_outputs(["outputs.npz"]))

    Args:
        given: outputs of the audited model, and of others as far as there are any.
        name: what to call the audited model.
        seed: of every draw.
    """
    confidence = given.confidence
    rows = {name: ("unlearned", 0)}
    if ORIGINAL in confidence:
        rows[ORIGINAL] = ("original", 0)
    retrained = confidence.get("retrain", {}).get(FORGET, np.zeros((0, 0)))
    rows |= {retrained_row(number): ("retrain", number) for number in range(min(_ROWS, len(retrained)))}
    outputs = {
        row: {split: Outputs(values[number]) for split, values in confidence[role].items()}
        for row, (role, number) in rows.items()
    }
    ensembles: dict[str, Any] = {
        field: Ensemble(role, confidence[role][FORGET])
        for field, role in (("unlearned", "unlearned"), ("retrained", "retrain"), ("originals", "original"))
        if role in confidence and len(confidence[role][FORGET]) > 1
    }
    evidence = Evidence(
        name,
        given.labels,
        outputs,
        {row: _digest(splits[FORGET].confidence) for row, splits in outputs.items()},
        references=_references(confidence),
        missing={
            "relearning_excess": "It trains the model on, and only outputs were given.",
            "linear_probe": "It looks at the features within the model, and only outputs were given.",
        },
        seed=seed,
        **ensembles,
    )
    samples = {split: len(labels) for split, labels in given.labels.items()}
    models = {role: len(splits[FORGET]) for role, splits in confidence.items()}
    about = {"samples": samples, "models": models, "seed": seed, **given.about}
    return judge(evidence, about, None, given.notes, provenance())


def _references(confidence: Mapping[str, Mapping[str, np.ndarray]]) -> References | None:
    """Models given for it; else retrained ones, those that are no rows first."""
    role = "reference" if "reference" in confidence else "retrain"
    splits = confidence.get(role, {})
    if UNSEEN not in splits:
        return None
    there = len(splits[FORGET])
    spare = there > _ROWS and role == "retrain"
    chosen = slice(_ROWS, _ROWS + _REFERENCES) if spare else slice(0, _REFERENCES)
    probability = {split: Outputs(values[chosen]).probability for split, values in splits.items()}
    digests = [_digest(values) for values in splits[FORGET][chosen]]
    return References(probability[FORGET], probability[UNSEEN], digests)


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def read_outputs(paths: Sequence[str | Path], kind: str | None = None) -> GivenOutputs:
    """Read `.npz` and Parquet files of the same samples; each holds some of the models.

    Args:
        paths: of the files.
        kind: what the outputs are, where a file does not say.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if it lacks something, files are of other samples, or outputs are not finite.
    """
    found: dict[str, list[np.ndarray]] = {}
    first: tuple[np.ndarray, np.ndarray] | None = None
    for path in map(Path, paths):
        split, labels, models, said = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
        if (what := said or kind) not in KINDS:
            raise ValueError(
                f"{path} does not say what its outputs are: {what!r}. Give one of {', '.join(KINDS)} (--outputs_kind)."
            )
        if first is None:
            first = split, labels
        elif not (np.array_equal(first[0], split) and np.array_equal(first[1], labels)):
            raise ValueError(
                f"{path} has other samples, or in another order, than {paths[0]}: splits and labels differ."
            )
        for role, values in models.items():
            found.setdefault(role, []).append(_confidence(values, labels, what, f"{path}, {role}"))
    if first is None:
        raise ValueError("There is no file of outputs. Name one or more .npz or Parquet files.")
    split, labels = first
    rows = {name: np.flatnonzero(split == name) for name in (FORGET, UNSEEN)}
    if not len(rows[FORGET]):
        told = ", ".join(sorted(set(split.tolist()))[:5])
        raise ValueError(f"No sample is marked as forgotten: split says {told}, and must say 'forget' and 'unseen'.")
    rows = {name: chosen for name, chosen in rows.items() if len(chosen)}
    confidence = {
        role: {name: np.concatenate(values)[:, chosen] for name, chosen in rows.items()}
        for role, values in found.items()
    }
    about = {"outputs": [path.name for path in map(Path, paths)]}
    return GivenOutputs(confidence, {name: labels[chosen] for name, chosen in rows.items()}, about)


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], str | None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, BadZipFile, EOFError, UnpicklingError) as error:
        raise ValueError(f"{path} is no .npz of plain arrays: {error}") from error
    except (AttributeError, TypeError):
        raise ValueError(f"{path} is one array, and not an .npz file of several.") from None
    for key in ("split", "labels"):
        if key not in arrays:
            raise ValueError(
                f"{path} has no {key!r}; it has {', '.join(arrays)}. See docs/audit.md, 'Outputs of others'."
            )
    split = arrays.pop("split")
    split = np.char.decode(split) if split.dtype.kind == "S" else split.astype(str)
    kind = str(arrays.pop("kind")) if "kind" in arrays else None
    return _named(path, split, arrays.pop("labels"), arrays, kind)


def _read_parquet(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], str | None]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is no Parquet file: {error}") from error
    columns = table.column_names
    for key in ("split", "label"):
        if key not in columns:
            raise ValueError(
                f"{path} has no column {key!r}; it has {', '.join(columns)}. See docs/audit.md, 'Outputs of others'."
            )
    kind = (table.schema.metadata or {}).get(b"kind")
    gathered: dict[str, list[np.ndarray]] = {}
    for column in columns:
        if column not in ("split", "label"):
            values = np.array(table[column].to_pylist(), dtype=np.float64)
            gathered.setdefault(column.split(".")[0], []).append(values)
    split, labels = (np.array(table[key].to_pylist()) for key in ("split", "label"))
    models = {role: np.stack(values) for role, values in gathered.items()}
    return _named(path, split.astype(str), labels, models, kind.decode() if kind else None)


def _named(
    path: Path, split: np.ndarray, labels: np.ndarray, models: dict[str, np.ndarray], kind: str | None
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], str | None]:
    if unknown := [role for role in models if role not in ROLES]:
        raise ValueError(f"{path} has outputs of {unknown[0]!r}; the roles are {', '.join(ROLES)}.")
    if split.ndim != 1 or labels.shape != split.shape or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: split and labels must be one text and one whole number a sample, got {split.shape} and "
            f"{labels.dtype} of {labels.shape}."
        )
    return split, labels.astype(np.int64), models, kind


def _confidence(values: np.ndarray, labels: np.ndarray, kind: str, where: str) -> np.ndarray:
    """``log(p / (1 − p))`` of the true class, shape (models, samples)."""
    values = np.asarray(values, dtype=np.float64)
    values = values[None] if values.ndim == (1 if kind == "margins" else 2) else values
    wanted = 2 if kind == "margins" else 3
    if values.ndim != wanted or values.shape[1] != len(labels):
        shape = (
            "(samples,) or (models, samples)" if wanted == 2 else "(samples, classes) or (models, samples, classes)"
        )
        raise ValueError(f"{where}: {kind} must be of shape {shape} with {len(labels)} samples, got {values.shape}.")
    if kind == "margins":
        return values
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: {kind} must be finite, and {np.count_nonzero(~np.isfinite(values))} are not.")
    return np.stack([logit_confidence(rows, labels, from_logits=kind == "logits") for rows in values])
