"""What the trainer refuses: what was given, what is allowed, what to do."""

from dataclasses import dataclass

import pytest
import torch
from datasets import ClassLabel
from transformers import TrainerCallback, TrainingArguments

from hf_lotus import UnlearningTrainer
from hf_lotus.methods import Round
from tests.trainer.test_trainer import StopBefore


def test_classes_in_another_order(make, tiny_model, parts):
    model = tiny_model("vit")
    names = [f"digit {n}" for n in range(10)]
    model.config.id2label = dict(enumerate(names[::-1]))
    with pytest.raises(ValueError, match="Class 0 is 'digit 9' to the model and 'digit 0' in the data set"):
        make(model, forget_dataset=parts["forget"])
    model.config.id2label = dict(enumerate(names))
    make(model, forget_dataset=parts["forget"])


def test_no_unseen_set(make):
    with pytest.raises(ValueError, match="LoTUS needs unseen_dataset"):
        make(unseen_dataset=None)


def test_rows_shared_between_forget_and_retain(make, parts, digits):
    with pytest.raises(ValueError, match="forget set and the retain set share 60 rows"):
        make(retain_dataset=digits)


def test_unseen_rows_that_were_trained_on(make, parts):
    with pytest.raises(ValueError, match="retain set and the unseen set share 5 rows"):
        make(unseen_dataset=parts["retain"].select(range(5)))


def test_empty_forget_set(make, parts):
    with pytest.raises(ValueError, match="forget set is empty"):
        make(forget_dataset=parts["forget"].select([]))


def test_streamed_data(make, parts):
    with pytest.raises(TypeError, match="IterableDataset"):
        make(retain_dataset=parts["retain"].to_iterable_dataset())


def test_labels_outside_the_models_classes(make, tiny_model):
    model = tiny_model("vit")
    model.config.num_labels = 5
    with pytest.raises(ValueError, match="label 5, and the model has 5 classes"):
        make(model)


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification"])
def test_other_heads(make, tiny_model, problem):
    model = tiny_model("vit")
    model.config.problem_type = problem
    with pytest.raises(ValueError, match=problem):
        make(model)


def test_raw_images_without_an_image_processor(make):
    with pytest.raises(ValueError, match="AutoImageProcessor"):
        make(processing_class=None)


def test_something_that_is_no_method(make):
    with pytest.raises(TypeError, match="lotus, margin_matching, warm_restart, finetune"):
        make(method="lotus")


def test_arguments_of_another_class(tiny_model, parts, tmp_path):
    with pytest.raises(TypeError, match="args must be UnlearningArguments, got TrainingArguments"):
        UnlearningTrainer(
            tiny_model("vit"),
            TrainingArguments(str(tmp_path)),
            forget_dataset=parts["forget"],
            retain_dataset=parts["retain"],
        )


def test_label_smoothing_is_refused_rather_than_ignored(make):
    with pytest.raises(ValueError, match="label_smoothing_factor"):
        make(arguments={"label_smoothing_factor": 0.1})


def test_diverging_logits_stop_the_run_and_keep_the_last_checkpoint(make, tmp_path):
    @dataclass(frozen=True)
    class Diverge(StopBefore):
        def loss(self, inputs):
            return super().loss(inputs) * (float("nan") if inputs.round_values["seen"] else 1.0)

    trainer = make("vit", Diverge(-1), arguments={"save_strategy": "epoch"})
    with pytest.raises(FloatingPointError, match="not finite"):
        trainer.train()
    # Asked at the border of the round, before anything is told or kept of it.
    assert trainer.state.global_step == 16 and [e["epoch"] for e in trainer.state.log_history if "loss" in e] == [1.0]
    kept = type(trainer.model).from_pretrained(tmp_path / "out" / "checkpoint-8")
    assert all(torch.isfinite(value).all() for value in kept.state_dict().values())


def test_they_are_told_at_the_first_log_where_steps_are_logged(make):
    @dataclass(frozen=True)
    class Diverge(StopBefore):
        def loss(self, inputs):
            return super().loss(inputs) * float("nan")

    trainer = make("vit", Diverge(-1), arguments={"logging_strategy": "steps", "logging_steps": 2})
    with pytest.raises(FloatingPointError, match="not finite"):
        trainer.train()
    assert trainer.state.global_step == 2 and not any("loss" in entry for entry in trainer.state.log_history)


def test_nothing_is_saved_of_them_whoever_asks(make, tmp_path):
    @dataclass(frozen=True)
    class Diverge(StopBefore):
        def loss(self, inputs):
            return super().loss(inputs) * float("nan")

    class Late(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = state.global_step == 2

    trainer = make("vit", Diverge(-1), arguments={"save_strategy": "steps", "save_steps": 1000})
    trainer.add_callback(Late())
    with pytest.raises(FloatingPointError, match="not finite"):
        trainer.train()
    assert trainer.state.global_step == 2 and not list((tmp_path / "out").glob("checkpoint-*/*.safetensors"))


def test_half_precision_weights(make, tiny_model):
    with pytest.raises(ValueError, match="bfloat16, in which unlearning's small steps round away"):
        make(tiny_model("vit").to(torch.bfloat16))


def test_a_retrained_model_of_other_classes(make, tiny_model):
    other = tiny_model("vit")
    other.config.num_labels = 12
    with pytest.raises(ValueError, match="retrained model has 12 classes, and the model to unlearn 10"):
        make("vit", retrain_model=other)


def test_a_checkpoint_that_is_not_there_is_not_looked_for_elsewhere(make):
    with pytest.raises(ValueError, match="no checkpoint folder 'someone/checkpoint-9'"):
        make("vit").train(resume_from_checkpoint="someone/checkpoint-9")


def test_a_loss_that_is_averaged_already(make):
    @dataclass(frozen=True)
    class Averaged(StopBefore):
        def loss(self, inputs):
            return super().loss(inputs).mean()

    with pytest.raises(ValueError, match=r"Averaged.loss must give one value a sample, shape \(32,\), got \(\)"):
        make("vit", Averaged(-1)).train()


def test_a_rounds_value_with_the_name_of_another(make):
    @dataclass(frozen=True)
    class Misnamed(StopBefore):
        def begin_round(self, run, index):
            return Round({"epoch": 1.0})

    with pytest.raises(ValueError, match="Misnamed names a round's value 'epoch'"):
        make("vit", Misnamed(-1)).train()


def test_an_unseen_set_with_its_classes_in_another_order(make, parts):
    names = [f"digit {n}" for n in range(10)]
    unseen = parts["unseen"].cast_column("label", ClassLabel(names=names[::-1]))
    trainer = make("vit")
    trainer.model.config.id2label = dict(enumerate(names))
    with pytest.raises(ValueError, match="another order"):
        make(trainer.model, unseen_dataset=unseen)


def test_raw_images_beside_model_inputs(make, parts, processor):
    pixels = processor(list(parts["retain"]["image"]), return_tensors="pt")["pixel_values"]
    retain = [{"pixel_values": p, "labels": y} for p, y in zip(pixels, parts["retain"]["label"], strict=True)]
    with pytest.raises(TypeError, match="must hold raw samples of one kind"):
        make("vit", retain_dataset=retain)
