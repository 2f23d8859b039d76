"""The unlearning methods, one paper a file."""

from __future__ import annotations

from hf_lotus.methods.amun import AMUN
from hf_lotus.methods.bad_teacher import BadTeacher
from hf_lotus.methods.base import (
    Batch,
    GradientMethod,
    LossInputs,
    Paper,
    RefusedModel,
    Round,
    Run,
    Task,
    UnlearningMethod,
    WeightEdit,
)
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
from hf_lotus.methods.registry import METHODS, describe, name_of
from hf_lotus.methods.retrain import Retrain
from hf_lotus.methods.rum import RUM
from hf_lotus.methods.salun import SalUn
from hf_lotus.methods.scrub import SCRUB
from hf_lotus.methods.sfron import SFRon
from hf_lotus.methods.ssd import SSD
from hf_lotus.methods.unsir import UNSIR
from hf_lotus.methods.warm_restart import WarmRestart

__all__ = [
    "AMUN",
    "CT",
    "METHODS",
    "MSG",
    "RUM",
    "SCRUB",
    "SSD",
    "UNSIR",
    "BadTeacher",
    "Batch",
    "Delete",
    "Finetune",
    "GradientMethod",
    "L1Sparse",
    "LoTUS",
    "LossInputs",
    "MUNBa",
    "MarginMatching",
    "NegGradPlus",
    "Paper",
    "RandomLabels",
    "RefusedModel",
    "Retrain",
    "Round",
    "Run",
    "SFRon",
    "SalUn",
    "Task",
    "UnlearningMethod",
    "WarmRestart",
    "WeightEdit",
    "describe",
    "name_of",
]
