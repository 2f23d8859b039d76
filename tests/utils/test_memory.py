"""What is kept on a device: by its free memory, or as the user says."""

from types import SimpleNamespace

import psutil
import pytest
import torch

from hf_lotus.utils.memory import fits, unused_bytes


def test_on_a_cpu_only_what_is_small():
    assert fits(1 << 26, torch.device("cpu")) and not fits((1 << 26) + 1, torch.device("cpu"))


def test_on_a_gpu_a_quarter_of_what_is_free_and_of_what_torch_holds_unused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (600, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    device = torch.device("cuda", 0)
    assert fits(200, device) and not fits(201, device)


@pytest.mark.parametrize("asked", [True, False])
def test_the_user_has_the_last_word(asked):
    for device in (torch.device("cpu"), torch.device("cuda")):
        assert fits(1, device, asked) is fits(1 << 40, device, asked) is asked


def test_a_device_that_does_not_tell_holds_nothing():
    assert not fits(1, torch.device("mps"))


def test_what_is_unused(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=900))
    assert unused_bytes(torch.device("cpu")) == 900 and unused_bytes(torch.device("cpu"), 4) == 225
    assert unused_bytes(torch.device("mps")) is None
    monkeypatch.setattr("hf_lotus.utils.memory.free_bytes", lambda device: 77)
    assert unused_bytes(torch.device("cuda"), 4) == 77
