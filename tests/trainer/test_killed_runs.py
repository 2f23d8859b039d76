"""A run that is killed, with SIGKILL and in the middle of a round, goes on to the bits of one that never was."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from hf_lotus.trainer.checkpoints import read_mark
from tests.support.every_method import KINDS, by_kind
from tests.support.killed_runs import KILLED, METHODS, Job, described, ended, run, work
from tests.support.method_helpers import equal
from tests.support.ranks import started

ROOT = Path(__file__).parents[2]


def assert_goes_on_to_the_same_end(job, die="step"):
    """Against a run that nothing happens to."""
    whole, broken = replace(job, folder=f"{job.folder}/whole"), replace(job, folder=f"{job.folder}/broken")
    killed, finished = run(replace(broken, die=die), whole)
    assert killed[0] == KILLED and 0 not in killed and finished == [0] * job.ranks
    assert not (Path(broken.folder) / "ended-0.json").exists()
    marks = [read_mark(path) for path in Path(broken.folder).glob("checkpoint-*/")]
    assert run(broken) == [[0] * job.ranks]
    assert_equal_ends(whole, broken)
    # The seconds before the checkpoint count, as well as those after.
    assert ended(broken)[0][1]["seconds"] > min(mark["seconds"] for mark in marks) > 0


def assert_equal_ends(whole, broken):
    for (expected, told), (weights, again) in zip(ended(whole), ended(broken), strict=True):
        assert equal(weights, expected)
        assert again["decisions"] == told["decisions"] and again["steps"] == told["steps"]


# That every method is resumed to the bit is shown without kills. What goes back to a round stands for what does not.
BY_KIND = by_kind((name for name in METHODS if name != "scrub"), KINDS | {"scrub_r"})

# Two ranks have all that one has, and each other besides.
ALONE = by_kind(METHODS, {"lotus", "scrub_r", "rum"})


def test_the_kinds_are_methods():
    assert KINDS <= METHODS.keys()


@pytest.mark.parametrize("family", ["vit", pytest.param("resnet", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("name", ALONE)
def test_every_method_killed_in_the_middle_of_a_round(tmp_path, name, family):
    assert_goes_on_to_the_same_end(Job(str(tmp_path), name, family))


@pytest.mark.parametrize("name", BY_KIND)
def test_every_method_with_one_of_two_ranks_killed(tmp_path, name):
    assert_goes_on_to_the_same_end(Job(str(tmp_path), name, ranks=2))


@pytest.mark.parametrize("name", ["lotus", "scrub_r"])
def test_a_resnet_with_one_of_two_ranks_killed(tmp_path, name):
    """Each rank's BatchNorm has statistics of its own, of which a checkpoint has the first's."""
    assert_goes_on_to_the_same_end(Job(str(tmp_path), name, "resnet", ranks=2))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_checkpoint_that_was_being_written_is_passed_over(tmp_path, ranks):
    assert_goes_on_to_the_same_end(Job(str(tmp_path), "lotus", ranks=ranks), die="save")


def wait_for(path, alive):
    while not path.exists():
        assert alive()
        time.sleep(0.05)


def test_all_ranks_killed_from_outside(tmp_path):
    whole, broken = (Job(str(tmp_path / name), "salun of lotus", ranks=2) for name in ("whole", "broken"))
    processes = started(work, replace(broken, die="wait"), ranks=2)
    assert run(whole) == [[0, 0]]
    wait_for(tmp_path / "broken" / "waiting", lambda: all(process.is_alive() for process in processes))
    for process in processes:
        process.kill()
        process.join()
    assert broken.resumes
    assert run(broken) == [[0, 0]]
    assert_equal_ends(whole, broken)


def launch(job):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(job.ranks)]
    command += ["-m", "tests.support.killed_runs", described(job)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return psutil.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


@pytest.mark.exhaustive  # four processes that import all, for what the launcher alone adds
def test_torchrun_killed_from_outside_with_all_its_ranks(tmp_path):
    whole, broken = (Job(str(tmp_path / name), "salun of lotus", ranks=2) for name in ("whole", "broken"))
    first = launch(replace(broken, die="wait"))
    assert run(whole) == [[0, 0]]
    wait_for(tmp_path / "broken" / "waiting", lambda: first.poll() is None)
    for process in [*first.children(recursive=True), first]:
        process.kill()
    first.communicate()
    assert first.returncode == KILLED
    assert broken.resumes
    second = launch(broken)
    _, errors = second.communicate(timeout=200)
    assert second.returncode == 0, errors.decode()[-3000:]
    assert_equal_ends(whole, broken)
