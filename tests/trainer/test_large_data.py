"""More pixels than a set may hold in memory go through a file, and the process's own memory stays within its bound."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 2**20


@pytest.mark.exhaustive  # decodes more pictures than all other tests together
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process its memory")
def test_more_forget_rows_than_fit_in_memory_as_pixels(tmp_path):
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "tests.support.large_run", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ready"], "every picture was looked at"
    assert found["pixels"]["forget"] > found["allowed"] and sum(found["pixels"].values()) > 100 * MIB
    # What batches, the first import of plotting and the like take beside the pixels.
    assert found["more"] < found["allowed"] + 32 * MIB
