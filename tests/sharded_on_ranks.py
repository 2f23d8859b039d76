"""Run by torchrun on each rank: every method with its weights divided over two ranks by FSDP2, and whole on each.

accelerate divides nothing on a CPU and says nothing of it (it runs DDP). All that it looks at is the kind of device,
so it is told of GPUs; the process group is gloo's, the tensors are on the CPU, and all else is as with GPUs.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from hf_lotus.methods import SSD, LoTUS

from .conftest import divided as scans_divided
from .every_method import SaveAt, build, decisions, kept_scans, options_of
from .killed_runs import METHODS

DIVIDED = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
DIVIDED |= {"FSDP_CPU_RAM_EFFICIENT_LOADING": "false", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP"}
DIVIDED |= {"FSDP_RESHARD_AFTER_FORWARD": "true"}
ADAM = {"optim": "adamw_torch", "learning_rate": 1e-3, "per_device_train_batch_size": 16}
REFUSED = {"salun", "salun of lotus", "salun of margin matching", "unsir of classes", "unsir of samples"}


def tell_of_gpus() -> None:
    begin = PartialState.__init__

    def begun(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        on_cpu = PartialState._shared_state.get("distributed_type") == DistributedType.MULTI_CPU
        if on_cpu and "ACCELERATE_USE_FSDP" in os.environ:
            PartialState._shared_state |= {
                "distributed_type": DistributedType.MULTI_GPU,
                "device": torch.device("cpu"),
            }

    PartialState.__init__ = begun


def use(**variables) -> None:
    for name in DIVIDED:
        os.environ.pop(name, None)
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
        trainer = build(self.folder / out, method, family, **{**ADAM, **arguments})
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


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    tell_of_gpus()
    ranks, parts = Ranks(folder), scans_divided(kept_scans())
    for kind, variables in {"whole": {}, "divided": DIVIDED}.items():
        use(**variables)
        for name in sorted(METHODS.keys() - REFUSED):  # on both ranks in one order
            ranks.run(f"{name} {kind}", METHODS[name])
        ranks.run(f"resnet {kind}", METHODS["lotus"], "resnet")
        # 29 and 30 samples for the ranks to measure: one batch and two.
        fewer = {"forget_dataset": parts["forget"].select(range(59))}
        ranks.run(f"uneven {kind}", METHODS["lotus"], options=fewer, per_device_eval_batch_size=29)

    use(**DIVIDED)
    for name in sorted(REFUSED):
        ranks.refusal(name, METHODS[name], options=options_of(name))
    ranks.refusal("ssd", SSD())
    use(**DIVIDED | {"FSDP_VERSION": "1"})
    ranks.refusal("version 1", LoTUS())
    use(**DIVIDED | {"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"})
    ranks.refusal("first rank alone", LoTUS())

    use(**DIVIDED)
    lotus = METHODS["lotus"]
    ranks.run("uninterrupted", lotus, out="resume", callbacks=[SaveAt(6)])
    again = ranks.run("resumed", lotus, out="resume", resume=str(folder / "resume" / "checkpoint-6"))
    again.save_model(str(folder / "model"))
    predicted = again.student_predictions()
    assert len(predicted["forget"].labels) == 60

    chosen = {"load_best_model_at_end": True, "metric_for_best_model": "eval_forget_accuracy"}
    chosen |= {"greater_is_better": False, "eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 3}
    best = ranks.run("best", METHODS["finetune"], out="best", **chosen)
    ranks.records["best folder"] = best.state.best_model_checkpoint

    if best.is_world_process_zero():
        (folder / "records.json").write_text(json.dumps(ranks.records))
    best.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
