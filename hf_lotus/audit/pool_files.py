"""The files of a pool: its plan, which rows each model had, and what each model says of them.

    pool.json                        the plan, and a record of each model that is done
    rows.npz                         digests and labels of all parts, which rows each model had, forget sets
    models/DIGEST/                   weights, by what determines them
    outputs/NNN.npz, NNN.json        a model's logits on every part, and its record, written last
    unlearned/LABEL/SET/NNN.…        the same of model NNN after a forget set was unlearned from it

The digests are not salted: whoever holds a picture can tell by them whether a model of the pool had it. A pool is the
auditor's own, and is not published.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_lotus.utils.documents import read_document
from hf_lotus.utils.files import write_whole

FORMAT = "hf_lotus pool 1"
PARTS = ("train", "unseen", "test")
_REQUIRED = ("kind", "planned", "architecture", "num_classes", "models")


@dataclass(frozen=True, eq=False)
class PoolRows:
    """Which samples a pool is of, and which of them each model was trained on.

    Attributes:
        digests: part ("train", "unseen", "test") → content digests, V32, shape (rows,).
        labels: part → classes, int64, shape (rows,).
        members: bool, shape (models, train rows).
        forget_sets: name → row numbers of train.
    """

    digests: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    members: np.ndarray
    forget_sets: Mapping[str, np.ndarray]

    def write(self, path: Path) -> None:
        """Write the file whole."""
        arrays = {f"{part}_digests": self.digests[part].view(np.uint8).reshape(-1, 32) for part in PARTS}
        arrays |= {f"{part}_labels": self.labels[part] for part in PARTS}
        arrays |= {f"forget_set.{name}": rows for name, rows in self.forget_sets.items()}
        write_arrays(path, {**arrays, "members": np.packbits(self.members, axis=1)})

    @classmethod
    def read(cls, path: Path) -> PoolRows:
        """What `write` wrote.

        Raises:
            ValueError: if the file is damaged.
        """
        arrays = read_arrays(path)
        try:
            digests = {part: _digests(arrays[f"{part}_digests"]) for part in PARTS}
            labels = {part: arrays[f"{part}_labels"] for part in PARTS}
            members = np.unpackbits(arrays["members"], axis=1, count=len(labels["train"])).astype(bool)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} is not the list of a pool's rows: {error}.") from error
        sets = {name.partition(".")[2]: rows for name, rows in arrays.items() if name.startswith("forget_set.")}
        return cls(digests, labels, members, sets)


def _digests(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.uint8).view("V32").reshape(-1)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file that appears whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # none is called as an option of savez is
    write_whole(path, buffer.getvalue())


def read_arrays(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or those of the given names.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is damaged, or holds objects, which are never read, or lacks a name.
    """
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in (names if names is not None else file.files)}
    except (zipfile.BadZipFile, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged, or no file of a pool: {error}. Make the pool anew.") from error


def read_plan(folder: Path) -> dict[str, Any]:
    """What pool.json says.

    Raises:
        OSError: if there is none.
        ValueError: if it is not that of a pool.
    """
    path = folder / "pool.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no pool: it has no pool.json. `hf-lotus pool` makes one.")
    plan = read_document(path)
    if not isinstance(plan, dict) or plan.get("format") != FORMAT:
        found = plan.get("format") if isinstance(plan, dict) else type(plan).__name__
        raise ValueError(f"{path} is not of the format {FORMAT!r}, but {found!r}.")
    if missing := [name for name in _REQUIRED if name not in plan]:
        raise ValueError(f"{path} lacks {missing[0]!r}: it is damaged.")
    return plan


def records_in(folder: Path) -> list[dict[str, Any]]:
    """The records of the models whose outputs are in a folder, by number."""
    return [read_document(path) for path in sorted(folder.glob("[0-9]*.json"))]
