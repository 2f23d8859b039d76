"""One definition of the same run: what a checkpoint takes for its own, a comparison takes as measured, and so on."""

import json
import shutil

import pytest
import torch

from hf_lotus import Comparison, Contender, Finetune, UnlearningArguments, UnlearningTrainer
from hf_lotus.trainer.fingerprint import DECISIVE, LENGTH, identity_digest, teacher_logits_key
from tests.conftest import SIZE, TINY_MODELS, ViTImageProcessorPil, divided
from tests.support.every_method import build, kept_scans, ready_parts

METHOD = Finetune()
BASE = {"num_train_epochs": 2, "per_device_train_batch_size": 32, "learning_rate": 0.05, "optim": "sgd", "seed": 1}
BASE |= {"weight_decay": 0.0, "use_cpu": True, "disable_tqdm": True}
# Training argument → another value, from which other weights come.
OTHERWISE = {
    "seed": 2,
    "data_seed": 5,
    "learning_rate": 0.1,
    "optim": "adamw_torch",
    "optim_args": "momentum=0.9",
    "optim_target_modules": "all-linear",
    "weight_decay": 0.1,
    "adam_beta1": 0.5,
    "adam_beta2": 0.5,
    "adam_epsilon": 1e-3,
    "lr_scheduler_type": "linear",
    "lr_scheduler_kwargs": {"power": 2},
    "warmup_steps": 3,
    "max_grad_norm": 1.0,
    "neftune_noise_alpha": 0.1,
    "horizontal_flip": True,
    "crop_padding": 2,
    "dataloader_drop_last": True,
    "greater_is_better": True,
    "keep_teacher_logits": False,
    "teacher_logits_dtype": "bfloat16",
}
# What no entry of `DECISIVE` tells by its own name.
DEALT_OUT = {"per_device_train_batch_size": 64, "gradient_accumulation_steps": 2, "bf16": True}
INDIFFERENT = {
    "dataloader_num_workers": 1,
    "dataloader_pin_memory": False,
    "per_device_eval_batch_size": 7,
    "logging_strategy": "steps",
    "logging_steps": 3,
    "save_strategy": "steps",
    "save_steps": 3,
    "save_total_limit": 2,
    "eval_strategy": "epoch",
    "run_name": "another",
    "disable_tqdm": False,
    "hub_model_id": "me/model",
    "teacher_logits_dir": "elsewhere",
    "capture_graph": False,
}


class Remeasured(Exception):
    """A row is measured anew."""


def compare(folder, **changed):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TINY_MODELS["vit"]()
    data = {f"{name if name != 'test' else 'eval'}_dataset": part for name, part in ready_parts().items()}
    arguments = UnlearningArguments(str(folder / "compared"), **{**BASE, **changed})
    processor = ViTImageProcessorPil(size={"height": SIZE, "width": SIZE})
    return Comparison(model, arguments, processing_class=processor, **data).run({"ours": Contender(METHOD)})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the checkpoints of one run, and with a comparison of one row."""
    folder = tmp_path_factory.mktemp("finished")
    build(folder / "run", METHOD, save_strategy="epoch").train()
    return folder, compare(folder)


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A copy of it, where no run is to take a step."""
    shutil.copytree(finished[0], tmp_path / "copy")

    def refuse(*_, **__):
        raise Remeasured

    monkeypatch.setattr(UnlearningTrainer, "train", refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "copy"


def test_every_decisive_argument_is_tried():
    assert OTHERWISE.keys() == set(DECISIVE)
    assert not (INDIFFERENT.keys() | DEALT_OUT.keys()) & {*DECISIVE, *LENGTH}


@pytest.mark.parametrize("name", [*OTHERWISE, *DEALT_OUT])
def test_a_decisive_argument_refuses_the_checkpoint_and_measures_the_row_anew(folder, name):
    changed = {name: (OTHERWISE | DEALT_OUT)[name]}
    with pytest.raises(ValueError, match="is of another run, which differs in: ") as error:
        build(folder / "run", METHOD, **changed).checkpoints.begin(True)
    assert {"bf16": "mixed_precision"}.get(name, name) in str(error.value)
    with pytest.raises(Remeasured):
        compare(folder, **changed)


@pytest.mark.parametrize("name", [*INDIFFERENT, "all of them"])
def test_any_other_does_neither(finished, folder, name):
    changed = INDIFFERENT if name == "all of them" else {name: INDIFFERENT[name]}
    trainer = build(folder / "run", METHOD, **changed)
    assert trainer.checkpoints.begin(True) == str(folder / "run" / "checkpoint-12")
    assert compare(folder, **changed)["ours"] == finished[1]["ours"]


@pytest.mark.parametrize("changed", [{"num_train_epochs": 3}, {"max_steps": 8}])
def test_a_run_may_be_made_longer_and_what_is_kept_of_it_is_of_its_length(folder, changed):
    assert build(folder / "run", METHOD, **changed).checkpoints.begin(True)
    with pytest.raises(Remeasured):
        compare(folder, **changed)


def test_the_sets_that_a_row_is_measured_on_are_told(tmp_path):
    """A run that chooses no round by it does not depend on the test set; its figures do."""
    parts = divided(kept_scans())
    runs = [
        build(tmp_path, METHOD, options={"eval_dataset": parts["test"].select(range(count))}).checkpoints
        for count in (80, 70)
    ]
    assert runs[0].identify() == runs[1].identify()
    first, second = (identity_digest(run.identify(ended=True)) for run in runs)
    assert first != second and first == identity_digest(json.loads(json.dumps(runs[0].identify(ended=True))))


def test_the_teachers_logits_are_read_again_by_runs_that_differ_in_nothing_it_sees(tmp_path):
    def key(**changed):
        trainer = build(tmp_path, METHOD, **changed)
        return teacher_logits_key(trainer.checkpoints.identify(), "retain", trainer.args.device)

    assert key() == key(**INDIFFERENT) == key(learning_rate=0.1, num_train_epochs=5)
    assert key() != key(bf16=True)
