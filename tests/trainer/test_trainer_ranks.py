"""Two real ranks on data that does not divide by them give what one process gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import ResNetForImageClassification

from hf_lotus.data.images import ReadyImages
from hf_lotus.evaluation.predictions import predict
from hf_lotus.methods import SSD, SalUn
from tests.support.every_method import EVERY_METHOD, KINDS, NOISY, build, by_kind, options_of, run_by_kind
from tests.support.method_helpers import equal
from tests.support.ranks import on_ranks
from tests.support.trainer_on_ranks import BATCH, main

BY_KIND = KINDS | {"finetune"}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, pytestconfig):
    """The folder that two ranks, started once, have filled."""
    folder = tmp_path_factory.mktemp("ranks")
    on_ranks(main, folder, run_by_kind(pytestconfig, EVERY_METHOD, BY_KIND))
    return folder


@pytest.fixture(scope="module")
def records(ranks):
    return json.loads((ranks / "records.json").read_text())


def of_ranks(folder, name):
    return [load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1)]


def assert_agree(given, expected):
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(given[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", by_kind(EVERY_METHOD, BY_KIND))
def test_every_method_ends_with_the_same_weights_on_both_ranks(ranks, records, tmp_path, name):
    for run in (name, f"{name} accumulated"):
        assert equal(*of_ranks(ranks, run))
    first, second = of_ranks(ranks, name)
    assert records[name]["ranks"] == 2 and records[name]["steps"] > 4
    assert all(torch.isfinite(value).all() for value in first.values())
    original = build(tmp_path, EVERY_METHOD[name], options=options_of(name)).model.state_dict()
    assert max((value - original[key]).abs().max() for key, value in first.items()) > 1e-3


# Of two weights on the edge of SalUn's mask rounding may choose either: it is compared on its own. SFRon's depends on
# the batch size.
MASKED = {"salun", "salun of margin matching", "salun of munba", "sfron", "rum"}


@pytest.mark.parametrize("name", by_kind(sorted({*EVERY_METHOD} - NOISY - MASKED), BY_KIND))
def test_two_ranks_train_as_one_process_with_twice_the_batch(ranks, records, tmp_path, name):
    """Tails are uneven, and samples that fill them up must not count."""
    alone = build(tmp_path, EVERY_METHOD[name], options=options_of(name), per_device_train_batch_size=2 * BATCH)
    alone.train()
    for run in (name, f"{name} accumulated"):
        assert records[run]["steps"] == alone.state.global_step
        losses = [entry["loss"] for entry in alone.state.log_history if "loss" in entry]
        assert records[run]["losses"] == pytest.approx(losses, rel=1e-4, abs=1e-6)
        assert_agree(of_ranks(ranks, run)[0], alone.model.state_dict())


class TestOneProcessWithTheSameBatch:
    @pytest.fixture
    def alone(self, tmp_path):
        return build(tmp_path, SSD(alpha=1.0), per_device_train_batch_size=BATCH)

    def test_ssd_edits_the_same_weights_alike(self, ranks, alone):
        alone.train()
        first, second = of_ranks(ranks, "ssd")
        assert equal(first, second)
        assert_agree(first, alone.model.state_dict())

    def test_the_mask_of_salun_is_the_same(self, ranks, alone):
        first, second = of_ranks(ranks, "mask")
        assert equal(first, second)
        mask = SalUn().mask(alone.run)
        total = sum(value.numel() for value in mask.values())
        assert sum(int(value.sum()) for value in first.values()) == round(total / 2)
        # The sum over ranks is rounded otherwise: of two weights on the edge the other one may be chosen.
        assert sum(int((value != mask[name]).sum()) for name, value in first.items()) <= 2

    def test_the_batches_are_dealt_out_in_turn_and_the_example_is_shared(self, ranks, alone):
        shared = of_ranks(ranks, "shown")
        whole = [labels.tolist() for _, labels in alone.run.batches("retain", "forget")]
        dealt = [[labels.tolist() for _, labels in sorted(mine.items())] for mine in shared]
        assert dealt == [whole[0::2], whole[1::2]] and len(whole) == 15
        first, second = of_ranks(ranks, "example")
        assert equal(first, second)
        assert torch.equal(first["pixel_values"], alone.run.example("forget")["pixel_values"])


@pytest.mark.parametrize("step", [1, 12, 18])
def test_scrub_resumed_on_two_ranks_ends_with_the_same_bits(ranks, records, step):
    # 60 forget samples in steps of 32 and 180 retain samples likewise: rounds of 2 + 6, 2 + 6 and 6 steps.
    assert records["whole"]["steps"] == records[f"resumed {step}"]["steps"] == 8 + 8 + 6
    for whole, resumed in zip(of_ranks(ranks, "whole"), of_ranks(ranks, f"resumed {step}"), strict=True):
        assert equal(whole, resumed)
    assert records["whole"]["rounds"] == records[f"resumed {step}"]["rounds"]


def test_both_ranks_stop_after_the_same_round_and_end_with_the_best(ranks, records):
    record = records["chosen"]
    best = record["gaps"].index(min(record["gaps"]))
    assert len(record["gaps"]) == min(best + 2, 8)
    assert record["left"] == pytest.approx(min(record["gaps"]), abs=1e-12)
    assert equal(*of_ranks(ranks, "chosen"))


def test_what_is_measured_on_two_ranks_is_the_model_that_is_saved(ranks, parts, processor):
    """Each rank's BatchNorm has statistics of its own, and only the first rank's are saved."""
    saved = ResNetForImageClassification.from_pretrained(ranks / "model")
    expected = predict(saved, ReadyImages(parts["forget"], processor), progress=False)
    np.testing.assert_allclose(np.load(ranks / "logits.npy"), expected.logits, rtol=1e-5, atol=1e-6)
