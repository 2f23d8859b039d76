"""The unlearning methods, one paper a file."""

from __future__ import annotations

from dataclasses import fields

from hf_lotus.methods.bad_teacher import BadTeacher
from hf_lotus.methods.base import Batch, GradientMethod, LossInputs, Round, Run, Task, UnlearningMethod, WeightEdit
from hf_lotus.methods.finetune import Finetune
from hf_lotus.methods.lotus import LoTUS
from hf_lotus.methods.margin_matching import MarginMatching
from hf_lotus.methods.neggrad_plus import NegGradPlus
from hf_lotus.methods.random_labels import RandomLabels
from hf_lotus.methods.retrain import Retrain
from hf_lotus.methods.salun import SalUn
from hf_lotus.methods.scrub import SCRUB
from hf_lotus.methods.ssd import SSD
from hf_lotus.methods.unsir import UNSIR
from hf_lotus.methods.warm_restart import WarmRestart

# The names that the command line and recipes use.
METHODS: dict[str, type[UnlearningMethod]] = {
    "lotus": LoTUS,
    "margin_matching": MarginMatching,
    "warm_restart": WarmRestart,
    "finetune": Finetune,
    "neggrad_plus": NegGradPlus,
    "random_labels": RandomLabels,
    "bad_teacher": BadTeacher,
    "scrub": SCRUB,
    "ssd": SSD,
    "unsir": UNSIR,
    "salun": SalUn,
    "retrain": Retrain,
}


def name_of(method: UnlearningMethod) -> str:
    """The name of a method in tables: its registered name, or its class's."""
    return next((name for name, kind in METHODS.items() if type(method) is kind), type(method).__name__)


def describe(method: UnlearningMethod) -> dict[str, object]:
    """A method as JSON values: its name and its fields, a method within it likewise."""
    values = {field.name: getattr(method, field.name) for field in fields(method)}
    inner = {name: describe(value) for name, value in values.items() if isinstance(value, UnlearningMethod)}
    return {"name": name_of(method), **values, **inner}


__all__ = [
    "METHODS",
    "SCRUB",
    "SSD",
    "UNSIR",
    "BadTeacher",
    "Batch",
    "Finetune",
    "GradientMethod",
    "LoTUS",
    "LossInputs",
    "MarginMatching",
    "NegGradPlus",
    "RandomLabels",
    "Retrain",
    "Round",
    "Run",
    "SalUn",
    "Task",
    "UnlearningMethod",
    "WarmRestart",
    "WeightEdit",
    "describe",
    "name_of",
]
