"""Run on each rank: methods divided over two ranks, by FSDP2 or by DeepSpeed, and whole on each.

accelerate divides nothing on a CPU and says nothing of it (it runs DDP). All that it looks at is the kind of device,
so it is told of GPUs; the process group is gloo's, the tensors are on the CPU, and all else is as with GPUs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from safetensors.torch import save_file
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from hf_lotus.cli.launch import config_files
from hf_lotus.methods import SSD, LoTUS, SalUn
from tests.conftest import divided as scans_divided
from tests.support.every_method import SaveAt, build, decisions, kept_scans, options_of
from tests.support.killed_runs import METHODS


def launched_with(name: str) -> dict[str, str]:
    """What `accelerate launch` tells its processes of dividing, with a configuration that is shipped."""
    given = ["--config_file", str(config_files()[name]), "--main_process_port", "0", "script.py"]
    arguments = _validate_launch_command(launch_command_parser().parse_args(given))[0]
    arguments.deepspeed_fields_from_accelerate_config = ""
    variables = prepare_deepspeed_cmd_env(arguments)[1] if "zero" in name else prepare_multi_gpu_env(arguments)
    ours = ("FSDP_", "ACCELERATE_USE_", "ACCELERATE_DEEPSPEED_", "ACCELERATE_GRADIENT_", "ACCELERATE_MIXED_")
    return {key: value for key, value in variables.items() if key.startswith(ours)}


KINDS = {"fsdp2": "fsdp2", "zero2": "deepspeed_zero2"}
ADAM = {"optim": "adamw_torch", "learning_rate": 1e-3, "per_device_train_batch_size": 16}
WHOLE = {"salun", "salun of lotus", "salun of margin matching", "unsir of classes", "unsir of samples"}
WHOLE |= {"warm_restart", "warm_restart of neggrad_plus", "l1_sparse", "munba", "salun of munba"}
WHOLE |= {"sfron", "sfron of a given mask", "sfron masked throughout"}
WHOLE |= {"warm_restart", "warm_restart of neggrad_plus", "rum", "rum of others"}


def tell_of_gpus() -> None:
    begin = PartialState.__init__

    def begun(self, cpu=False, **kwargs):
        kwargs.pop("timeout", None)
        begin(self, cpu=True, **kwargs)
        on_cpu = PartialState._shared_state.get("distributed_type") == DistributedType.MULTI_CPU
        if on_cpu and {"ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"} & os.environ.keys():
            PartialState._shared_state |= {
                "distributed_type": DistributedType.MULTI_GPU,
                "device": torch.device("cpu"),
            }

    PartialState.__init__ = begun


def use(**variables) -> None:
    for name in [name for name in os.environ if name.startswith(("FSDP_", "ACCELERATE_"))]:
        os.environ.pop(name)
    os.environ.update(variables)


def whole(model) -> dict:
    """The weights of a model, gathered."""
    state = model.state_dict()
    return {name: v.full_tensor() if isinstance(v, DTensor) else v.clone() for name, v in state.items()}


def is_divided(model) -> bool:
    """Whether every weight is, with about half of them on this rank."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    parameters = list(model.parameters())
    here = sum(p.to_local().numel() for p in parameters if isinstance(p, DTensor))
    share = here / sum(p.numel() for p in parameters)
    return all(isinstance(p, DTensor) for p in parameters) and 0.3 < share < 0.7


class Ranks:
    """Runs, and what each of them leaves."""

    def __init__(self, folder: Path):
        self.folder, self.records = folder, {}

    def run(self, label: str, method, family="vit", resume=None, out="out", **arguments):
        use_cpu = "ACCELERATE_USE_DEEPSPEED" not in os.environ  # with it, accelerate would leave DeepSpeed out
        trainer = build(self.folder / out, method, family, **{**ADAM, "use_cpu": use_cpu, **arguments})
        trainer.train(resume_from_checkpoint=resume)
        record = {"ranks": trainer.args.world_size, "kind": str(trainer.accelerator.distributed_type)}
        record |= {"divided": is_divided(trainer.model), "teacher divided": is_divided(trainer.teacher)}
        record |= {"decisions": decisions(trainer), "steps": trainer.state.global_step}
        self.records[label] = record
        self.keep(label, whole(trainer.model), trainer)
        return trainer

    def keep(self, label: str, weights: dict, trainer) -> None:
        # Every rank gathers the same.
        if trainer.is_world_process_zero():
            save_file({name: v.contiguous() for name, v in weights.items()}, self.folder / f"{label}.safetensors")

    def refusal(self, label: str, method, **arguments) -> None:
        try:
            build(self.folder / "refused", method, **{**ADAM, **arguments})
        except ValueError as error:
            self.records[f"refused {label}"] = str(error)


def refusals(ranks: Ranks, divided: dict[str, str]) -> None:
    use(**divided | {"FSDP_VERSION": "1", "FSDP_SYNC_MODULE_STATES": "false"})
    ranks.refusal("version 1", LoTUS())
    ranks.refusal("version 1 of what is to be whole", SalUn())
    use(**divided | {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"})
    ranks.refusal("first rank alone", LoTUS())
    ranks.refusal("first rank alone of what is to be whole", SSD())


def main(folder: Path, kind: str, methods: Sequence[str]) -> None:
    torch.set_num_threads(1)
    os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed itself can compute on one
    chosen = launched_with(KINDS[kind])
    tell_of_gpus()
    ranks, parts = Ranks(folder), scans_divided(kept_scans())
    for label, variables in {"whole": {}, "divided": chosen}.items():
        use(**variables)
        for name in methods:
            ranks.run(f"{name} {label}", METHODS[name], options=options_of(name))
        ranks.run(f"resnet {label}", METHODS["lotus"], "resnet")
        # 29 and 30 samples for the ranks to measure: one batch and two.
        fewer = {"forget_dataset": parts["forget"].select(range(59))}
        ranks.run(f"uneven {label}", METHODS["lotus"], options=fewer, per_device_eval_batch_size=29)
        # By SGD: the sum is rounded otherwise, which Adam makes much of where a gradient is all but zero.
        halves = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "optim": "sgd"}
        halves |= {"learning_rate": 0.05}
        ranks.run(f"accumulated {label}", METHODS["finetune"], **halves)

    if kind == "fsdp2":
        refusals(ranks, chosen)
    use(**chosen)
    lotus = METHODS["lotus"]
    ranks.run("uninterrupted", lotus, out="resume", callbacks=[SaveAt(6)])
    again = ranks.run("resumed", lotus, out="resume", resume=str(folder / "resume" / "checkpoint-6"))
    again.save_model(str(folder / "model"))
    predicted = again.student_predictions()
    assert len(predicted["forget"].labels) == 60

    best_of = {"load_best_model_at_end": True, "metric_for_best_model": "eval_forget_accuracy"}
    best_of |= {"greater_is_better": False, "eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 3}
    best = ranks.run("best", METHODS["finetune"], out="best", **best_of)
    ranks.records["best folder"] = best.state.best_model_checkpoint

    if best.is_world_process_zero():
        (folder / "records.json").write_text(json.dumps(ranks.records))
    best.end()
