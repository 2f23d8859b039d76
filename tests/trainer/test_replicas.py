"""What cannot be divided has the model whole on each device, where it fits, and ends as by DDP."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hf_lotus import UnlearningArguments
from hf_lotus.methods import SSD, Finetune
from hf_lotus.trainer.replicas import whole_bytes
from tests.support.method_helpers import equal
from tests.support.ranks import on_ranks
from tests.support.replicas_on_ranks import RUNS, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("replicas")
    on_ranks(main, path)
    return path


@pytest.fixture(scope="module")
def records(folder):
    return json.loads((folder / "records.json").read_text())


def weights_of(folder, label):
    return load_file(folder / f"{label}.safetensors")


@pytest.mark.parametrize("name", RUNS)
def test_the_weights_are_those_of_ddp_to_the_bit(folder, records, name):
    for label in ("ddp", "asked"):
        assert records[f"{name} {label}"]["ranks"] == 2 and not records[f"{name} {label}"]["divided"]
    assert records[f"{name} asked"]["kind"] == "DistributedType.MULTI_GPU"
    assert equal(weights_of(folder, f"{name} ddp"), weights_of(folder, f"{name} asked"))


def test_which_are_six_different_models(folder):
    values = [torch.cat([value.flatten() for value in weights_of(folder, f"{name} ddp").values()]) for name in RUNS]
    assert all((a - b).abs().max() > 1e-4 for place, a in enumerate(values) for b in values[:place])


def test_it_is_told_once_a_run_and_why(records):
    told = records["told"]
    assert len(told) == len(RUNS)
    assert told[0].startswith(
        "ssd does not go with FSDP: it edits the weights of the whole model. In its place every device has the model "
        "whole, as by --accelerate_config ddp: about "
    )


def test_runs_of_one_process_do_not_take_each_others_way(folder, records):
    first, between, second = (records[label] for label in ("first divided", "ssd between", "second divided"))
    assert first == second == {"kind": "DistributedType.FSDP", "divided": True, "ranks": 2}
    assert not between["divided"] and equal(weights_of(folder, "first divided"), weights_of(folder, "second divided"))


def test_what_the_training_arguments_ask_for(folder, records):
    assert records["ssd by arguments"]["kind"] == "DistributedType.MULTI_GPU"
    assert equal(weights_of(folder, "ssd by arguments"), weights_of(folder, "ssd ddp"))


def test_what_deepspeed_was_asked_for(folder, records):
    assert records["salun by deepspeed"]["kind"] == "DistributedType.MULTI_GPU"
    assert not equal(weights_of(folder, "salun by deepspeed"), weights_of(folder, "ssd ddp"))


def test_where_it_does_not_fit_every_rank_refuses(folder):
    """One of them has too little memory."""
    for rank in (0, 1):
        told = json.loads((folder / f"refused-{rank}.json").read_text())
        assert told["refused ssd"].startswith("ssd does not go with FSDP: it edits the weights of the whole model.")
        assert "GiB are unused. Take a method that can be divided (lotus," in told["refused ssd"]
        assert "If you know that it fits: --accelerate_config ddp" in told["refused ssd"]
        assert "nothing tells how much is unused" in told["refused salun"]


@pytest.mark.parametrize(
    ("method", "optim", "times"),
    # Student, original, gradients, their sums; what is kept of each trained value.
    [(Finetune(), "adamw_torch", 6), (Finetune(), "sgd", 5), (SSD(), "sgd", 6)],
)
def test_the_estimate(tmp_path, method, optim, times):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    trained, buffers = 4 * (12 + 4 + 4 + 4), 4 * (4 + 4) + 8
    args = UnlearningArguments(str(tmp_path), optim=optim, use_cpu=True)
    assert whole_bytes(model, args, method) == times * trained + 2 * buffers
    model[0].requires_grad_(False)
    assert whole_bytes(model, args, method) == times * 32 + 2 * (4 * 16 + buffers)
