"""Machine unlearning for Hugging Face image classifiers: LoTUS, its baselines, and honest measurements.

The public names are loaded when first used, so that importing the package, or asking the command line for help, does
not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING

from hf_lotus.version import __version__

if TYPE_CHECKING:  # what editors and type checkers read; `_WHERE` is what runs, and a test holds them together
    from hf_lotus.benchmark.comparison import Comparison as Comparison
    from hf_lotus.benchmark.comparison import Contender as Contender
    from hf_lotus.data.splits import ForgetRetainSplit as ForgetRetainSplit
    from hf_lotus.evaluation.evaluator import Evaluator as Evaluator
    from hf_lotus.evaluation.results import UnlearningResult as UnlearningResult
    from hf_lotus.methods import AMUN as AMUN
    from hf_lotus.methods import CT as CT
    from hf_lotus.methods import METHODS as METHODS
    from hf_lotus.methods import MSG as MSG
    from hf_lotus.methods import RUM as RUM
    from hf_lotus.methods import SCRUB as SCRUB
    from hf_lotus.methods import SSD as SSD
    from hf_lotus.methods import UNSIR as UNSIR
    from hf_lotus.methods import BadTeacher as BadTeacher
    from hf_lotus.methods import Delete as Delete
    from hf_lotus.methods import Finetune as Finetune
    from hf_lotus.methods import L1Sparse as L1Sparse
    from hf_lotus.methods import LoTUS as LoTUS
    from hf_lotus.methods import MarginMatching as MarginMatching
    from hf_lotus.methods import MUNBa as MUNBa
    from hf_lotus.methods import NegGradPlus as NegGradPlus
    from hf_lotus.methods import RandomLabels as RandomLabels
    from hf_lotus.methods import Retrain as Retrain
    from hf_lotus.methods import SalUn as SalUn
    from hf_lotus.methods import SFRon as SFRon
    from hf_lotus.methods import WarmRestart as WarmRestart
    from hf_lotus.models.cifar_resnet import CifarResNetConfig as CifarResNetConfig
    from hf_lotus.models.cifar_resnet import CifarResNetForImageClassification as CifarResNetForImageClassification
    from hf_lotus.publishing.digests import Salt as Salt
    from hf_lotus.publishing.record import ForgetSetRecord as ForgetSetRecord
    from hf_lotus.publishing.spaces import metric_path as metric_path
    from hf_lotus.reporting.tables import summarize as summarize
    from hf_lotus.trainer.arguments import UnlearningArguments as UnlearningArguments
    from hf_lotus.trainer.trainer import UnlearningTrainer as UnlearningTrainer

_WHERE = {
    "UnlearningTrainer": "trainer.trainer",
    "UnlearningArguments": "trainer.arguments",
    "ForgetRetainSplit": "data.splits",
    "ForgetSetRecord": "publishing.record",
    "Salt": "publishing.digests",
    "Evaluator": "evaluation.evaluator",
    "UnlearningResult": "evaluation.results",
    "Comparison": "benchmark.comparison",
    "Contender": "benchmark.comparison",
    "summarize": "reporting.tables",
    "METHODS": "methods",
    "LoTUS": "methods",
    "MarginMatching": "methods",
    "WarmRestart": "methods",
    "Finetune": "methods",
    "NegGradPlus": "methods",
    "RandomLabels": "methods",
    "BadTeacher": "methods",
    "SCRUB": "methods",
    "SSD": "methods",
    "UNSIR": "methods",
    "SalUn": "methods",
    "L1Sparse": "methods",
    "SFRon": "methods",
    "Delete": "methods",
    "MUNBa": "methods",
    "AMUN": "methods",
    "MSG": "methods",
    "CT": "methods",
    "RUM": "methods",
    "Retrain": "methods",
    "metric_path": "publishing.spaces",
    "CifarResNetConfig": "models.cifar_resnet",
    "CifarResNetForImageClassification": "models.cifar_resnet",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
