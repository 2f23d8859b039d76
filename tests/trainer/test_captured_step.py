"""A run whose steps are replayed is the run whose steps are taken one by one: weights to the bit, counts, log, resume.

A CUDA graph is stood in for by `RecordedGraph`: Python runs once a recording, numbers of the host stay what they were,
and memory stays where it is. The last tests need a GPU.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from hf_lotus import LoTUS
from hf_lotus.methods import MUNBa, NegGradPlus, SFRon
from hf_lotus.methods.base import says_same_work
from hf_lotus.trainer import captured_step
from hf_lotus.trainer.capture_rules import why_not_captured
from tests.support.every_method import EVERY_METHOD, KINDS, SaveAt, build, by_kind, decisions, options_of
from tests.support.method_helpers import equal, weights
from tests.support.recorded_graph import RecordedGraph

ADAM = {"optim": "adamw_torch", "learning_rate": 1e-3, "weight_decay": 5e-4}
# LoTUS then has rounds of eight steps, of which the last has fewer samples.
SHORT = {**ADAM, "num_train_epochs": 3, "per_device_train_batch_size": 16, "lr_scheduler_type": "cosine"}
CAPTURED = [name for name, method in EVERY_METHOD.items() if says_same_work(method)]
OWN_KINDS = KINDS | {"l1_sparse", "random_labels redrawn", "neggrad_plus"}
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and there is none")


class Graphs(list):
    """The graphs that a run has made, in order."""

    def make(self, *args, **kwargs):
        self.append(RecordedGraph(*args, **kwargs))
        return self[-1]

    @property
    def replays(self):
        return sum(graph.replays for graph in self)


@pytest.fixture
def replayed(monkeypatch):
    """Makes trainers that record their steps as if their device were a GPU, and the graphs that they make."""
    monkeypatch.setattr(
        captured_step, "why_not_captured", lambda trainer: why_not_captured(trainer, torch.device("cuda"))
    )

    def make(*args, **kwargs):
        trainer = build(*args, **kwargs)
        trainer.captured.make = (graphs := Graphs()).make
        return trainer, graphs

    return make


def told(trainer):
    """All that a run leaves behind besides its weights."""
    losses = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    return losses, decisions(trainer), trainer.unlearning_passes, trainer.state.total_flos


def same_end(first, second):
    assert equal(weights(first.model), weights(second.model))
    assert told(first) == told(second)


@pytest.mark.parametrize("name", by_kind(CAPTURED, OWN_KINDS))
def test_every_method_that_says_so_ends_with_the_same_bits(tmp_path, replayed, name):
    settings = {**SHORT, "num_train_epochs": 2, "options": options_of(name)}
    eager = build(tmp_path / "eager", EVERY_METHOD[name], "resnet", capture_graph=False, **settings)
    trainer, graphs = replayed(tmp_path / "replayed", EVERY_METHOD[name], "resnet", **settings)
    eager.train()
    trainer.train()
    assert not equal(weights(eager.model), weights(build(tmp_path / "before", EVERY_METHOD[name], "resnet").model))
    same_end(eager, trainer)
    if name == "neggrad_plus":  # its passes show the two sides apart
        assert not graphs
    else:
        assert graphs.replays >= eager.state.global_step // 3


@pytest.mark.parametrize("name", by_kind(["lotus", "margin_matching", "finetune"], {"lotus"}))
@pytest.mark.parametrize(
    "settings",
    [
        {"keep_on_device": True, "horizontal_flip": True, "crop_padding": 2, "max_grad_norm": 1.0},
        {"optim": "sgd", "optim_args": "momentum=0.9", "bf16": True},
    ],
    ids=["resident, augmented, clipped", "from the loader, bf16"],
)
def test_whatever_the_run_does_besides(tmp_path, replayed, name, settings):
    eager = build(tmp_path / "eager", EVERY_METHOD[name], "resnet", capture_graph=False, **(SHORT | settings))
    trainer, graphs = replayed(tmp_path / "replayed", EVERY_METHOD[name], "resnet", **(SHORT | settings))
    eager.train()
    trainer.train()
    same_end(eager, trainer)
    assert graphs.replays > 15


def test_dropout_draws_anew_in_every_replay(tmp_path, replayed):
    eager = build(tmp_path / "eager", EVERY_METHOD["lotus"], "vit with dropout", capture_graph=False, **SHORT)
    trainer, graphs = replayed(tmp_path / "replayed", EVERY_METHOD["lotus"], "vit with dropout", **SHORT)
    eager.train()
    trainer.train()
    same_end(eager, trainer)
    assert graphs.replays > 15


def test_a_run_that_is_resumed_within_a_round(tmp_path, replayed):
    method = EVERY_METHOD["lotus"]
    whole = build(tmp_path / "whole", method, "resnet", capture_graph=False, **SHORT)
    whole.train()
    steps = whole.state.global_step // 3
    settings = {**SHORT, "save_strategy": "steps", "save_steps": 1000}
    broken, _ = replayed(tmp_path / "broken", method, "resnet", [SaveAt(steps + 2)], **settings)
    broken.train()
    again, graphs = replayed(tmp_path / "broken", method, "resnet", **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "broken" / f"checkpoint-{steps + 2}"))
    assert equal(weights(whole.model), weights(again.model)) and graphs.replays
    assert decisions(whole) == decisions(again)


def test_a_graph_a_round_and_none_of_the_last_smaller_batch(tmp_path, replayed):
    trainer, graphs = replayed(tmp_path, EVERY_METHOD["lotus"], "resnet", **SHORT)
    trainer.train()
    steps, rest = divmod(trainer.state.global_step, 3)
    assert not rest and len(trainer.train_dataset) % SHORT["per_device_train_batch_size"]
    # Of the first round two steps are taken as ever, and one of each later one; and the last of each.
    assert [graph.replays for graph in graphs] == [steps - 3, steps - 2, steps - 2]
    assert not trainer.captured._graphs


def test_a_round_of_few_steps_is_not_worth_it(tmp_path, replayed):
    trainer, graphs = replayed(
        tmp_path, EVERY_METHOD["lotus"], "resnet", **(SHORT | {"per_device_train_batch_size": 32})
    )
    trainer.train()
    assert trainer.state.global_step >= 9 and not graphs


class ByShare(LoTUS):
    """LoTUS with a loss of its own that depends on the step, and no word of it."""

    def loss(self, inputs):
        return super().loss(inputs) * (1 + inputs.round_share)


class Promising(ByShare):
    """The same, that says wrongly that it does not ask."""

    is_same_work = True

    def loss(self, inputs):
        return super().loss(inputs) * (1 + inputs.forgotten)


class HostDraws(nn.Module):
    """A layer that leaves its input as it is, and asks a source of the host's for it."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, x):
        return x * (1 + 0 * self.draw())


class TestWhatIsNotRecorded:
    def test_what_a_method_inherits_was_said_of_another(self):
        assert says_same_work(LoTUS()) and not says_same_work(ByShare()) and says_same_work(Promising())
        assert not says_same_work(SFRon()) and not says_same_work(MUNBa())

    def test_a_method_that_promises_and_asks_is_refused_and_not_stale(self, tmp_path, replayed):
        trainer, _ = replayed(tmp_path, Promising(stop_margin=2.0), "resnet", **SHORT)
        with pytest.raises(RuntimeError, match="could not be recorded as a graph.*capture_graph"):
            trainer.train()
        assert not trainer.captured.is_recording

    def test_a_model_that_draws_on_the_host_is_taken_step_by_step(self, tmp_path, replayed):
        ends = []
        for asked in (False, None):
            trainer, graphs = replayed(
                tmp_path / str(asked), EVERY_METHOD["finetune"], "resnet", capture_graph=asked, **SHORT
            )
            trainer.model.classifier.insert(0, HostDraws(np.random.rand))
            trainer.train()
            ends.append(weights(trainer.model))
            assert not graphs
        assert equal(*ends)

    def test_and_refused_where_a_graph_is_required(self, tmp_path, replayed):
        trainer, _ = replayed(tmp_path, EVERY_METHOD["finetune"], "resnet", capture_graph=True, **SHORT)
        trainer.model.classifier.insert(0, HostDraws(np.random.rand))
        with pytest.raises(ValueError, match="capture_graph is required.*draws random numbers on the host"):
            trainer.train()

    def test_on_a_cpu_it_is_refused_before_anything_is_done(self, tmp_path):
        trainer = build(tmp_path, EVERY_METHOD["lotus"], capture_graph=True)
        with pytest.raises(ValueError, match="capture_graph is required and cannot be had: the device is 'cpu'"):
            trainer.train()
        assert trainer.state.global_step == 0

    def test_passes_with_sides_apart_are_taken_step_by_step(self, tmp_path, replayed):
        trainer, graphs = replayed(tmp_path, NegGradPlus(), "resnet", capture_graph=True, **SHORT)
        with pytest.raises(ValueError, match="the two sides of a batch are passed apart"):
            trainer.train()
        assert not graphs


class PutsOthersInPlace(TrainerCallback):
    """Gives a weight other memory in the midst of a round."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 3:
            weight = next(model.parameters())
            weight.data = weight.data.clone()


def test_weights_that_a_callback_puts_elsewhere_are_found(tmp_path, replayed):
    settings = {**SHORT, "callbacks": [PutsOthersInPlace()]}
    eager = build(tmp_path / "eager", EVERY_METHOD["lotus"], "resnet", capture_graph=False, **settings)
    trainer, graphs = replayed(tmp_path / "replayed", EVERY_METHOD["lotus"], "resnet", **settings)
    eager.train()
    trainer.train()
    same_end(eager, trainer)
    assert len(graphs) == 4


class Breaks(TrainerCallback):
    """Spoils the weights in the midst of a round."""

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 3:
            with torch.no_grad():
                next(model.parameters()).fill_(math.nan)


def test_logits_that_are_not_finite_are_seen_in_a_replay(tmp_path, replayed):
    trainer, graphs = replayed(tmp_path, EVERY_METHOD["finetune"], "resnet", [Breaks()], **SHORT)
    with pytest.raises(FloatingPointError, match="not finite"):
        trainer.train()
    assert graphs.replays and trainer.state.epoch <= 1  # when the round is over, and before anything is told of it


# ---- on a GPU ----

ON_GPU = {**SHORT, "use_cpu": False, "keep_on_device": True, "optim": "adamw_torch_fused"}


@pytest.fixture
def deterministic(monkeypatch):
    """Convolutions that add up in one order: else no two runs are alike, by a graph or not."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@GPU
@pytest.mark.parametrize("name", ["lotus", "margin_matching", "warm_restart", "scrub", "salun of lotus"])
@pytest.mark.parametrize("settings", [{}, {"bf16": True}, {"horizontal_flip": True, "crop_padding": 2}])
def test_a_real_graph_ends_where_single_steps_do(tmp_path, deterministic, name, settings):
    ends = []
    for asked in (False, True):
        trainer = build(
            tmp_path / str(asked), EVERY_METHOD[name], "resnet", capture_graph=asked, **(ON_GPU | settings)
        )
        trainer.train()
        ends.append((weights(trainer.model), trainer.unlearning_passes, trainer.state.total_flos))
    for key, value in ends[0][0].items():
        torch.testing.assert_close(ends[1][0][key], value, rtol=1e-6, atol=1e-6)
    assert ends[0][1:] == ends[1][1:]


@GPU
def test_a_real_graph_draws_dropout_anew(tmp_path, deterministic):
    ends = []
    for asked in (False, True):
        trainer = build(
            tmp_path / str(asked), EVERY_METHOD["lotus"], "vit with dropout", capture_graph=asked, **ON_GPU
        )
        trainer.train()
        ends.append(weights(trainer.model))
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-6, atol=1e-6)


@GPU
def test_a_real_run_that_is_resumed_within_a_round(tmp_path, deterministic):
    method = EVERY_METHOD["lotus"]
    settings = {**ON_GPU, "capture_graph": True, "save_strategy": "steps", "save_steps": 1000}
    whole = build(tmp_path, method, "resnet", [SaveAt(10)], **settings)
    whole.train()
    again = build(tmp_path, method, "resnet", **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-10"))
    for key, value in weights(whole.model).items():
        torch.testing.assert_close(weights(again.model)[key], value, rtol=1e-6, atol=1e-6)


@GPU
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_no_step_of_a_real_run_waits(tmp_path, monkeypatch):
    trainer = build(tmp_path, EVERY_METHOD["lotus"], "resnet", capture_graph=True, **ON_GPU)
    step, replays = trainer.captured.take, []

    def watched(*args):
        is_replay = bool(trainer.captured._graphs)  # recording itself waits, once a round
        replays.append(is_replay)
        torch.cuda.set_sync_debug_mode("error" if is_replay else "default")
        try:
            return step(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(trainer.captured, "take", watched)
    trainer.train()
    assert sum(replays) > 15
