"""Texts through the whole trainer: every method, resumed to the bit, teacher's logits kept, evaluation by the rows."""

import numpy as np
import pytest
import torch

from hf_lotus import METHODS, Finetune, LoTUS, UnlearningArguments, UnlearningTrainer
from hf_lotus.evaluation.predictions import predict
from hf_lotus.methods import UNSIR, Retrain, WarmRestart
from hf_lotus.methods.base import RefusedModel
from hf_lotus.trainer.relearning import measured_relearning_excess
from tests.support import tiny_text
from tests.support.every_method import KINDS, by_kind
from tests.support.method_helpers import equal, weights

TOKENIZER = tiny_text.tokenizer()
PARTS = tiny_text.divided(tiny_text.texts())


def build(folder, method=None, model=None, parts=PARTS, **arguments):
    settings = {"num_train_epochs": 1, "per_device_train_batch_size": 16, "learning_rate": 1e-3, "seed": 1}
    settings |= {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "output_dir": str(folder)} | arguments
    sets = {f"{name}_dataset": parts[name] for name in ("forget", "retain", "unseen")}
    return UnlearningTrainer(
        model or tiny_text.tiny_bert(), UnlearningArguments(**settings), method or LoTUS(stop_margin=2.0), **sets,
        eval_dataset=parts["test"], processing_class=TOKENIZER,
    )  # fmt: skip


# Those that change inputs by their gradient, or turn kernels over, say why not.
NOT_FOR_TEXT = {
    "unsir": "text is made of tokens",
    "amun": "text is made of tokens",
    "ct": "transposes spatial kernels",
}


@pytest.mark.parametrize("name", by_kind(METHODS, KINDS | {*NOT_FOR_TEXT}))
def test_every_method_unlearns_texts_or_says_why_not(tmp_path, name):
    if name in NOT_FOR_TEXT:
        with pytest.raises(
            RefusedModel, match=f"cannot unlearn a BertForSequenceClassification: .*{NOT_FOR_TEXT[name]}"
        ):
            build(tmp_path, METHODS[name]())
        return
    method = LoTUS(stop_margin=2.0) if name == "lotus" else METHODS[name]()
    trainer = build(tmp_path, method, num_train_epochs=2)
    before = weights(trainer.model)
    trainer.train()
    assert not equal(weights(trainer.model), before)
    measured = trainer.evaluate()
    assert 0 <= measured["eval_forget_accuracy"] <= 1 and np.isfinite(measured["eval_rf_jsd"])


@pytest.mark.parametrize("name", by_kind(["lotus", "margin_matching", "warm_restart"], {"lotus"}))
def test_a_run_broken_off_ends_with_the_same_bits(tmp_path, name):
    """With dropout, and broken off within a round and between two."""
    arguments = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 1, "save_total_limit": None}
    method = LoTUS(stop_margin=2.0) if name == "lotus" else METHODS[name]()
    whole = build(tmp_path, method, **arguments)
    whole.train()
    steps = whole.state.global_step
    first = whole.sampler.first_step(1)
    for step in (first, first + 1):
        again = build(tmp_path, method, **arguments)
        again.train(str(tmp_path / f"checkpoint-{step}"))
        assert again.state.global_step == steps > first + 1
        assert equal(weights(again.model), weights(whole.model))


def test_the_teachers_logits_are_kept_and_change_nothing_but_roundings(tmp_path, monkeypatch):
    asked = []
    kept, computed = build(tmp_path / "kept"), build(tmp_path / "computed", keep_teacher_logits=False)
    for trainer in (kept, computed):
        teacher = trainer.teacher
        teacher.register_forward_hook(lambda module, args, output, who=trainer: asked.append(who))
        trainer.train()
    steps = computed.state.global_step
    assert asked.count(computed) - asked.count(kept) > steps - 4
    for first, second in zip(weights(kept.model).values(), weights(computed.model).values(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=1e-4)


def test_evaluation_is_that_of_the_stock_tokenizer_and_model(tmp_path):
    trainer = build(tmp_path, Finetune())
    trainer.train()
    model = trainer.model.eval()
    right = []
    for row in PARTS["test"]:
        with torch.no_grad():
            logits = model(**TOKENIZER(row["text"], return_tensors="pt")).logits
        right.append(int(logits.argmax()) == row["label"])
    assert trainer.evaluate()["eval_test_accuracy"] == sum(right) / len(right)
    # A data set of the user's own, raw, goes the same way.
    assert trainer.predict(PARTS["test"]).predictions.shape == (60, 3)


def test_model_inputs_of_the_users_give_the_same_weights_as_raw_texts(tmp_path):
    """Tokenised by `datasets.map` and padded by the stock collator, as Trainer's users do."""
    tokens = {
        name: part.map(lambda rows: TOKENIZER(rows["text"]), batched=True, remove_columns=["text", "author"])
        for name, part in PARTS.items()
    }
    raw = build(tmp_path / "raw", keep_teacher_logits=False)
    own = build(tmp_path / "own", parts=tokens, keep_teacher_logits=False)
    for trainer in (raw, own):
        trainer.train()
    assert equal(weights(raw.model), weights(own.model))


def test_pictures_are_augmented_and_texts_are_not(tmp_path):
    with pytest.raises(ValueError, match="horizontal_flip and crop_padding are for pictures.*these samples are text"):
        build(tmp_path, horizontal_flip=True)
    trainer = build(tmp_path, WarmRestart(restart_flip=True))
    with pytest.raises(ValueError, match="are for pictures"):
        trainer.train()


def test_relearning_and_retraining(tmp_path):
    trainer = build(tmp_path, Retrain())
    trainer.train()
    assert -1 <= measured_relearning_excess(trainer) <= 1
    assert len(predict(trainer.model, trainer.given.forget, progress=False).labels) == 40


def test_whole_topics_and_unsir_of_them(tmp_path):
    data = tiny_text.texts()
    labels = np.asarray(data["label"][:])
    parts = {"forget": data.select(np.flatnonzero(labels == 1)), "retain": data.select(np.flatnonzero(labels != 1))}
    parts |= {"unseen": None, "test": None}
    trainer = build(tmp_path, parts=parts)
    assert trainer.class_wise
    trainer.train()
    with pytest.raises(RefusedModel):
        build(tmp_path, UNSIR(), parts=parts)
