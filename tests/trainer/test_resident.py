"""Samples that lie on the device: chosen by its memory or the user, and the run is the same to the bit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from host_reads import host_reads

from hf_lotus import LoTUS
from hf_lotus.data.images import ReadyImages
from hf_lotus.methods.rounds import Streams
from hf_lotus.trainer.resident import ResidentRound, may_reside
from hf_lotus.trainer.round_data import draw_round
from tests.support.every_method import EVERY_METHOD, SaveAt, build
from tests.support.method_helpers import equal, weights

AUGMENTED = {"horizontal_flip": True, "crop_padding": 2}
RUNS = {
    "lotus": AUGMENTED,
    "scrub": {"gradient_accumulation_steps": 2},
    "rum of others": {},
}


@pytest.fixture
def samples(parts, processor):
    forget, retain = (ReadyImages(parts[name], processor) for name in ("forget", "retain"))
    return draw_round(Streams(forget=True, retain_fraction=0.5), forget, retain, seed=3)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_ends_with_the_same_weights(tmp_path, name):
    ends = []
    for on_device in (True, False):
        trainer = build(tmp_path / str(on_device), EVERY_METHOD[name], keep_on_device=on_device, **RUNS[name])
        made, make = [], trainer.get_train_dataloader

        def watched(trainer=trainer, made=made, make=make):
            loader = make()
            made.append(trainer._resident is not None)
            return loader

        trainer.get_train_dataloader = watched
        trainer.train()
        assert made == [on_device] and trainer._resident is None
        ends.append((weights(trainer.model), trainer.state.total_flos))
    assert equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1] > 0  # what the loader gives is not what the model is shown


def test_a_run_that_is_resumed_within_a_round_too(tmp_path):
    method = LoTUS(stop_margin=2.0)
    whole = build(tmp_path / "whole", method, keep_on_device=False, **AUGMENTED)
    whole.train()
    settings = {"keep_on_device": True, "save_strategy": "steps", "save_steps": 1000, **AUGMENTED}
    broken = build(tmp_path / "broken", method, callbacks=[SaveAt(5)], **settings)
    broken.train()
    again = build(tmp_path / "broken", method, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "broken" / "checkpoint-5"))
    assert equal(weights(whole.model), weights(again.model))


def test_a_batch_is_gathered_as_it_would_be_read_and_nobody_waits(samples):
    resident = ResidentRound(samples, torch.device("cpu"))
    positions = [3, 70, len(samples) + 4, 0, len(samples) - 1]
    given = resident.__getitems__(positions)
    assert list(given) == ["position"] and len(resident) == len(samples)
    with host_reads() as found:
        batch = resident.batch(given["position"])
    expected = samples.__getitems__(positions)
    assert not found and batch.keys() == expected.keys()
    assert all(
        torch.equal(batch[name], values) and batch[name].dtype == values.dtype for name, values in expected.items()
    )


class TestWhetherTheyMay:
    def test_on_a_cpu_only_where_it_is_asked_for(self, samples):
        device = torch.device("cpu")
        assert not may_reside(samples, device) and may_reside(samples, device, True)
        assert not may_reside(samples, device, False)

    @pytest.mark.parametrize(("share", "may"), [(0.24, True), (0.26, False)])
    def test_on_a_gpu_by_what_is_free(self, samples, monkeypatch, share, may):
        size = len(samples) * samples.forget.row_bytes
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(size / share), 0))
        for held in ("memory_reserved", "memory_allocated"):
            monkeypatch.setattr(torch.cuda, held, lambda device: 0)
        assert may_reside(samples, torch.device("cuda")) is may

    def test_rows_of_several_sizes_never(self):
        plain = SimpleNamespace(forget=[1], retain=[2])
        assert not may_reside(plain, torch.device("cpu"), True)
