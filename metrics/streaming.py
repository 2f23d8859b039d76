"""What the metrics of this folder share: rows are reduced to sums as they arrive, and nothing goes through Arrow.

`evaluate` keeps every row it is given in an Arrow file, which for 50,000 rows of 1,000 classes costs seconds and
gigabytes. These metrics replace `add_batch` and `compute`; all else is `evaluate`'s own.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import fields, replace
from typing import Any

import numpy as np

from .arrays import as_array


class StreamingMetric:
    """Mixin that stands before `evaluate.Metric`; not a metric itself, so `evaluate.load` does not take it for one.

    A subclass names its options in `Options`, a frozen dataclass, and writes `_start`, `_add`, `_gather` and `_result`
    on a state object that has a length, the number of rows added.
    """

    Options: type
    # Options that act on rows as they are added: too late for them in a compute without rows.
    when_adding = ("from_logits",)

    def __init__(self, config_name: str | None = None, **kwargs: Any):
        """Split the keyword arguments of `evaluate.load` into this metric's options and `evaluate`'s own."""
        names = {field.name for field in fields(self.Options)}
        self.options = self.Options(**{name: kwargs.pop(name) for name in names & kwargs.keys()})
        # `evaluate` ignores what it does not know, and so would ignore a misspelt option.
        unknown = kwargs.keys() - inspect.signature(super().__init__).parameters.keys()
        if unknown:
            raise TypeError(f"Unknown option {sorted(unknown)[0]!r}. The options are {', '.join(sorted(names))}.")
        if kwargs.get("num_process", 1) != 1:
            raise ValueError(
                "num_process is evaluate's way through files on a shared disk, which these metrics do without. Load "
                "the metric on every process and call compute(accelerator=accelerator)."
            )
        super().__init__(config_name, **kwargs)
        self._state = self._start(self.options)

    def __len__(self) -> int:
        return len(self._state)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **inputs: Any) -> None:
        """Add rows. A batch that is not valid raises `ValueError`, and what was added before stays usable.

        Args:
            predictions: NumPy array, torch tensor or nested lists.
            references: the same.
            **inputs: the metric's other inputs, such as `source`.

        """
        self._add(self._state, self.options, predictions, references, **inputs)

    def add(self, *, prediction: Any = None, reference: Any = None, **inputs: Any) -> None:
        """Add one row.

        Args:
            prediction: one element of `add_batch`'s predictions.
            reference: one element of its references.
            **inputs: one element of each of the metric's other inputs.

        """
        # `evaluate.combine` uses the plural names here too.
        one = {"predictions": prediction, "references": reference, **inputs}
        self.add_batch(**{n: v if v is None or isinstance(v, str) else as_array(n, v)[None] for n, v in one.items()})

    def compute(
        self, *, predictions: Any = None, references: Any = None, accelerator: Any = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Compute the metric from all rows added so far, and from those given here; then start afresh.

        If it raises, what was added before the call stays usable.

        Args:
            predictions: as in `add_batch`.
            references: as in `add_batch`.
            accelerator: an `accelerate.Accelerator`, to sum over its processes first. All of them must call.
            **kwargs: the metric's other inputs, and options for this call.

        Returns:
            dict of results; with an accelerator, the same on every process.

        """
        names = {field.name for field in fields(self.Options)}
        given = {name: kwargs.pop(name) for name in names & kwargs.keys()}
        options = replace(self.options, **given)
        state = self._state
        if predictions is not None or references is not None or kwargs:
            # Into a copy: if this fails, the call has changed nothing and can be made again.
            state = copy.deepcopy(state) if len(state) else self._start(options)
            self._add(state, options, predictions, references, **kwargs)
        else:
            for name in self.when_adding:
                if getattr(options, name) != getattr(self.options, name):
                    raise ValueError(f"{name} acts on rows as they are added: give it to evaluate.load instead.")
        if accelerator is not None:
            state = self._gather(state, accelerator)
        result = self._result(state, options)
        self._state = self._start(self.options)
        return result


def check_source(source: Any, rows: int, allowed: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Where the rows of each source are: (source, index) pairs, with a full slice where there is one for all.

    Raises:
        ValueError: if `source` is not one of `allowed`, nor one of them for each of `rows` rows.
    """
    given = np.asarray(source)
    wrong = [name for name in np.unique(given.astype(str)).tolist() if name not in allowed]
    if given.shape not in ((), (rows,)) or wrong:
        raise ValueError(
            f"source must be one of {', '.join(map(repr, allowed))}, or a list with one of them for each of the "
            f"{rows} rows; got {wrong[0] if wrong else given.shape}."
        )
    if given.ndim == 0:
        return [(str(given), slice(None))]
    return [(name, np.flatnonzero(given == name)) for name in allowed]


def gather(value: Any, accelerator: Any) -> list:
    """`value` of every process of an `accelerate.Accelerator`, in the order of their ranks."""
    # Who has an Accelerator has accelerate; the metrics do without.
    from accelerate.utils import gather_object

    return gather_object([value]) if accelerator.num_processes > 1 else [value]
