"""What the metrics of the audit share: one number a row, of several sources and models, as the rows arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .arrays import as_array
from .streaming import StreamingMetric, check_source, gather


@dataclass
class Rows:
    """Values of each source and model, in the order of their arrival, and one more column beside them.

    Rows of one source are the same samples in the same order whatever their model: that is what lines them up.
    """

    kind: str | None = None
    parts: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(values) for parts in self.parts.values() for values, _ in parts)

    def add(self, kind: str, values: np.ndarray, beside: np.ndarray, source: Any, model: Any, sources: tuple) -> None:
        """Add rows of one kind; all of them, or none if something is wrong with them.

        Args:
            kind: what the values are: rows of another kind than before are refused.
            values: shape (rows,).
            beside: another number or boolean of each row, shape (rows,).
            source: one of `sources`, or one for each row.
            model: the model's name, or one for each row.
            sources: those allowed.

        Raises:
            ValueError: for another kind, source, or number of models' names.
        """
        places = check_source(source, len(values), sources)
        names = np.asarray(model).astype(str)
        if names.shape not in ((), (len(values),)):
            raise ValueError(f"model must be a name, or one for each of the {len(values)} rows; got {names.shape}.")
        if self.kind not in (None, kind):
            raise ValueError(f"These rows give {kind}, the ones before them {self.kind}.")
        if not len(values):
            return
        self.kind, names = kind, np.broadcast_to(names, len(values))
        for name, place in places:
            for one in np.unique(names[place]).tolist():
                mine = np.arange(len(values))[place][names[place] == one]
                # Copies: the caller may use the arrays again.
                self.parts.setdefault((name, one), []).append((values[mine].copy(), beside[mine].copy()))

    def gathered(self, accelerator: Any) -> Rows:
        """The rows of all processes, those of the first before those of the second."""
        total = Rows()
        for other in gather(self, accelerator):
            if len(other):
                if total.kind not in (None, other.kind):
                    raise ValueError(f"The processes give different kinds of rows: {total.kind} and {other.kind}.")
                total.kind = other.kind
                for key, parts in other.parts.items():
                    total.parts.setdefault(key, []).extend(parts)
        return total

    def models(self, source: str) -> list[str]:
        """Names of the models with rows of this source, in order."""
        return sorted(model for name, model in self.parts if name == source)

    def column(self, source: str, model: str, *, beside: bool = False) -> np.ndarray:
        """Values of a source under a model, or what stands beside them, shape (rows,)."""
        return np.concatenate([part[beside] for part in self.parts[source, model]])

    def matrix(self, source: str, models: list[str], *, beside: bool = False) -> np.ndarray:
        """The columns of several models, shape (models, samples).

        Raises:
            ValueError: if a model has rows of this source, and not as many as the first.
        """
        missing = [model for model in models if (source, model) not in self.parts]
        if missing:
            raise ValueError(f"There are no rows of {source!r} under the model {missing[0]!r}: add them first.")
        columns = [self.column(source, model, beside=beside) for model in models]
        for model, column in zip(models, columns, strict=True):
            if len(column) != len(columns[0]):
                raise ValueError(
                    f"Every model must have the same {source!r} samples in the same order: {models[0]!r} has "
                    f"{len(columns[0])}, {model!r} {len(column)}."
                )
        return np.stack(columns) if columns else np.empty((0, 0))


class PooledMetric(StreamingMetric):
    """A metric whose state is `Rows`."""

    def _start(self, options: Any) -> Rows:
        return Rows()

    def _gather(self, state: Rows, accelerator: Any) -> Rows:
        return state.gathered(accelerator)


def one_a_row(
    predictions: Any,
    references: Any,
    computed: str,
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[str, np.ndarray]:
    """The value of each row: a given number, or one computed from its prediction and true class.

    Args:
        predictions: shape (rows,), a number each; or (rows, classes).
        references: true classes, shape (rows,), for the latter.
        computed: what `compute` gives, in words.
        compute: from predictions of shape (rows, classes) and labels, checks included.

    Returns:
        the kind in words, and float64 of shape (rows,).

    Raises:
        ValueError: if a given number is not finite, or references are missing.
    """
    array = as_array("predictions", predictions)
    if array.ndim == 1:
        bad = np.flatnonzero(~np.isfinite(array))
        if len(bad):
            raise ValueError(f"predictions must be finite; row {bad[0]} is {array[bad[0]]}.")
        return "numbers of your own", array.astype(np.float64)
    if references is None:
        raise ValueError(f"{computed.capitalize()} needs references: the true class of each row.")
    return computed, compute(array, references)


def flat(document: dict[str, Any]) -> dict[str, Any]:
    """A document of figures with its intervals spread out: ``auc``, ``auc_low``, ``auc_high``, or ``auc_reason``.

    A dictionary with "value" becomes these keys; all else stays as it is.
    """
    spread: dict[str, Any] = {}
    for name, figure in document.items():
        if not isinstance(figure, dict):
            spread[name] = figure
            continue
        spread |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
        if figure["reason"] is not None:
            spread[f"{name}_reason"] = figure["reason"]
    return spread
