"""Machine unlearning for Hugging Face image classifiers: LoTUS, its baselines, and honest measurements.

The public names are loaded when first used, so that importing the package, or asking the command line for help, does
not wait for torch.
"""

import importlib

from hf_lotus.version import __version__

_WHERE = {
    "UnlearningTrainer": "trainer",
    "UnlearningArguments": "arguments",
    "ForgetRetainSplit": "splits",
    "ForgetSetRecord": "manifest",
    "Salt": "digests",
    "Evaluator": "evaluation",
    "UnlearningResult": "results",
    "Comparison": "comparison",
    "Contender": "comparison",
    "summarize": "summary",
    "METHODS": "methods",
    "LoTUS": "methods",
    "MarginMatching": "methods",
    "Finetune": "methods",
    "NegGradPlus": "methods",
    "RandomLabels": "methods",
    "BadTeacher": "methods",
    "SCRUB": "methods",
    "SSD": "methods",
    "UNSIR": "methods",
    "SalUn": "methods",
    "Retrain": "methods",
    "metric_path": "metric_files",
    "CifarResNetConfig": "cifar_resnet",
    "CifarResNetForImageClassification": "cifar_resnet",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
