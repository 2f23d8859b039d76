"""Divided over two ranks, by FSDP2 or DeepSpeed, a model trains as a whole one does; what cannot is refused.

DeepSpeed is no dependency of the tests: its part is skipped where it is not installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType, is_deepspeed_available
from safetensors.torch import load_file
from transformers import ViTForImageClassification

from hf_lotus.methods import SSD, UNSIR, L1Sparse, LoTUS, MUNBa, SalUn, SFRon
from hf_lotus.trainer.sharding import check_launch, check_sharding, needs_whole
from tests.support.every_method import by_kind, run_by_kind
from tests.support.killed_runs import METHODS
from tests.support.method_helpers import equal
from tests.support.ranks import on_ranks
from tests.support.sharded_on_ranks import KINDS, WHOLE, main

DIVISIBLE = sorted(METHODS.keys() - WHOLE)
# Noise, a loop's state, rounds to go back to, a parallel set of samples, parameters begun anew; and none of these.
BY_KIND = {"lotus", "margin_matching", "scrub_r", "amun", "msg", "finetune"}
_MASKING, _ASKING = ("salun", "sfron", "rum"), ("unsir", "warm_restart")


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    if request.param == "zero2" and not is_deepspeed_available():
        pytest.skip("DeepSpeed is not installed")
    return request.param


@pytest.fixture(scope="module")
def ranks(kind, tmp_path_factory, pytestconfig):
    """The folder that two ranks, started once, have filled."""
    folder = tmp_path_factory.mktemp("ranks")
    on_ranks(main, folder, kind, run_by_kind(pytestconfig, DIVISIBLE, BY_KIND))
    return folder


@pytest.fixture(scope="module")
def records(ranks):
    return json.loads((ranks / "records.json").read_text())


def weights_of(folder, label):
    return load_file(folder / f"{label}.safetensors")


def assert_agree(given, expected):
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(given[name], value, rtol=1e-5, atol=1e-5)


def rounded(decisions):
    return [{k: round(v, 4) if isinstance(v, float) else v for k, v in entry.items()} for entry in decisions]


@pytest.mark.parametrize("name", [*by_kind(DIVISIBLE, BY_KIND), "resnet", "uneven", "accumulated"])
def test_a_divided_model_ends_as_a_whole_one_does(kind, ranks, records, name):
    divided, whole = (records[f"{name} {label}"] for label in ("divided", "whole"))
    assert divided["ranks"] == whole["ranks"] == 2
    assert divided["kind"] == {"fsdp2": "DistributedType.FSDP", "zero2": "DistributedType.DEEPSPEED"}[kind]
    # DeepSpeed's second stage divides gradients and optimizer states alone.
    assert divided["divided"] == divided["teacher divided"] == (kind == "fsdp2")
    assert not whole["divided"] and not whole["teacher divided"]
    assert divided["steps"] == whole["steps"] > 4
    assert rounded(divided["decisions"]) == rounded(whole["decisions"])
    assert_agree(weights_of(ranks, f"{name} divided"), weights_of(ranks, f"{name} whole"))


def test_a_divided_run_resumed_ends_with_the_same_bits(ranks, records):
    assert records["resumed"]["decisions"] == records["uninterrupted"]["decisions"]
    assert equal(weights_of(ranks, "resumed"), weights_of(ranks, "uninterrupted"))


def test_what_is_saved_is_the_whole_model_by_the_names_that_are_loaded(ranks):
    saved = ViTForImageClassification.from_pretrained(ranks / "model")
    assert equal(saved.state_dict(), weights_of(ranks, "resumed"))


def test_the_best_round_is_loaded_into_divided_weights(ranks, records):
    best = ViTForImageClassification.from_pretrained(records["best folder"])
    assert equal(best.state_dict(), weights_of(ranks, "best"))
    assert Path(records["best folder"]).name != "checkpoint-18"  # the last round's, which it would hold anyway


@pytest.mark.parametrize("of", ["", " of what is to be whole"])
@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("version 1", "fsdp_version is 1, whose flattened weights"),
        ("first rank alone", "fsdp_cpu_ram_efficient_loading loads the weights on the first rank alone"),
    ],
)
@pytest.mark.parametrize("kind", ["fsdp2"], indirect=True)
def test_refused_before_anything_is_trained(kind, records, label, message, of):
    assert message in records[f"refused {label}{of}"]


class TestWhichMethodsNeedAllWeights:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            *[(name, "it holds single weights still") for name in sorted(WHOLE) if name.startswith(_MASKING)],
            *[
                (name, "it asks the student while a batch is made")
                for name in sorted(WHOLE)
                if name.startswith(_ASKING)
            ],
            ("l1_sparse", "it sums up all weights in its loss. Run it with the whole"),
            ("munba", "it weighs the whole gradients of both sides. Run it with the whole"),
            ("ssd", "it edits the weights of the whole model. Run it with the whole model"),
        ],
    )
    def test_and_why(self, name, message):
        plugin = SimpleNamespace(fsdp_version=2, cpu_ram_efficient_loading=False)
        state = SimpleNamespace(fsdp_plugin=plugin)
        divided = SimpleNamespace(distributed_type=DistributedType.FSDP, state=state)
        with pytest.raises(ValueError, match=f"does not go with FSDP: {message}"):
            check_sharding(divided, {**METHODS, "ssd": SSD()}[name])
        assert needs_whole({**METHODS, "ssd": SSD()}[name])

    def test_no_other_does(self):
        assert not [name for name in DIVISIBLE if needs_whole(METHODS[name])]


def deepspeed(stage=2, precision="no"):
    plugin = SimpleNamespace(zero_stage=stage)
    state = SimpleNamespace(deepspeed_plugin=plugin)
    return SimpleNamespace(distributed_type=DistributedType.DEEPSPEED, state=state, mixed_precision=precision)


class TestWhatDeepSpeedIsRefused:
    def test_gradient_methods_pass(self):
        check_sharding(deepspeed(), LoTUS())
        check_sharding(deepspeed(stage=1), METHODS["scrub_r"])

    @pytest.mark.parametrize(
        ("accelerator", "method", "message"),
        [
            (deepspeed(stage=3), LoTUS(), "zero_stage is 3.*no copy of the original can be taken. Use stage 2"),
            (deepspeed(precision="bf16"), LoTUS(), "mixed_precision='bf16'.*steps round away. Use mixed_precision"),
            (deepspeed(), SSD(), "ssd does not go with DeepSpeed: it edits"),
            (deepspeed(), SalUn(), "salun does not go with DeepSpeed: it holds single weights still"),
            (deepspeed(), UNSIR(), "unsir does not go with DeepSpeed"),
            (deepspeed(), SFRon(), "sfron does not go with DeepSpeed: it holds single weights still"),
            (deepspeed(), MUNBa(), "munba does not go with DeepSpeed: it weighs the whole gradients of both sides"),
            (deepspeed(), L1Sparse(), "l1_sparse does not go with DeepSpeed: it sums up all weights in its loss"),
        ],
    )
    def test_refused(self, accelerator, method, message):
        with pytest.raises(ValueError, match=message):
            check_sharding(accelerator, method)


def test_whole_weights_are_nobodys_business():
    for kind in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        check_sharding(SimpleNamespace(distributed_type=kind), SSD())


def test_processes_that_do_not_know_of_each_other(monkeypatch):
    """Started together on a machine without GPUs, without use_cpu, each takes itself for the only one."""
    check_launch(1)
    monkeypatch.setenv("WORLD_SIZE", "2")  # a cluster's, of other processes
    check_launch(1)
    monkeypatch.setenv("LOCAL_RANK", "0")
    check_launch(2)
    with pytest.raises(ValueError, match="2 processes were started, and each would run alone.*give use_cpu=True"):
        check_launch(1)
