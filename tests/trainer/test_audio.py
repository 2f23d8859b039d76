"""Clips through the trainer: unlearned, measured, and resumed to the bit with all the noise that such models have."""

import pytest
import torch

from hf_lotus import LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.methods import AMUN, UNSIR, MarginMatching
from hf_lotus.methods.base import RefusedModel
from tests.support import tiny_audio
from tests.support.method_helpers import equal, weights

pytestmark = pytest.mark.usefixtures("datasets_cache")
PARTS = tiny_audio.divided(tiny_audio.clips())


def build(folder, method, model=None, extractor=None, **arguments):
    settings = {"num_train_epochs": 1, "per_device_train_batch_size": 16, "learning_rate": 1e-3, "seed": 1}
    settings |= {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "output_dir": str(folder)} | arguments
    sets = {f"{name}_dataset": PARTS[name] for name in ("forget", "retain", "unseen")}
    return UnlearningTrainer(
        model or tiny_audio.tiny_wav2vec2(), UnlearningArguments(**settings), method, **sets,
        eval_dataset=PARTS["test"], processing_class=extractor or tiny_audio.extractor(),
    )  # fmt: skip


@pytest.mark.exhaustive  # a run on texts stands for what is no picture
def test_a_run_broken_off_ends_with_the_same_bits(tmp_path):
    """With dropout, layer drop and SpecAugment, whose masks come from NumPy."""
    arguments = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 1, "save_total_limit": None}
    method = MarginMatching()
    whole = build(tmp_path, method, **arguments)
    assert whole.model.config.mask_time_prob > 0 and whole.model.config.layerdrop > 0
    whole.train()
    first = whole.sampler.first_step(1)
    again = build(tmp_path, method, **arguments)
    again.train(str(tmp_path / f"checkpoint-{first + 1}"))
    assert equal(weights(again.model), weights(whole.model))


def test_evaluation_is_that_of_the_stock_extractor_and_model(tmp_path):
    trainer, extractor = build(tmp_path, LoTUS(stop_margin=2.0)), tiny_audio.extractor()
    trainer.train()
    model, right = trainer.model.eval(), []
    for row in PARTS["test"]:
        given = extractor(row["audio"]["array"], sampling_rate=tiny_audio.RATE, return_tensors="pt")
        with torch.no_grad():
            right.append(int(model(**given).logits.argmax()) == row["label"])
    assert trainer.evaluate()["eval_test_accuracy"] == sum(right) / len(right)


def test_spectrograms(tmp_path):
    model, extractor = tiny_audio.ast()
    trainer = build(tmp_path, LoTUS(stop_margin=2.0), model, extractor)
    before = weights(model)
    trainer.train()
    assert not equal(weights(trainer.model), before)


@pytest.mark.parametrize("method", [UNSIR(), AMUN()])
def test_methods_for_images_say_so(tmp_path, method):
    with pytest.raises(RefusedModel, match="tried out on images alone. Choose another method"):
        build(tmp_path, method)
