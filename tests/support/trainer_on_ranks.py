"""Run on each rank: many small runs in one launch; each rank saves what the tests compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from hf_lotus.methods import SSD, LoTUS, MarginMatching, SalUn
from tests.support.every_method import EVERY_METHOD, SHORT_SCRUB, SaveAt, build, options_of, ready_parts

# Half the batch of the one process that the tests compare with.
BATCH = 16


def save(folder: Path, name: str, tensors: dict, trainer) -> None:
    path = folder / f"{name}-{trainer.args.process_index}.safetensors"
    save_file({key: value.detach().clone().contiguous() for key, value in tensors.items()}, path)


def trained(folder: Path, name: str, trainer, **resume):
    trainer.train(**resume)
    save(folder, name, trainer.model.state_dict(), trainer)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    rounds = [entry for entry in trainer.state.log_history if "round" in entry]
    return {"ranks": trainer.args.world_size, "steps": trainer.state.global_step, "losses": losses, "rounds": rounds}


def main(folder: Path, names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    batch, out, records = {"per_device_train_batch_size": BATCH}, folder / "out", {}
    methods = {name: EVERY_METHOD[name] for name in names}
    for name, method in methods.items():
        if name == "scrub":
            method = replace(method, forget_batch_size=8)
        records[name] = trained(folder, name, build(out, method, options=options_of(name), **batch))

    half = {"per_device_train_batch_size": BATCH // 2, "gradient_accumulation_steps": 2}
    for name, method in methods.items():
        if name == "scrub":
            method = replace(method, forget_batch_size=4)
        run = build(out, method, options=options_of(name), **half)
        records[f"{name} accumulated"] = trained(folder, f"{name} accumulated", run)

    edited = build(out, SSD(alpha=1.0), **batch)
    records["ssd"] = trained(folder, "ssd", edited)
    save(folder, "mask", SalUn().mask(edited.run), edited)
    shown = edited.run.batches("retain", "forget")
    save(folder, "shown", {f"{number:02}": labels for number, (_, labels) in enumerate(shown)}, edited)
    save(folder, "example", edited.run.example("forget"), edited)

    # Within a max pass, within a min pass, and within the round that has no max pass any more.
    arguments = {**batch, "num_train_epochs": 3, "optim": "adamw_torch", "learning_rate": 1e-3}
    whole = build(folder / "resume", SHORT_SCRUB, callbacks=[SaveAt(1, 12, 18)], **arguments)
    records["whole"] = trained(folder, "whole", whole)
    for step in (1, 12, 18):
        again = build(folder / "resume", SHORT_SCRUB, **arguments)
        checkpoint = str(folder / "resume" / f"checkpoint-{step}")
        records[f"resumed {step}"] = trained(folder, f"resumed {step}", again, resume_from_checkpoint=checkpoint)

    choice = {"early_stopping_patience": 1, "save_strategy": "epoch", "num_train_epochs": 8, "learning_rate": 0.1}
    test = {"eval_dataset": ready_parts()["test"]}
    chosen = build(folder / "chosen", MarginMatching(), options=test, **batch, **choice)
    records["chosen"] = trained(folder, "chosen", chosen)
    gaps = [entry["eval_retrain_free_gap"] for entry in chosen.state.log_history if "eval_retrain_free_gap" in entry]
    records["chosen"] |= {"gaps": gaps, "left": chosen.evaluate()["eval_retrain_free_gap"]}

    measured = build(out, LoTUS(stop_margin=2.0), "resnet", **batch)
    measured.train()
    predictions = measured.student_predictions()
    if measured.is_world_process_zero():
        measured.save_model(str(folder / "model"))
        np.save(folder / "logits.npy", predictions["forget"].logits)
        (folder / "records.json").write_text(json.dumps(records))
    measured.end()
