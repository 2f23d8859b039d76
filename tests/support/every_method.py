"""Every method that takes gradient steps, small enough to be run often, and how to make a trainer of it anywhere."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from _pytest.mark import ParameterSet
from transformers import TrainerCallback

from hf_lotus import LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.data.images import ReadyImages
from hf_lotus.data.prepared import ready_splits
from hf_lotus.methods import (
    AMUN,
    CT,
    MSG,
    RUM,
    SCRUB,
    UNSIR,
    BadTeacher,
    Delete,
    Finetune,
    GradientMethod,
    L1Sparse,
    MarginMatching,
    MUNBa,
    NegGradPlus,
    RandomLabels,
    Retrain,
    SalUn,
    SFRon,
    UnlearningMethod,
    WarmRestart,
)
from tests.conftest import SIZE, TINY_MODELS, ViTImageProcessorPil, divided, scans
from tests.support.method_helpers import class_wise_parts

FEW_NOISE = {"noise_batch_size": 8, "noise_batches": 3, "noise_steps": 2, "retain_per_class": 10}
# 60 forget samples in steps of 16 and 180 retain samples in steps of 32: rounds of 4 + 6, 4 + 6 and 6 steps.
SHORT_SCRUB = SCRUB(msteps=2, forget_batch_size=16, alpha=0.5, gamma=1.0)


def checkered(self, run):
    """A mask that is the same whatever the batch size, and has no weights on its edge."""
    mask = {}
    for name, parameter in run.student.named_parameters():
        mask[name] = (torch.arange(parameter.numel()) % 3 > 0).view_as(parameter)
    return mask


@dataclass(frozen=True)
class Checkered(SFRon):
    """SFRon without its Fisher information, which depends on the batch size as SSD's does."""

    mask = checkered


EVERY_METHOD: dict[str, GradientMethod] = {
    "finetune": Finetune(),
    "neggrad_plus": NegGradPlus(),
    "random_labels": RandomLabels(),
    "random_labels redrawn": RandomLabels(allow_true=True, redraw=True, retain_fraction=0.5),
    "bad_teacher": BadTeacher(),
    "scrub": SHORT_SCRUB,
    "unsir of classes": UNSIR(**FEW_NOISE),
    "unsir of samples": UNSIR(noise_steps=2),
    "salun": SalUn(),
    "salun of lotus": SalUn(LoTUS(stop_margin=2.0), saliency=0.2),
    "lotus": LoTUS(stop_margin=2.0),
    # The targets of an untrained model are its own predictions but for the temperature.
    "margin_matching": MarginMatching(temperature=0.1),
    "margin_matching of the student": MarginMatching(unseen_margins="student", temperature=0.1, pool_below=5),
    "warm_restart": WarmRestart(restart_rounds=1),
    "warm_restart of neggrad_plus": WarmRestart(NegGradPlus(), restart_rounds=1),
    "salun of margin matching": SalUn(MarginMatching(temperature=0.1), saliency=0.2),
    "l1_sparse": L1Sparse(alpha=1e-3),
    "sfron": SFRon(),
    "sfron of a given mask": Checkered(),
    "sfron masked throughout": Checkered(mask_retain=True),
    "delete": Delete(),
    "munba": MUNBa(),
    "salun of munba": SalUn(MUNBa(), saliency=0.2),
    "amun": AMUN(steps=5),
    "msg": MSG(),
    "ct": CT(),
    "rum": RUM(middle_rounds=1),
    "rum of others": RUM(NegGradPlus(), None, MarginMatching(temperature=0.1), low_rounds=1),
    "retrain": Retrain(),
}
# They draw noise for each batch, on each rank its own: equal samples do not give equal steps.
NOISY = {"lotus", "salun of lotus", "unsir of samples"}

# One of each kind of thing that a checkpoint must hold: decisions, a loop's state, rounds to go back to, a mask,
# noise, a renewed teacher, two sides' gradients, parts, an edit.
KINDS = {"lotus", "margin_matching", "scrub", "salun", "unsir of samples", "warm_restart", "munba", "rum", "msg"}


def by_kind(names: Iterable[str], kinds: Collection[str] = KINDS) -> list[ParameterSet]:
    """Parameters of a costly test: what is of no kind of its own is tested with `--exhaustive`."""
    return [pytest.param(name, marks=() if name in kinds else pytest.mark.exhaustive) for name in names]


def run_by_kind(config: pytest.Config, names: Iterable[str], kinds: Collection[str]) -> list[str]:
    """What a fixture has to run for the parameters of `by_kind`."""
    exhaustive = config.getoption("--exhaustive")
    return [name for name in names if exhaustive or name in kinds]


kept_scans = functools.cache(scans)
_PROCESSOR = ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})


@functools.cache
def ready_parts() -> dict[str, ReadyImages]:
    """The divided scans, decoded once for all trainers of a process."""
    with torch.random.fork_rng():
        return ready_splits(divided(kept_scans()), TINY_MODELS["vit"]().config, _PROCESSOR)[0]


def options_of(name: str) -> dict:
    """What a trainer of the method needs besides, in the place of the divided scans."""
    if name == "delete":  # it has steps on the forget set alone: as many as the others have, so
        parts = ready_parts()
        return {"forget_dataset": parts["retain"], "retain_dataset": parts["forget"]}
    return class_wise_parts(kept_scans()) if name == "unsir of classes" else {}


def build(folder: Path, method: UnlearningMethod, family="vit", callbacks=(), options=None, **arguments):
    """A trainer outside of any fixture: two rounds of SGD on CPU, anything overridden by keyword.

    A method that needs kernels gets a family with them that does not mix the samples of a batch either.
    """
    return build_with(arguments_of(folder, **arguments), method, family, callbacks, options)


def arguments_of(folder: Path, **arguments) -> UnlearningArguments:
    """Two rounds of SGD on CPU, anything overridden by keyword."""
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 32, "learning_rate": 0.05, "optim": "sgd"}
    settings |= {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "seed": 1, "weight_decay": 0.0}
    settings |= {"save_total_limit": 20}
    return UnlearningArguments(str(folder), **(settings | arguments))


def build_with(args: UnlearningArguments, method: UnlearningMethod, family="vit", callbacks=(), options=None):
    """`build` with arguments that are made."""
    family = "convnext" if family == "vit" and isinstance(method, CT) else family
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TINY_MODELS[family]()
    return UnlearningTrainer(
        model,
        args,
        method,
        callbacks=list(callbacks),
        processing_class=_PROCESSOR,
        **({f"{name}_dataset": part for name, part in ready_parts().items() if name != "test"} | (options or {})),
    )


class SaveAt(TrainerCallback):
    """Save a checkpoint after the given steps, and after the given rounds once the next one is decided."""

    def __init__(self, *steps: int, rounds: tuple[int, ...] = ()):
        self.steps, self.rounds = steps, rounds

    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = state.global_step in self.steps

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_save = round(state.epoch) in self.rounds


def decisions(trainer) -> list[dict]:
    """All that the log says of rounds, without what was measured of time."""
    marks = {"round", "after_round", "rewound_to_round"}
    return [entry for entry in trainer.state.log_history if marks & entry.keys()]
