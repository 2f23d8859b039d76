"""Runs in processes of their own, which are killed in the middle of a step, or of a checkpoint, and begun again.

Each is a fresh process within milliseconds (`ranks`).
Also a script, for torchrun: `-m tests.support.killed_runs JOB`, the job as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed
from safetensors.torch import load_file, save_file

from tests.support.every_method import EVERY_METHOD, SHORT_SCRUB, build, decisions, kept_scans, options_of
from tests.support.ranks import started

METHODS = {**EVERY_METHOD, "scrub_r": replace(SHORT_SCRUB, rewind=True)}
ARGUMENTS = {"optim": "adamw_torch", "learning_rate": 1e-3, "weight_decay": 5e-4, "lr_scheduler_type": "cosine"}
ARGUMENTS |= {"save_strategy": "steps", "save_total_limit": 1}
# A process that has been killed by itself, or by another.
KILLED = -signal.SIGKILL

kept_scans()


@dataclass(frozen=True)
class Job:
    """A run: where, of what, on how many ranks; and where it is to be killed, if at all.

    `die` is "step" (within the step after the next one after the checkpoint), "save" (while the second checkpoint is
    written) or "wait" (as "step", but from outside: it waits for it).
    """

    folder: str
    method: str
    family: str = "vit"
    ranks: int = 1
    die: str = ""

    @property
    def resumes(self) -> bool:
        return any(Path(self.folder).glob("checkpoint-*"))


def work(job: Job) -> None:
    """Train, from the last checkpoint where there is one, and leave weights and decisions in the folder."""
    torch.set_num_threads(1)
    batch = 32 // job.ranks
    method = METHODS[job.method]
    if hasattr(method, "forget_batch_size"):
        method = replace(method, forget_batch_size=method.forget_batch_size // job.ranks)
    folder = Path(job.folder)
    options = options_of(job.method)
    trainer = build(folder, method, job.family, options=options, per_device_train_batch_size=batch, **ARGUMENTS)
    assert trainer.args.world_size == job.ranks
    if job.ranks > 1:
        assert torch.distributed.get_world_size() == job.ranks
    trainer.get_train_dataloader()
    # A checkpoint within the second round, and one before for those that die while they write that one.
    within = trainer.sampler.first_step(1) + 1
    trainer.args.save_steps = within // 2 if job.die == "save" else within
    if job.die:
        _die(trainer, job.die, within)
    trainer.train(resume_from_checkpoint=job.resumes)
    rank = trainer.args.process_index
    save_file({k: v.contiguous() for k, v in trainer.model.state_dict().items()}, folder / f"ended-{rank}.safetensors")
    told = {"decisions": decisions(trainer), "steps": trainer.state.global_step, "seconds": trainer.unlearning_seconds}
    (folder / f"ended-{rank}.json").write_text(json.dumps(told))
    trainer.end()


def _die(trainer, where: str, within: int) -> None:
    if where == "save":
        save = trainer._save_optimizer_and_scheduler

        def half_saved(output_dir):
            if trainer.state.global_step >= 2 * (within // 2):
                os.kill(os.getpid(), signal.SIGKILL)
            save(output_dir)

        trainer._save_optimizer_and_scheduler = half_saved
        return
    compute = trainer.compute_loss

    def computed(*args, **kwargs):
        loss = compute(*args, **kwargs)
        # The last rank alone, as on a machine that fails; the others are killed from outside.
        if trainer.state.global_step == within + 1 and trainer.args.process_index == trainer.args.world_size - 1:
            if where == "wait":
                (Path(trainer.args.output_dir) / "waiting").touch()
                time.sleep(300)
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    trainer.compute_loss = computed


def run(*jobs: Job) -> list[list[int]]:
    """Run jobs beside each other, until they end or are killed; the ranks' exit codes, the last rank's first."""
    codes = []
    for job, processes in [(job, started(work, job, ranks=job.ranks)) for job in jobs]:
        codes.append([])
        for process in reversed(processes):
            if job.die and codes[-1]:
                process.kill()  # its peer is dead
            process.join(120)
            codes[-1].append(process.exitcode)
    return codes


def ended(job: Job) -> list[tuple[dict, dict]]:
    """What each rank has left: its weights, and what it tells."""
    paths = [Path(job.folder) / f"ended-{rank}" for rank in range(job.ranks)]
    return [(load_file(f"{path}.safetensors"), json.loads(Path(f"{path}.json").read_text())) for path in paths]


def described(job: Job) -> str:
    return json.dumps(asdict(job))


if __name__ == "__main__":
    work(Job(**json.loads(sys.argv[1])))
