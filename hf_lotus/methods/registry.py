"""All methods by name: ours, a line each, and those that other distributions add by the group `hf_lotus.methods`."""

from __future__ import annotations

import inspect
import typing
from dataclasses import MISSING, fields, is_dataclass

from hf_lotus.methods.amun import AMUN
from hf_lotus.methods.bad_teacher import BadTeacher
from hf_lotus.methods.base import GradientMethod, Paper, UnlearningMethod, WeightEdit
from hf_lotus.methods.ct import CT
from hf_lotus.methods.delete import Delete
from hf_lotus.methods.finetune import Finetune
from hf_lotus.methods.l1_sparse import L1Sparse
from hf_lotus.methods.lotus import LoTUS
from hf_lotus.methods.margin_matching import MarginMatching
from hf_lotus.methods.msg import MSG
from hf_lotus.methods.munba import MUNBa
from hf_lotus.methods.neggrad_plus import NegGradPlus
from hf_lotus.methods.random_labels import RandomLabels
from hf_lotus.methods.retrain import Retrain
from hf_lotus.methods.rum import RUM
from hf_lotus.methods.salun import SalUn
from hf_lotus.methods.scrub import SCRUB
from hf_lotus.methods.sfron import SFRon
from hf_lotus.methods.ssd import SSD
from hf_lotus.methods.unsir import UNSIR
from hf_lotus.methods.warm_restart import WarmRestart
from hf_lotus.utils.plugins import Registry

GROUP = "hf_lotus.methods"
# In the order of tables.
_OWN = (
    LoTUS,
    MarginMatching,
    WarmRestart,
    Finetune,
    NegGradPlus,
    RandomLabels,
    BadTeacher,
    SCRUB,
    SSD,
    UNSIR,
    SalUn,
    L1Sparse,
    SFRon,
    Delete,
    MUNBa,
    AMUN,
    MSG,
    CT,
    RUM,
    Retrain,
)


def check_method(name: str, kind: object) -> None:
    """Raise a TypeError or ValueError if a plugin is not a method that can be chosen by `name`."""
    if not (inspect.isclass(kind) and issubclass(kind, (GradientMethod, WeightEdit))):
        raise TypeError(f"a method is a class of its own, a GradientMethod or a WeightEdit, got {kind!r}.")
    if inspect.isabstract(kind):
        raise TypeError(f"{kind.__name__} does not define {', '.join(sorted(kind.__abstractmethods__))}.")
    if (
        not is_dataclass(kind)
        or "__dataclass_fields__" not in vars(kind)
        or not vars(kind)["__dataclass_params__"].frozen
    ):
        raise TypeError(f"{kind.__name__} must be a dataclass with frozen=True: no run may change a method.")
    try:
        typing.get_type_hints(kind)
    except (NameError, TypeError) as error:
        raise TypeError(f"the types of {kind.__name__}'s fields cannot be read: {error}.") from error
    if vars(kind).get("name") != name:
        raise ValueError(f"{kind.__name__}.name must be the entry point's, {name!r}, got {vars(kind).get('name')!r}.")
    if kind.paper is not None and not isinstance(kind.paper, Paper):
        raise TypeError(f"{kind.__name__}.paper must be a hf_lotus.methods.Paper or None, got {kind.paper!r}.")
    if needed := [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]:
        raise ValueError(f"{kind.__name__} needs defaults of {', '.join(needed)}: a method is its name alone, too.")


METHODS: Registry[type[UnlearningMethod]] = Registry("method", GROUP, {kind.name: kind for kind in _OWN}, check_method)


def name_of(method: UnlearningMethod) -> str:
    """The name of a method in tables: its registered name, or its class's."""
    kind = type(method)
    name = vars(kind).get("name")  # not what it inherits: another method than its parent
    return name if name and METHODS.own.get(name, kind) is kind else kind.__name__


def describe(method: UnlearningMethod) -> dict[str, object]:
    """A method as JSON values: its name and its fields, a method within it likewise."""
    values = {field.name: getattr(method, field.name) for field in fields(method)}
    inner = {name: describe(value) for name, value in values.items() if isinstance(value, UnlearningMethod)}
    return {"name": name_of(method), **values, **inner}
