"""The rows of a comparison: methods with their fields, and training arguments of their own."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hf_lotus.benchmark.comparison import Contender
from hf_lotus.evaluation.metrics import RETRAIN
from hf_lotus.evaluation.results import ModelResult
from hf_lotus.methods import METHODS, UnlearningMethod
from hf_lotus.methods.options import INNER, MethodFields
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.utils.text import nearest
from hf_lotus.utils.values import convert

# In place of names: every row of the recipe, or every method where there is none.
ALL = "all"


def choose(
    wanted: list[str], recipe: Mapping[str, Mapping[str, Any] | None], has_retrain: bool
) -> dict[str, Contender]:
    """The rows of the comparison.

    Args:
        wanted: row names, or "all".
        recipe: row name → options, from the file.
        has_retrain: whether a retrained model is given, so that none is to be trained.

    Raises:
        ValueError: for a name that is neither a row of the recipe nor a method.
    """
    known: dict[str, Mapping[str, Any] | None] = {**{name: None for name in METHODS}, **recipe}
    names = wanted
    if ALL in wanted:
        names = list(recipe or METHODS)
        if has_retrain:
            names = [name for name in names if (recipe.get(name) or {}).get("method", name) != RETRAIN]
    for name in names:
        if name not in known:
            raise ValueError(f"There is no method {name!r}. {nearest(name, [ALL, *known])}")
    return {name: Contender(*read_entry(name, known[name])) for name in names}


def read_entry(label: str, options: Mapping[str, Any] | None) -> tuple[UnlearningMethod, dict[str, Any]]:
    """A method of a recipe: its fields, and training arguments of its own.

    Args:
        label: the entry's name; the method's too unless `method` names it.
        options: name → value, as in the file; None where it gives none.

    Returns:
        the method, and training argument → value.

    Raises:
        ValueError: for a name that is neither a field of the method nor a training argument, or a value that
            is not of its type.
    """
    if not isinstance(options, Mapping | None):
        raise ValueError(f"{label} must have its options as `name: value` lines, got {options!r}.")
    options = dict(options or {})
    method = MethodFields(str(options.pop("method", label)), options.pop(INNER, None))
    hints, trained = method.hints(), typing.get_type_hints(UnlearningArguments)
    known = {f.name: trained[f.name] for f in fields(UnlearningArguments) if f.init}
    if both := hints.keys() & known.keys():
        raise ValueError(f"{label}: the method has {', '.join(sorted(both))}, which a training argument is called.")
    given: dict[str, object] = {}
    arguments: dict[str, Any] = {}
    for name, value in options.items():
        if name in hints:
            given[name] = value
        elif name in known:
            arguments[name] = _argument(label, name, value, known[name])
        else:
            near = nearest(name, [*hints, *known])
            raise ValueError(f"{label} has the option {name!r}, which does not exist. {near}")
    return method.build(given), arguments


def _argument(label: str, name: str, value: object, hint: object) -> object:
    try:
        return convert(value, hint)
    except ValueError as error:
        raise ValueError(f"{name} of {label}: {error}.") from error


def progress_line(seed: int, row: ModelResult) -> str:
    """A row as it is told while others are still to be measured."""
    figures = {"forget": row.forget_accuracy, "retain": row.retain_accuracy, "Avg Gap": row.avg_gap}
    shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if value is not None)
    return f"seed {seed} · {row.name}: {shown}, {row.seconds:.1f} s"
