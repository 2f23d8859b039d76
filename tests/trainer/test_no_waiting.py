"""No step has the host wait for its device: whatever the method."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from host_reads import host_reads
from transformers import TrainerCallback

from hf_lotus import METHODS
from hf_lotus.methods import GradientMethod
from tests.support.every_method import EVERY_METHOD, build, options_of

# One run of each method, those with others in them that have more to do; and both kinds of what differs by the task.
RUNS = [
    "lotus", "margin_matching", "warm_restart of neggrad_plus", "finetune", "l1_sparse", "random_labels redrawn",
    "neggrad_plus", "bad_teacher", "scrub", "sfron", "delete", "salun of munba", "munba", "amun", "msg", "ct",
    "rum of others", "unsir of classes", "unsir of samples", "retrain",
]  # fmt: skip
SETTINGS = {"per_device_train_batch_size": 128, "learning_rate": 1e-3, "optim": "adamw_torch_fused"}


class Steps(TrainerCallback):
    """Counts the optimizer steps of a run."""

    taken = 0

    def on_step_begin(self, *args, **kwargs):
        self.taken += 1


def reads_of(folder, monkeypatch, method, options=(), **settings):
    """What the rounds of a run would wait for, and its number of steps."""
    steps, found = Steps(), Counter()
    trainer = build(folder, method, "resnet", [steps], dict(options), **(SETTINGS | settings))
    take = trainer._run_epoch

    def counted(**kwargs):
        with host_reads() as now:
            take(**kwargs)
        found.update(now)

    monkeypatch.setattr(trainer, "_run_epoch", counted)
    trainer.train()
    return found, steps.taken


@pytest.mark.parametrize("name", RUNS)
def test_no_optimizer_step_of_any_method_waits(tmp_path, monkeypatch, name):
    found, steps = reads_of(tmp_path, monkeypatch, EVERY_METHOD[name], options_of(name))
    assert steps >= 2
    assert not found, f"in {steps} steps: {dict(found)}"


def test_every_registered_method_is_asked():
    asked = {
        type(method) for name in RUNS for method in (EVERY_METHOD[name], getattr(EVERY_METHOD[name], "inner", None))
    }
    assert {method for method in METHODS.values() if issubclass(method, GradientMethod)} <= asked


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_accumulation_steps": 2, "max_grad_norm": 1.0},
        {"horizontal_flip": True, "crop_padding": 1, "keep_on_device": True},
    ],
)
def test_nor_does_one_that_accumulates_clips_or_augments(tmp_path, monkeypatch, settings):
    found, steps = reads_of(tmp_path, monkeypatch, EVERY_METHOD["lotus"], **settings)
    assert steps >= 2 and not found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, which then tells by itself")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_nor_does_a_gpu_say_so(tmp_path, monkeypatch):
    settings = {**SETTINGS, "use_cpu": False, "bf16": True, "capture_graph": False}
    trainer = build(tmp_path, EVERY_METHOD["lotus"], "resnet", **settings)
    step = trainer.training_step

    def watched(*args, **kwargs):
        torch.cuda.set_sync_debug_mode("error")
        try:
            return step(*args, **kwargs)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(trainer, "training_step", watched)
    trainer.train()


class Asking(type(EVERY_METHOD["finetune"])):
    """Finetune that looks at its loss in every step."""

    def loss(self, inputs):
        loss = super().loss(inputs)
        assert loss.sum().item() > 0
        return loss


def test_a_method_that_looks_at_its_loss_is_told_for_every_step(tmp_path, monkeypatch):
    found, steps = reads_of(tmp_path, monkeypatch, Asking())
    ((where, times),) = found.items()
    assert times == steps and "_local_scalar_dense" in where and "test_no_waiting.py" in where


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: bool((x > 0).any()), "_local_scalar_dense"),
        (lambda x: x[x > 0], "index"),
        (lambda x: torch.nonzero(x), "nonzero"),
        (lambda x: x.long().unique(), "_unique2"),
        (lambda x: x.long().bincount(), "bincount"),
        (lambda x: x.masked_select(x > 0), "masked_select"),
        (lambda x: torch.equal(x, x), "equal"),
        (lambda x: x.cpu(), "cpu"),
        (lambda x: x.tolist(), "tolist"),
        (lambda x: x.numpy(), "numpy"),
        (lambda x: torch.tensor([1.0]), "tensor"),
    ],
)
def test_what_counts(ask, what):
    with host_reads() as found:
        ask(torch.ones(3))
    assert any(where.startswith(f"{what} at") and "test_no_waiting.py" in where for where in found), found


def test_what_does_not():
    with host_reads() as found:
        x = torch.ones(3, 4)
        rows = torch.arange(3)[torch.randperm(3)]
        torch.where(x > 0, x.index_select(0, rows), 0.0).sum(dim=1).argmax()
        x.to(torch.float64)
    assert not found
