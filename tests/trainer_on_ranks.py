"""Run by torchrun on each rank: train a tiny model on uneven data; the first rank saves what the test compares."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from hf_lotus import Finetune, LoTUS, UnlearningArguments, UnlearningTrainer
from tests.conftest import SIZE, TINY_MODELS, ViTImageProcessorPil, divided, scans


def main(folder: Path, family: str, method: str, batch_size: int, accumulation: int) -> None:
    torch.manual_seed(0)
    parts = divided(scans())
    trainer = UnlearningTrainer(
        TINY_MODELS[family](),
        UnlearningArguments(
            str(folder / "out"), use_cpu=True, disable_tqdm=True, save_strategy="no", seed=1, num_train_epochs=2,
            per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation, learning_rate=0.05,
            optim="sgd",
        ),
        {"finetune": Finetune(), "lotus": LoTUS(stop_margin=2.0)}[method],
        forget_dataset=parts["forget"],
        retain_dataset=parts["retain"],
        unseen_dataset=parts["unseen"],
        processing_class=ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}),
    )  # fmt: skip
    trainer.train()
    predictions = trainer.student_predictions()
    if trainer.is_world_process_zero():
        trainer.save_model(str(folder / "model"))
        np.save(folder / "logits.npy", predictions["forget"].logits)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        record = {"ranks": trainer.args.world_size, "steps": trainer.state.global_step, "losses": losses}
        (folder / "record.json").write_text(json.dumps(record))
    trainer.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
