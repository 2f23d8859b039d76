"""When a step may be recorded as a graph: every reason against it, by its own words."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType

from hf_lotus import UnlearningTrainer
from hf_lotus.methods import AMUN, RUM, Finetune, LoTUS, MarginMatching, NegGradPlus, SalUn, WarmRestart
from hf_lotus.methods.base import says_same_work
from hf_lotus.methods.munba import nash_weights
from hf_lotus.methods.rounds import Pass
from hf_lotus.trainer.capture_rules import why_not_captured, why_not_pass
from tests.support.every_method import EVERY_METHOD, build
from tests.trainer.test_gradient_checkpointing import CHECKPOINTING

GPU = torch.device("cuda")


@pytest.fixture
def trainer(tmp_path):
    return build(tmp_path, EVERY_METHOD["lotus"], "resnet")


def test_nothing_speaks_against_a_plain_run_on_a_gpu(trainer):
    assert why_not_captured(trainer, GPU) is None
    with trainer.passes.counting(trainer.run.student, trainer.teacher):  # our own hooks are replayed by hand
        assert why_not_captured(trainer, GPU) is None


def test_on_another_device(trainer):
    assert "the device is 'cpu'" in why_not_captured(trainer)
    assert "the device is 'mps'" in why_not_captured(trainer, torch.device("mps"))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"gradient_accumulation_steps": 2}, "accumulated over several batches"),
        ({CHECKPOINTING: True}, "gradient checkpointing"),
        ({"torch_empty_cache_steps": 3}, "torch_empty_cache_steps"),
        ({"optim": "schedule_free_adamw"}, "optimizer .* takes part"),
        ({"optim": "lomo"}, "optimizer .* takes part"),
    ],
)
def test_by_the_arguments(tmp_path, settings, why):
    trainer = build(tmp_path, EVERY_METHOD["lotus"], "resnet", **settings)
    assert re.search(why, why_not_captured(trainer, GPU))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_processes": 2}, "several processes or devices"),
        ({"distributed_type": DistributedType.FSDP}, "several processes or devices"),
        ({"scaler": object()}, "fp16 has its gradients looked at"),
    ],
)
def test_by_the_launch(trainer, monkeypatch, changes, why):
    known = {"num_processes": 1, "distributed_type": DistributedType.NO, "scaler": None}
    known |= {"unwrap_model": lambda model: model}
    monkeypatch.setattr(trainer, "accelerator", SimpleNamespace(**(known | changes)))
    assert why in why_not_captured(trainer, GPU)


def test_by_torch_compile(trainer):
    trainer.args.torch_compile = True
    assert "torch.compile" in why_not_captured(trainer, GPU)


@pytest.mark.parametrize(
    "where", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
)
def test_by_hooks_from_outside(trainer, where):
    module = trainer.model.classifier
    handle = getattr(module, where)(lambda *_: None)
    assert "has a hook" in why_not_captured(trainer, GPU)
    handle.remove()
    assert why_not_captured(trainer, GPU) is None


def test_by_hooks_on_weights_and_on_all_modules(trainer):
    weight = next(trainer.model.parameters())
    for on in (weight.register_hook, weight.register_post_accumulate_grad_hook):
        handle = on(lambda *_: None)
        assert "has a hook" in why_not_captured(trainer, GPU)
        handle.remove()
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert "has a hook" in why_not_captured(trainer, GPU)
    handle.remove()
    assert why_not_captured(trainer, GPU) is None


def test_hooks_of_transformers_that_do_nothing_are_none(trainer):
    from transformers.utils.output_capturing import install_output_capuring_hook

    install_output_capuring_hook(trainer.model.classifier, "hidden_states", 0)
    assert why_not_captured(trainer, GPU) is None


@pytest.mark.parametrize("name", ["compute_loss", "backward_pass", "step_share", "compute_loss_context_manager"])
def test_by_a_trainer_that_does_other_things_in_a_step(trainer, name):
    trainer.__class__ = type("Watching", (UnlearningTrainer,), {name: lambda self, *args, **kwargs: None})
    assert f"Watching.{name} is not the trainer's own" in why_not_captured(trainer, GPU)


def test_one_that_does_things_around_a_step_is_no_matter(trainer):
    trainer.__class__ = type("Watching", (UnlearningTrainer,), {"training_step": lambda self, *args: None})
    assert why_not_captured(trainer, GPU) is None


def test_by_the_method(tmp_path):
    trainer = build(tmp_path, EVERY_METHOD["sfron"], "resnet")
    assert "sfron does not say that its batches are all the same work" in why_not_captured(trainer, GPU)


def test_a_method_that_holds_others_says_what_they_say():
    assert says_same_work(SalUn(LoTUS())) and not says_same_work(SalUn(AMUN()))
    assert says_same_work(WarmRestart(MarginMatching())) and says_same_work(WarmRestart(NegGradPlus()))
    assert says_same_work(RUM()) and not says_same_work(RUM(AMUN()))

    class Own(Finetune):
        def transform(self, batch, student):
            return batch

    assert not says_same_work(Own()) and not says_same_work(SalUn(Own()))


def test_passes():
    assert why_not_pass(Pass()) is None and why_not_pass(Pass(paired=True)) is None
    assert why_not_pass(Pass(max_norm=1.0, forget_every=2)) is None
    assert "passed apart" in why_not_pass(Pass(paired=True, separate_forward=True))
    assert "backward passes of their own" in why_not_pass(Pass(paired=True, bargain=nash_weights))
