"""The rows of `make benchmark` that this suite can make small: they count and compare what they say."""

import decoding
import pytest
import steps
from tasks import Task

from hf_lotus import LoTUS
from tests.conftest import TINY_MODELS, divided, scans


@pytest.fixture
def task(processor):
    return Task(TINY_MODELS["resnet"](), processor, divided(scans()))


def test_waiting_is_counted_by_step(task, capsys, monkeypatch):
    steps.waiting(task)
    # 60 samples to forget and 54 retained ones are one batch.
    told = capsys.readouterr().out.splitlines()
    assert told[-1] == "waiting:     0 synchronisations with the device in each of 1 steps"
    loss = LoTUS.loss

    def asking(self, inputs):
        assert inputs.logits.sum().item() == inputs.logits.sum().item()
        return loss(self, inputs)

    monkeypatch.setattr(LoTUS, "loss", asking)
    steps.waiting(task)
    told = capsys.readouterr().out.splitlines()
    assert told[-2].startswith("waiting:     2 synchronisations")
    assert told[-1].strip().startswith("2 times _local_scalar_dense at") and "test_rows.py" in told[-1]


def test_bfloat16_is_left_out_where_it_is_emulated(task, capsys, monkeypatch):
    monkeypatch.setattr(steps, "computes_in_bfloat16", lambda: False)
    steps.in_bfloat16(task, 1, 1)
    assert "left out: this machine would emulate it" in capsys.readouterr().out


def test_decoding_by_three_ways_is_compared(capsys):
    data = decoding.photographs(6)
    assert len(set(data.data["image"].combine_chunks().field("bytes").to_pylist())) == 6
    decoding.measure("JPEG", data, 32, 1)
    cells = [cell.strip() for cell in capsys.readouterr().out.strip().strip("|").split("|")]
    assert cells[:2] == ["JPEG", "6"] and len(cells) == 7 and all(float(cell) > 0 for cell in cells[2:])
