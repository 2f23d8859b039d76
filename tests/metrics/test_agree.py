"""The trainer, the command line and the stand-alone metrics report the same numbers."""

import json

import evaluate
import pytest
from datasets import DatasetDict, concatenate_datasets

from hf_lotus import UnlearningResult
from hf_lotus.cli.main import main
from hf_lotus.methods import LoTUS
from hf_lotus.publishing.spaces import metric_path
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.trainer import UnlearningTrainer
from tests.conftest import TINY_MODELS

SEED = 5


@pytest.fixture(scope="module")
def run(parts, processor, tmp_path_factory):
    """A trainer after `train`, and the folder of its models."""
    folder = tmp_path_factory.mktemp("agree")
    original, retrained = TINY_MODELS["resnet"](), TINY_MODELS["resnet"]()
    for name, model in (("original", original), ("retrained", retrained)):
        model.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    options = {"num_train_epochs": 1, "learning_rate": 1e-3, "per_device_eval_batch_size": 64, "seed": SEED}
    options |= {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    trainer = UnlearningTrainer(
        original,
        UnlearningArguments(str(folder / "unlearned"), **options),
        LoTUS(stop_margin=2.0),
        forget_dataset=parts["forget"],
        retain_dataset=parts["retain"],
        unseen_dataset=parts["unseen"],
        eval_dataset=parts["test"],
        retrain_model=retrained,
        processing_class=processor,
    )
    trainer.train()
    trainer.save_model()
    return trainer, folder


@pytest.fixture(scope="module")
def alone(run) -> dict[str, float]:
    """What the stand-alone metrics make of the same predictions."""
    trainer, _ = run
    student, original = trainer.student_predictions(), trainer.evaluator.yardstick.original
    retrained = trainer.evaluator.yardstick.retrained
    options = {"from_logits": True}
    rf_jsd = evaluate.load(metric_path("rf_jsd"), null_resamples=50, seed=SEED, **options)
    for source, predicted in (("forget", student["forget"]), ("unseen", original["unseen"])):
        rf_jsd.add_batch(predictions=predicted.logits, references=predicted.labels, source=source)
    jsd = evaluate.load(metric_path("jsd"), **options)
    jsd.add_batch(predictions=student["forget"].logits, references=retrained["forget"].logits)
    mia = evaluate.load(metric_path("membership_inference"))
    for source, split in (
        ("member", "retain"),
        ("non_member", "unseen"),
        ("non_member", "test"),
        ("forget", "forget"),
    ):
        mia.add_batch(predictions=student[split].entropy, source=source)
    measured, attack = rf_jsd.compute(), mia.compute()
    return {
        "rf_jsd": measured["rf_jsd"],
        "rf_jsd_z": measured["z"],
        "rf_jsd_null_mean": measured["null_mean"],
        "rf_jsd_null_std": measured["null_std"],
        "jsd": jsd.compute()["jsd"],
        "mia_member_rate": attack["member_rate"],
    }


def test_the_trainer(run, alone):
    metrics = run[0].evaluate()
    for name, value in alone.items():
        reported = metrics[f"eval_reference_{name}" if "null" in name else f"eval_{name}"]
        assert reported == pytest.approx(value, rel=1e-9, abs=1e-9), name


def test_the_command_line(run, alone, parts, tmp_path):
    _, folder = run
    train = concatenate_datasets([parts["forget"], parts["retain"]])
    data = DatasetDict({"train": train, "validation": parts["unseen"], "test": parts["test"]})
    data.save_to_disk(str(tmp_path / "data"))
    (tmp_path / "rows.json").write_text(json.dumps(list(range(len(parts["forget"])))))
    arguments = {
        "model_name_or_path": folder / "unlearned",
        "original_model": folder / "original",
        "retrain_model": folder / "retrained",
        "dataset_name": tmp_path / "data",
        "forget_rows": tmp_path / "rows.json",
        "output_dir": tmp_path / "out",
        "batch_size": 64,
        "seed": SEED,
        "device": "cpu",
    }
    assert main(["evaluate", *(str(part) for name, value in arguments.items() for part in (f"--{name}", value))]) == 0
    result = UnlearningResult.from_json(tmp_path / "out" / "results.json")
    model = next(model for model in result.models if model.name == "unlearned")
    for name, value in alone.items():
        reported = getattr(result.controls if "null" in name else model, name)
        assert reported == pytest.approx(value, rel=1e-9, abs=1e-9), name
