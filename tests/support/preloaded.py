"""Importing this imports all that a command or a rank may need, so that forks of the process import nothing.

The package imports much only where it uses it, for the sake of a quick start; in a process that is forked for each
command that would be paid for in every fork. What is there is frozen for the garbage collector, which `Trainer` and
accelerate call in every run and which would look at all of it.
"""

import gc
import importlib
import pkgutil

import PIL.Image

import hf_lotus

# What the package itself imports only where it is used.
ELSEWHERE = [
    "evaluate",
    "jsonschema",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.linear_model",
    "sklearn.metrics",
    "torch.profiler",
    "transformers.models.resnet.modeling_resnet",
    "transformers.models.vit.modeling_vit",
]

for _module in pkgutil.walk_packages(hf_lotus.__path__, "hf_lotus."):
    if not _module.name.startswith("hf_lotus.metrics."):  # not there in a checkout, and loaded by `evaluate` alone
        importlib.import_module(_module.name)
for _name in ELSEWHERE:
    importlib.import_module(_name)
PIL.Image.init()
gc.collect()
gc.freeze()
