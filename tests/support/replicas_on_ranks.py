"""Run on each rank: methods that need the model whole, where FSDP2 or DeepSpeed was asked for, and by DDP."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch.nn.parallel import DistributedDataParallel

from hf_lotus import UnlearningTrainer
from hf_lotus.methods import SSD
from hf_lotus.trainer import replicas
from tests.support.every_method import arguments_of, build_with, options_of
from tests.support.killed_runs import METHODS
from tests.support.sharded_on_ranks import ADAM, Ranks, is_divided, launched_with, tell_of_gpus, use, whole

# One of each reason; those that train clip their gradients, which accelerate does another way where FSDP is asked for.
EDIT = SSD(alpha=1.0, lam=0.5)
RUNS = {
    "ssd": EDIT,
    "salun": METHODS["salun"],
    "unsir of samples": METHODS["unsir of samples"],
    "l1_sparse": METHODS["l1_sparse"],
    "munba": METHODS["munba"],
    "warm_restart of neggrad_plus": METHODS["warm_restart of neggrad_plus"],
}
ALL_ARGUMENTS = {"fsdp": True, "fsdp_config": {"version": 2, "cpu_ram_efficient_loading": False}}


def wrap_on_cpu() -> None:
    """DDP names a GPU's number, which there is none of."""
    begin = DistributedDataParallel.__init__

    def begun(self, module, device_ids=None, output_device=None, **kwargs):
        begin(self, module, **kwargs)

    DistributedDataParallel.__init__ = begun


def kept(ranks: Ranks, label: str, trainer) -> None:
    ranks.keep(label, whole(trainer.model), trainer)
    ranks.records[label] = {
        "kind": str(trainer.accelerator.distributed_type),
        "divided": is_divided(trainer.model),
        "ranks": trainer.args.world_size,
    }


def one_after_another(ranks: Ranks, folder: Path) -> None:
    """Runs of one process and of one set of arguments, as a comparison makes them."""
    args = arguments_of(folder / "several", **ADAM)
    for label, method in {
        "first divided": METHODS["finetune"],
        "ssd between": EDIT,
        "second divided": METHODS["finetune"],
    }.items():
        trainer = build_with(args.changed(output_dir=str(folder / label)), method)
        trainer.train()
        kept(ranks, label, trainer)


def asked_of_deepspeed(ranks: Ranks, folder: Path) -> UnlearningTrainer:
    """As a process group that DeepSpeed made looks to accelerate; it is not installed, and must not be asked for."""
    args = arguments_of(folder / "deepspeed", **ADAM)
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    PartialState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
    args.deepspeed_plugin = SimpleNamespace(zero_stage=2)
    trainer = build_with(args, METHODS["salun"])
    trainer.train()
    kept(ranks, "salun by deepspeed", trainer)
    return trainer


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    chosen = launched_with("fsdp2")
    tell_of_gpus()
    wrap_on_cpu()
    ranks, told = Ranks(folder), []
    replicas.logger.warning = told.append
    for label, variables in {"ddp": {}, "asked": chosen}.items():
        use(**variables)
        for name, method in RUNS.items():
            args = arguments_of(folder / "out", max_grad_norm=0.5, **ADAM)
            trainer = build_with(args, method, options=options_of(name) if name in METHODS else None)
            trainer.train()
            kept(ranks, f"{name} {label}", trainer)
    ranks.records["told"] = list(told)
    use(**chosen)
    one_after_another(ranks, folder)
    use()
    args = arguments_of(folder / "arguments", **ADAM, **ALL_ARGUMENTS)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    trainer = build_with(args, EDIT)
    trainer.train()
    kept(ranks, "ssd by arguments", trainer)
    use(**chosen)
    own, replicas.unused_bytes = replicas.unused_bytes, lambda *_: 1000 if trainer.args.process_index else 2**40
    ranks.refusal("ssd", EDIT)
    replicas.unused_bytes = lambda *_: None
    ranks.refusal("salun", METHODS["salun"])
    replicas.unused_bytes = own
    use()
    trainer = asked_of_deepspeed(ranks, folder)  # last: what a launcher says stays, but for here
    (folder / f"refused-{trainer.args.process_index}.json").write_text(json.dumps(ranks.records))
    if trainer.is_world_process_zero():
        (folder / "records.json").write_text(json.dumps(ranks.records))
    trainer.end()
