"""A pool of reference models as an audit opens it: what they say of samples, and who had which. No forward passes.

pool = Pool.open("POOL")
digests = sample_contents(forget)[1]
originals, retrained = pool.with_all(digests), pool.with_none(digests)
pool.outputs(digests).logits[retrained]          # (models, samples, classes)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn
from transformers import PreTrainedModel

from hf_lotus.audit.pool_files import PARTS, PoolRows, read_arrays, read_plan, records_in
from hf_lotus.models.loading import load_model

# What of a configuration makes no other kind of model: who made it, with which release, what the classes are called.
_NO_ARCHITECTURE = {"_name_or_path", "architectures", "id2label", "label2id", "transformers_version", "dtype"}
_NO_ARCHITECTURE |= {"torch_dtype", "problem_type", "finetuning_task", "model_type", "out_features", "out_indices"}
_NO_ARCHITECTURE |= {"stage_names", "output_attentions", "output_hidden_states", "return_dict", "use_cache"}


def architecture(model: nn.Module) -> dict[str, Any]:
    """What two models must have in common so that one is a reference for the other: kind, configuration, weights.

    JSON values: the class of the model, the shapes of its weights in all, and its configuration where it has one.
    """
    config = getattr(model, "config", None)
    settings = cast(Any, config).to_dict() if hasattr(config, "to_dict") else {}
    return {
        "class": type(model).__name__,
        "weights": sum(value.numel() for value in model.parameters()),
        "config": {name: _plain(value) for name, value in sorted(settings.items()) if name not in _NO_ARCHITECTURE},
    }


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, eq=False)
class PoolOutputs:
    """What the models of a pool say of some samples.

    Attributes:
        found: whether the pool keeps outputs of the sample, bool, shape (samples,).
        logits: of the samples found, float32, shape (models, found, classes).
        members: which of them each model was trained on, bool, shape (models, found).
        labels: their classes, int64, shape (found,).
    """

    found: np.ndarray
    logits: np.ndarray
    members: np.ndarray
    labels: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """Whether a sample was in some of the models and not in all: bool, shape (found,)."""
        return np.asarray(self.members.any(axis=0) & ~self.members.all(axis=0))

    def told(self) -> str:
        """Which samples an attack that compares models with and without them cannot judge, in words; "" if none."""
        missing, models = int((~self.found).sum()), len(self.members)
        all_of_them, none = int(self.members.all(axis=0).sum()), int((~self.members.any(axis=0)).sum())
        said = [f"the pool keeps no outputs of {missing} of {len(self.found)} samples"] if missing else []
        if all_of_them:
            said.append(f"{all_of_them} were in all of its {models} models")
        if none:
            said.append(f"{none} were in none of its {models} models")
        return "; ".join(said)


@dataclass(frozen=True, eq=False)
class _Kept:
    """Outputs that are kept in a folder, a file a model, and the records of these models."""

    folder: Path
    rows: PoolRows
    records: Sequence[Mapping[str, Any]]

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """The digests of all parts in their sorted order, and their places in the parts one after another."""
        every = sortable(np.concatenate([self.rows.digests[part] for part in PARTS]))
        order = np.argsort(every, kind="stable")  # of equal contents the first comes first: train's
        return every[order], order

    @cached_property
    def _contents_members(self) -> np.ndarray:
        """Which models had a content, by the place of its first row, over all parts: bool, shape (models, rows)."""
        numbers = [record["number"] for record in self.records]
        held_out = sum(len(self.rows.labels[part]) for part in PARTS[1:])
        members = np.pad(self.rows.members[numbers], ((0, 0), (0, held_out)))
        values, order = self._places
        starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
        by_content = np.logical_or.reduceat(members[:, order], starts, axis=1)
        members[:, order] = np.repeat(by_content, np.diff(np.r_[starts, len(order)]), axis=1)
        return members

    def logits(self, part: str = "train", rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """The models' logits on a part, or on some rows of it: float32, shape (models, rows, classes).

        Raises:
            ValueError: for another part than "train", "unseen" or "test".
        """
        if part not in PARTS:
            raise ValueError(f"A pool keeps outputs on {', '.join(PARTS)}, not on {part!r}.")
        wanted = slice(None) if rows is None else np.asarray(rows)
        return np.stack([self._read(record["number"], part)[wanted] for record in self.records])

    def _read(self, number: int, part: str) -> np.ndarray:
        path = self.folder / f"{number:03d}.npz"
        values = read_arrays(path, [part])[part]
        if values.ndim != 2 or len(values) != len(self.rows.labels[part]):
            raise ValueError(
                f"{path} has outputs of shape {values.shape} on {part}, which has {len(self.rows.labels[part])} rows: "
                "it is damaged. Delete it and its record beside it, and let `hf-lotus pool` train the model again."
            )
        return values

    def outputs(self, digests: np.ndarray) -> PoolOutputs:
        """What the models say of samples, which are known by their content, in the samples' order.

        Args:
            digests: `publishing.digests.sample_contents` of them, V32, shape (samples,).
        """
        places = self._find(digests)
        found = places >= 0
        where = places[found]
        bounds = np.cumsum([0, *(len(self.rows.labels[part]) for part in PARTS)])
        parts = {part: (where >= bounds[n]) & (where < bounds[n + 1]) for n, part in enumerate(PARTS)}
        labels = np.concatenate([self.rows.labels[part] for part in PARTS])[where]
        logits = []
        for record in self.records:
            rows: np.ndarray | None = None
            for number, (part, inside) in enumerate(parts.items()):
                if inside.any() or rows is None:
                    kept = self._read(record["number"], part)
                    rows = np.empty((len(where), kept.shape[1]), dtype=np.float32) if rows is None else rows
                    rows[inside] = kept[where[inside] - bounds[number]]
            assert rows is not None  # every part is read until there is one
            logits.append(rows)
        return PoolOutputs(found, np.stack(logits), self._contents_members[:, where], labels)

    def had(self, digests: np.ndarray) -> np.ndarray:
        """Which of some samples each model was trained on: bool, shape (models, samples); False for unknown ones."""
        places = self._find(digests)
        return np.where(places >= 0, self._contents_members[:, np.maximum(places, 0)], False)

    def _find(self, digests: np.ndarray) -> np.ndarray:
        """The places of contents in the parts one after another, -1 for those that are not there."""
        digests = np.asarray(digests)
        if digests.dtype != np.dtype("V32") or digests.ndim != 1:
            raise TypeError(
                f"Samples are found by their digests, V32 of shape (samples,), as sample_contents gives them; got "
                f"{digests.dtype} of shape {digests.shape}."
            )
        values, order = self._places
        wanted = sortable(digests)
        at = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
        return np.where(values[at] == wanted, order[at], -1)


def sortable(digests: np.ndarray) -> np.ndarray:
    """Digests as hexadecimal bytes: NumPy neither sorts nor compares raw ones, and cuts zeros at the end of others."""
    return np.array([digest.tobytes().hex().encode() for digest in digests], dtype="S64")


@dataclass(frozen=True, eq=False)
class Unlearned(_Kept):
    """Models of a pool after one forget set was unlearned from each by one method.

    Attributes:
        label: what the method is called.
        forget_set: the forget set's name.
        positions: of the models that they were made from, among the pool's, int64, shape (models,).
        records: of each: number, seed, seconds, weights digest.
    """

    label: str = ""
    forget_set: str = ""
    positions: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Pool(_Kept):
    """Reference models, trained once: which samples each had, and what it says of all of them.

    Attributes:
        path: the pool's folder.
        plan: what pool.json says.
        records: of each finished model: number, seed, rows, weights digest, seconds, accuracies.
    """

    path: Path = Path()
    plan: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: str | Path) -> Pool:
        """The pool in a folder, with the models that are done.

        Raises:
            OSError: if there is none.
            ValueError: if it is damaged, or none of its models is done.
        """
        folder = Path(folder)
        plan = read_plan(folder)
        records = records_in(folder / "outputs")
        if not records:
            raise ValueError(f"No model of the pool {folder} is done yet. `hf-lotus pool` trains them.")
        rows = PoolRows.read(folder / "rows.npz")
        if len(rows.members) != plan["planned"]:
            raise ValueError(f"{folder} plans {plan['planned']} models, and rows.npz is of {len(rows.members)}.")
        return cls(folder / "outputs", rows, records, folder, plan)

    @property
    def kind(self) -> str:
        """How its rows were dealt out: "halves", "retrained" or "originals"."""
        return self.plan["kind"]

    @property
    def planned(self) -> int:
        """How many models there are to be."""
        return self.plan["planned"]

    @property
    def num_models(self) -> int:
        """How many are done."""
        return len(self.records)

    @property
    def num_classes(self) -> int:
        """Classes of the models."""
        return self.plan["num_classes"]

    @property
    def members(self) -> np.ndarray:
        """Which rows of train each finished model had: bool, shape (models, rows)."""
        return self.rows.members[[record["number"] for record in self.records]]

    @property
    def labels(self) -> Mapping[str, np.ndarray]:
        """Part → classes, int64, shape (rows,)."""
        return self.rows.labels

    @property
    def digests(self) -> Mapping[str, np.ndarray]:
        """Part → content digests, V32, shape (rows,)."""
        return self.rows.digests

    @property
    def forget_sets(self) -> Mapping[str, np.ndarray]:
        """Name → row numbers of train."""
        return self.rows.forget_sets

    def with_all(self, digests: np.ndarray) -> np.ndarray:
        """Positions of the models that were trained on all of some samples (originals), int64."""
        return np.flatnonzero(self.had(digests).all(axis=1))

    def with_none(self, digests: np.ndarray) -> np.ndarray:
        """Positions of the models that were trained on none of some samples (retrained models), int64.

        Raises:
            ValueError: if the pool does not know one of the samples: it cannot tell that nobody had it.
        """
        if unknown := int((self._find(digests) < 0).sum()):
            raise ValueError(
                f"The pool knows nothing of {unknown} of {len(digests)} samples, so that no model of it is a "
                "retrained one for them. Make a pool from the data that the audited model was trained on."
            )
        return np.flatnonzero(~self.had(digests).any(axis=1))

    def check(self, model: nn.Module | None = None, held_out: Mapping[str, np.ndarray] | None = None) -> None:
        """Check that the pool is one for a model and for an audit's own data.

        Args:
            model: the audited model.
            held_out: name ("unseen", "test") → digests of samples that no model was trained on, as the audit has it.

        Raises:
            ValueError: if the models are of another architecture or have other classes, or were trained on held-out
                samples.
        """
        if model is not None:
            self._check_architecture(architecture(model), getattr(getattr(model, "config", None), "num_labels", None))
        for name, digests in (held_out or {}).items():
            trained_on = self.had(digests).any(axis=0)
            if trained_on.any():
                raise ValueError(
                    f"Models of the pool were trained on {int(trained_on.sum())} of the {len(digests)} samples of the "
                    f"audit's own {name} data, which must be new to all of them. Give other {name} data, or make the "
                    "pool without these samples."
                )

    def _check_architecture(self, given: dict[str, Any], num_labels: int | None) -> None:
        own = self.plan["architecture"]
        advice = "Reference models must be trained as the audited one was: make a pool of its architecture."
        if num_labels is not None and num_labels != self.num_classes:
            raise ValueError(f"The model has {num_labels} classes, those of the pool {self.num_classes}. {advice}")
        for name in ("class", "weights"):
            if given[name] != own[name]:
                raise ValueError(f"The model's {name}: {given[name]}; of the pool's models: {own[name]}. {advice}")
        for name in sorted(given["config"].keys() & own["config"].keys()):
            here, there = given["config"][name], own["config"][name]
            if here != there:
                raise ValueError(f"The model's {name}: {here}; of the pool's models: {there}. {advice}")

    def model(self, position: int) -> PreTrainedModel:
        """A model of the pool."""
        return load_model(str(self.path / "models" / self.records[position]["folder"]))

    def unlearned(self) -> list[Unlearned]:
        """All that was unlearned from models of this pool."""
        return [self._unlearned(of) for of in sorted(self.path.glob("unlearned/*/*")) if any(of.glob("*.json"))]

    def _unlearned(self, folder: Path) -> Unlearned:
        position = {record["number"]: place for place, record in enumerate(self.records)}
        records = [record for record in records_in(folder) if record["number"] in position]
        positions = np.array([position[record["number"]] for record in records], dtype=np.int64)
        return Unlearned(folder, self.rows, records, folder.parent.name, folder.name, positions)

    def unlearned_of(self, digests: np.ndarray, label: str | None = None) -> list[Unlearned]:
        """What was unlearned of exactly these samples.

        Args:
            digests: of the forget set, V32, shape (samples,).
            label: of the method, if only one is wanted.
        """
        wanted = set(sortable(digests).tolist())
        names = {
            name
            for name, rows in self.forget_sets.items()
            if set(sortable(self.digests["train"][rows]).tolist()) == wanted
        }
        return [each for each in self.unlearned() if each.forget_set in names and label in (None, each.label)]
