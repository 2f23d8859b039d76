"""`--gradient_checkpointing` saves memory and nothing else: the same weights, and the teacher computes as ever."""

from dataclasses import fields

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from hf_lotus import LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.methods import MarginMatching, SalUn, WarmRestart
from tests.support import tiny_text
from tests.support.method_helpers import weights

# Its name from transformers 5.23 on, and before.
CHECKPOINTING = "activation_checkpointing"
if CHECKPOINTING not in {field.name for field in fields(UnlearningArguments)}:
    CHECKPOINTING = "gradient_checkpointing"
PARTS = tiny_text.divided(tiny_text.texts())


def trained(folder, method, checkpoint, **arguments):
    """A tiny BERT with dropout, unlearned in two steps a round; and how often each model's layers ran in training."""
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 64, "learning_rate": 1e-3, "seed": 1}
    settings |= {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "output_dir": str(folder)} | arguments
    sets = {f"{name}_dataset": PARTS[name] for name in ("forget", "retain", "unseen")}
    trainer = UnlearningTrainer(
        tiny_text.tiny_bert(), UnlearningArguments(**{CHECKPOINTING: checkpoint}, **settings), method, **sets,
        processing_class=tiny_text.tokenizer(),
    )  # fmt: skip
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (LoTUS(stop_margin=2.0), {"keep_teacher_logits": False}),
        (SalUn(), {}),
        (WarmRestart(inner=MarginMatching(), restart_rounds=1), {}),
    ],
    ids=["lotus", "salun", "warm_restart"],
)
def test_weights_are_the_same_and_the_teacher_does_not_checkpoint(tmp_path, monkeypatch, method, arguments):
    checkpointed = set()
    original = GradientCheckpointingLayer.__call__

    def call(layer, *args, **kwargs):
        if layer.gradient_checkpointing and layer.training:
            checkpointed.add(layer)
        return original(layer, *args, **kwargs)

    monkeypatch.setattr(GradientCheckpointingLayer, "__call__", call)
    plain = trained(tmp_path / "plain", method, False, **arguments)
    assert not checkpointed
    saving = trained(tmp_path / "saving", method, True, **arguments)
    own = {module for module in saving.model.modules() if isinstance(module, GradientCheckpointingLayer)}
    assert checkpointed == own and len(own) == 2
    for first, second in zip(weights(plain.model).values(), weights(saving.model).values(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
