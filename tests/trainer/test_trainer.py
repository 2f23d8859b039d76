"""The trainer on real scans: exactness, reproducibility, every model family, and errors that lose nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from datasets import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
    DataCollatorWithPadding,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    TrainerCallback,
)

from hf_lotus import Finetune, LoTUS, Retrain, UnlearningArguments, UnlearningTrainer
from hf_lotus.methods import GradientMethod, Round
from hf_lotus.trainer.round_data import draw_subset
from tests.conftest import TINY_MODELS
from tests.support.method_helpers import equal, weights


def rounds_of(trainer):
    return [entry for entry in trainer.state.log_history if "round" in entry]


@dataclass(frozen=True)
class StopBefore(GradientMethod):
    """Finetuning that stops before a given round, to see that nothing is trained after."""

    index: int

    def begin_round(self, run, index):
        return Round({"seen": float(index)}, stop=index == self.index)

    def loss(self, inputs):
        return torch.nn.functional.cross_entropy(inputs.logits, inputs.labels, reduction="none")


class CountSteps(TrainerCallback):
    def __init__(self):
        self.steps = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1


@pytest.mark.parametrize("family", TINY_MODELS)
def test_every_family_unlearns_and_measures(make, family):
    trainer = make(family)
    before = weights(trainer.model)
    teacher = weights(trainer.teacher)
    trainer.train()
    metrics = trainer.evaluate()
    assert not equal(weights(trainer.model), before)
    assert equal(weights(trainer.teacher), teacher) and equal(before, teacher)
    expected = {"forget_accuracy", "retain_accuracy", "unseen_accuracy", "test_accuracy", "mia_member_rate", "rf_jsd"}
    assert {f"eval_{name}" for name in expected | {"rf_jsd_z", "retrain_free_gap"}} <= metrics.keys()
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_teacher_is_frozen_and_shares_no_storage(make):
    trainer = make("resnet")
    student = {tensor.data_ptr() for tensor in trainer.model.state_dict().values()}
    assert student.isdisjoint(tensor.data_ptr() for tensor in trainer.teacher.state_dict().values())
    assert not any(parameter.requires_grad for parameter in trainer.teacher.parameters())
    trainer.train()
    assert not any(module.training for module in trainer.teacher.modules())
    assert all(parameter.grad is None for parameter in trainer.teacher.parameters())


def test_the_same_seed_gives_the_same_weights_bit_for_bit(make):
    runs = []
    for _ in range(2):
        trainer = make("resnet", arguments={"horizontal_flip": True, "crop_padding": 2})
        trainer.train()
        runs.append(weights(trainer.model))
    assert equal(*runs)
    other = make("resnet", arguments={"horizontal_flip": True, "crop_padding": 2, "seed": 2})
    other.train()
    assert not equal(runs[0], weights(other.model))


def test_first_temperature_is_the_formula_on_counts_made_by_hand(make, parts, processor):
    trainer = make("resnet", LoTUS(alpha=4.0, stop_margin=2.0))
    accuracy = {}
    for split in ("forget", "unseen"):
        pixels = processor(list(parts[split]["image"]), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            predicted = trainer.teacher(pixels).logits.argmax(dim=1).tolist()
        labels = list(parts[split]["label"])
        accuracy[split] = sum(p == y for p, y in zip(predicted, labels, strict=True)) / len(labels)
    trainer.train()
    first = rounds_of(trainer)[0]
    assert (first["forget_accuracy"], first["accuracy_bound"]) == (accuracy["forget"], accuracy["unseen"])
    assert first["temperature"] == pytest.approx(math.exp(4.0 * (accuracy["forget"] - accuracy["unseen"])), rel=1e-12)


def test_each_round_is_logged_and_reaches_callbacks(make):
    seen = []

    class Reporter(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(logs)

    trainer = make(callbacks=[Reporter()], arguments={"num_train_epochs": 3})
    trainer.train()
    reported = [logs for logs in seen if "round" in logs]
    assert [logs["round"] for logs in reported] == [0, 1, 2]
    assert all({"temperature", "forget_accuracy", "accuracy_bound", "stop"} <= logs.keys() for logs in reported)
    assert [logs["epoch"] for logs in seen if "loss" in logs] == [1, 2, 3]


@pytest.mark.parametrize(("index", "rounds"), [(0, 0), (1, 1), (2, 2)])
def test_the_stop_comes_before_any_further_step(make, index, rounds):
    counter = CountSteps()
    trainer = make(method=StopBefore(index), callbacks=[counter], arguments={"num_train_epochs": 4})
    before = weights(trainer.model)
    trainer.train()
    steps_per_round = math.ceil((60 + 180) / 32)
    assert counter.steps == rounds * steps_per_round
    assert rounds_of(trainer)[-1]["stop"] == 1.0
    if index == 0:
        assert equal(weights(trainer.model), before)


def test_a_run_that_had_stopped_stays_stopped_when_resumed(make, tmp_path):
    arguments = {"num_train_epochs": 4, "save_strategy": "epoch"}
    stopped = make(method=StopBefore(1), arguments=arguments)
    stopped.train()
    counter = CountSteps()
    resumed = make(method=StopBefore(1), callbacks=[counter], arguments=arguments)
    assert resumed.train(resume_from_checkpoint=True).global_step == stopped.state.global_step
    assert counter.steps == 0 and equal(weights(resumed.model), weights(stopped.model))
    assert rounds_of(resumed) == rounds_of(stopped)


def test_a_round_holds_the_forget_set_and_the_drawn_part_of_the_retain_set(make, parts):
    trainer = make(method=LoTUS(stop_margin=2.0))
    seen = {True: [], False: []}
    for batch in trainer.get_train_dataloader():
        for flag, label in zip(batch["is_forget"].tolist(), batch["labels"].tolist(), strict=True):
            seen[flag].append(label)
    rows = draw_subset(180, 0.3, seed=1)
    assert len(rows) == 54
    assert sorted(seen[True]) == sorted(parts["forget"]["label"])
    assert sorted(seen[False]) == sorted(parts["retain"].select(rows.tolist())["label"])


def test_finetune_never_sees_the_forget_set_and_needs_no_unseen_set(make):
    trainer = make(method=Finetune(), unseen_dataset=None)
    flags = torch.cat([batch["is_forget"] for batch in trainer.get_train_dataloader()])
    assert len(flags) == 180 and not flags.any()
    trainer.train()
    result = trainer.compare()
    assert result["finetune"].rf_jsd is None and "No unseen set" in result.notes[0]


def test_retrain_starts_from_random_weights_once(make):
    trainer = make("resnet", Retrain(), arguments={"learning_rate": 0.0, "weight_decay": 0.0})
    before = weights(trainer.model)
    trainer.train()
    after = weights(trainer.model)
    parameters = [name for name, value in trainer.model.named_parameters() if value.ndim > 1]
    assert all(not torch.equal(before[name], after[name]) for name in parameters)
    # At learning rate 0 the second round would undo nothing but a second initialisation.
    again = make("resnet", Retrain(), arguments={"learning_rate": 0.0, "weight_decay": 0.0, "num_train_epochs": 1})
    again.train()
    assert all(torch.equal(again.model.state_dict()[name], after[name]) for name in parameters)


def test_lotus_lowers_the_confidence_on_what_it_forgets_only(make, digits, processor):
    """On a model that has memorised, the forget set's entropy rises, more than the retain set's."""
    # Trained on both sides with their labels, which stand in for the training set.
    trained = make("resnet", StopBefore(-1), arguments={"num_train_epochs": 30, "learning_rate": 0.1})
    trained.train()
    trainer = make(trained.model, LoTUS(alpha=16.0), arguments={"num_train_epochs": 20, "learning_rate": 1e-3})
    trainer.train()
    before, after = trainer.evaluator.yardstick.original, trainer.student_predictions()
    assert before["forget"].accuracy > before["unseen"].accuracy
    gain = {split: after[split].entropy.mean() - before[split].entropy.mean() for split in ("forget", "retain")}
    assert gain["forget"] > 0.02
    assert gain["forget"] > gain["retain"]
    assert after["retain"].accuracy > before["retain"].accuracy - 0.03


def test_the_best_round_is_loaded_right_for_a_renamed_family(make):
    """ViT's saved names differ from its module's, which Trainer's own loading only warns of."""
    trainer = make(
        "vit",
        arguments={
            "num_train_epochs": 3, "eval_strategy": "epoch", "save_strategy": "epoch", "save_total_limit": 3,
            "load_best_model_at_end": True, "metric_for_best_model": "eval_rf_jsd", "greater_is_better": True,
        },
    )  # fmt: skip
    trainer.train()
    best = max(e["eval_rf_jsd"] for e in trainer.state.log_history if "eval_rf_jsd" in e)
    assert trainer.evaluate()["eval_rf_jsd"] == pytest.approx(best, rel=1e-6)


def test_a_data_set_of_the_users_is_finished_by_its_own_processor(make, parts, processor):
    """Pixels that are ready are not normalised again because the splits are raw images."""
    trainer = make("resnet")
    pixels = processor(list(parts["test"]["image"]), return_tensors="pt")["pixel_values"]
    ready = [{"pixel_values": p, "labels": y} for p, y in zip(pixels, parts["test"]["label"], strict=True)]
    losses = [trainer.evaluate(data)["eval_loss"] for data in (parts["test"], ready)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_saved_and_loaded_again_the_model_predicts_the_same(make, tmp_path):
    trainer = make("vit")
    trainer.train()
    trainer.save_model()
    loaded = type(trainer.model).from_pretrained(tmp_path / "out").eval()
    pixels = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixels).logits, trainer.model.eval()(pixels).logits)


def test_class_wise_unlearning_needs_no_unseen_set(make, digits):
    is_three = [label == 3 for label in digits["label"]]
    forget = digits.select([row for row, three in enumerate(is_three) if three])
    retain = digits.select([row for row, three in enumerate(is_three) if not three])
    parts = {"forget_dataset": forget, "retain_dataset": retain, "unseen_dataset": None, "eval_dataset": None}
    trainer = make("resnet", LoTUS(alpha=32.0), **parts)
    assert trainer.class_wise
    trainer.train()
    assert rounds_of(trainer)[0]["accuracy_bound"] == 0.0


def test_evaluate_and_predict_on_a_data_set_of_the_users(make, parts):
    trainer = make("resnet")
    own = trainer.evaluate(parts["test"].select(range(10)))
    assert own.keys() >= {"eval_loss", "eval_runtime"}
    predicted = trainer.predict(parts["test"])
    assert predicted.predictions.shape == (80, 10)
    assert predicted.label_ids.tolist() == list(parts["test"]["label"])


def test_a_text_classifier_unlearns_the_same_way(make, tmp_path):
    """Nothing but `images.py` knows about images."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "plot", "very", "not"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    texts = [" ".join(["very"] * (n % 4) + [["good", "bad"][n % 2], "film"]) for n in range(60)]
    data = Dataset.from_dict({**tokenizer(texts), "label": [n % 2 for n in range(60)], "note": texts})
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, num_labels=2)  # fmt: skip
    trainer = make(
        BertForSequenceClassification(config), processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer), forget_dataset=data.select(range(10)),
        retain_dataset=data.select(range(10, 40)), unseen_dataset=data.select(range(40, 50)),
        eval_dataset=data.select(range(50, 60)),
    )  # fmt: skip
    before = weights(trainer.model)
    trainer.train()
    assert not equal(before, weights(trainer.model))
    assert trainer.evaluate()["eval_test_accuracy"] in [n / 10 for n in range(11)]


def test_open_arguments_are_the_methods_and_given_ones_are_kept(make):
    given = {"num_train_epochs": None, "per_device_train_batch_size": None, "learning_rate": None}
    resnet, vit = make("resnet", arguments=given).args, make("vit", arguments=given).args
    assert (resnet.learning_rate, resnet.num_train_epochs, resnet.per_device_train_batch_size) == (1e-4, 10, 128)
    assert (vit.learning_rate, vit.num_train_epochs, vit.per_device_train_batch_size) == (1e-6, 3, 32)
    assert resnet.lr_scheduler_type == "constant" and resnet.max_grad_norm == 0
    other = make("vit", Finetune(), arguments={**given, "optim": "rmsprop"}).args
    assert (other.optim, other.optim_args) == ("rmsprop", None)
    kept = make("vit", Finetune(), arguments={**given, "learning_rate": 0.5}).args
    assert (kept.learning_rate, kept.optim, kept.optim_args) == (0.5, "sgd", "momentum=0.9")


def test_one_set_of_arguments_serves_several_methods(tiny_model, parts, processor, tmp_path):
    args = UnlearningArguments(str(tmp_path), use_cpu=True)
    data = {f"{name}_dataset": part for name, part in parts.items() if name != "test"} | {
        "processing_class": processor
    }
    first = UnlearningTrainer(tiny_model("resnet"), args, LoTUS(), **data).args
    second = UnlearningTrainer(tiny_model("resnet"), args, Finetune(), **data).args
    assert (first.learning_rate, second.learning_rate) == (1e-4, 1e-3)


def test_a_timm_model_through_its_wrapper(make):
    pytest.importorskip("timm", exc_type=ImportError, reason="timm, which needs torchvision, is not installed")
    config = TimmWrapperConfig(architecture="resnet10t", num_labels=10)
    trainer = make(TimmWrapperForImageClassification(config))
    before = weights(trainer.model)
    trainer.train()
    assert not equal(before, weights(trainer.model))


def test_methods_are_frozen():
    with pytest.raises(AttributeError):
        LoTUS().alpha = 3.0
    assert replace(LoTUS(), alpha=3.0).alpha == 3.0
