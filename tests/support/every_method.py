"""Every method that takes gradient steps, small enough to be run often, and how to make a trainer of it anywhere."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from transformers import TrainerCallback

from hf_lotus import LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.methods import (
    SCRUB,
    UNSIR,
    BadTeacher,
    Finetune,
    GradientMethod,
    MarginMatching,
    NegGradPlus,
    RandomLabels,
    Retrain,
    SalUn,
    UnlearningMethod,
    WarmRestart,
)
from tests.conftest import SIZE, TINY_MODELS, ViTImageProcessorPil, divided, scans
from tests.support.method_helpers import class_wise_parts

FEW_NOISE = {"noise_batch_size": 8, "noise_batches": 3, "noise_steps": 2, "retain_per_class": 10}
# 60 forget samples in steps of 16 and 180 retain samples in steps of 32: rounds of 4 + 6, 4 + 6 and 6 steps.
SHORT_SCRUB = SCRUB(msteps=2, forget_batch_size=16, alpha=0.5, gamma=1.0)
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
    "retrain": Retrain(),
}
# They draw noise for each batch, on each rank its own: equal samples do not give equal steps.
NOISY = {"lotus", "salun of lotus", "unsir of samples"}


kept_scans = functools.cache(scans)


def options_of(name: str) -> dict:
    """What a trainer of the method needs besides, in the place of the divided scans."""
    return class_wise_parts(kept_scans()) if name == "unsir of classes" else {}


def build(folder: Path, method: UnlearningMethod, family="vit", callbacks=(), options=None, **arguments):
    """A trainer outside of any fixture: two rounds of SGD on CPU, anything overridden by keyword."""
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 32, "learning_rate": 0.05, "optim": "sgd"}
    settings |= {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "seed": 1, "weight_decay": 0.0}
    settings |= {"save_total_limit": 20}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TINY_MODELS[family]()
    parts = divided(kept_scans())
    data = {f"{name}_dataset": part for name, part in parts.items() if name != "test"}
    return UnlearningTrainer(
        model,
        UnlearningArguments(str(folder), **(settings | arguments)),
        method,
        callbacks=list(callbacks),
        processing_class=ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}),
        **(data | (options or {})),
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
