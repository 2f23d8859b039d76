"""What a process has cost, against what it is made to spend."""

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from hf_lotus.utils.cost import peak_memory, process_cost


def test_time_and_processor_time_grow_by_what_is_spent():
    before, spent = process_cost(), time.process_time()
    while time.process_time() < spent + 0.3:
        sum(range(1000))
    after = process_cost()
    assert after["cpu_seconds"] - before["cpu_seconds"] == pytest.approx(0.3, abs=0.25)
    assert after["seconds"] - before["seconds"] >= 0.1


def test_a_child_that_has_ended_counts():
    before = process_cost()["cpu_seconds"]
    work = "import time\nwhile time.process_time() < 0.5: sum(range(1000))"
    subprocess.run([sys.executable, "-S", "-c", work], check=True)
    assert process_cost()["cpu_seconds"] - before >= 0.35  # both are rounded to tenths


def test_the_peak_stays_after_the_memory_is_let_go():
    room = 400 << 20
    base = peak_memory()
    np.ones(room, dtype=np.uint8)  # touched, and gone again
    assert base <= peak_memory() and peak_memory() >= room


def test_a_gpu_is_told_of_only_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert process_cost().keys() == {"seconds", "cpu_seconds", "peak_memory_mib"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 << 20)
    assert process_cost()["device_peak_memory_mib"] == 3.0
