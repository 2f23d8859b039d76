"""A run over the queue that is killed before anything it does, and begun again, ends as one that never was."""

import json
import os
import subprocess
import sys

import pytest

from hf_lotus import Salt
from hf_lotus.cli.main import main
from tests.support.kill_request_runs import DECISIVE

OPTIONS = ["--model_name_or_path", "model", "--dataset_name", "data", "--num_train_epochs", "1", "--stop_margin", "2"]
OPTIONS += ["--use_cpu", "True", "--disable_tqdm", "True", "--learning_rate", "1e-3"]
OPTIONS += ["--save_strategy", "steps", "--save_steps", "1", "--per_device_train_batch_size", "48"]


@pytest.mark.parametrize("every", [[], pytest.param(["--all"], marks=pytest.mark.exhaustive)])
def test_killed_before_anything_it_does_a_run_ends_in_the_same_state(tmp_path, monkeypatch, model_and_data, every):
    """No request is lost and none applied twice: weights, plans and figures are the same to the bit."""
    model_and_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for user, name in (("u3", "first"), ("u7", "second")):
        options = ["--forget_column", "user_id", "--forget_values", user, "--id", name, "--date", "2026-01-01"]
        assert main(["request", "add", *options]) == 0
    Salt.read_or_create("requests/salt")
    os.rename("requests", "given")
    script = [sys.executable, "-m", "tests.support.kill_request_runs", *every, "given", *OPTIONS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    killed = {end["killed"] for end in ends}
    assert {"training_step", *DECISIVE} <= killed
    assert len({end["state"] for end in ends}) == 1, [
        end["killed"] for end in ends if end["state"] != ends[0]["state"]
    ]
    # What stands for a kill is what a kill leaves: one of each kind was a real one, and left the same files.
    assert {end["killed"].split()[0] for end in ends if end["real"]} == {name.split()[0] for name in killed - {None}}
    assert all(end["left"] == end["copied"] for end in ends if end["real"])
