"""timm's models through transformers' wrapper; `make test-timm` has the torch and torchvision that it takes."""

import pytest

pytest.importorskip("timm", exc_type=ImportError, reason="timm, which needs torchvision, is not installed")

from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

from hf_lotus import ForgetSetRecord
from hf_lotus.cli.main import main
from hf_lotus.models.loading import load_model
from tests.support.method_helpers import equal, weights


def write_model(folder):
    """A small network of timm's with its preprocessing in its configuration, as a repository of timm has it."""
    data = {
        "input_size": [3, 32, 32],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bilinear",
        "crop_pct": 1.0,
    }
    names = {number: str(number) for number in range(10)}
    config = TimmWrapperConfig(
        architecture="resnet10t", id2label=names, label2id={name: k for k, name in names.items()}, pretrained_cfg=data
    )
    TimmWrapperForImageClassification(config).save_pretrained(folder)


def test_a_model_is_unlearned_measured_verified_and_evaluated(tmp_path, monkeypatch, model_and_data, capsys):
    model_and_data(tmp_path)
    write_model(tmp_path / "timm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    common = ["--model_name_or_path", "timm", "--dataset_name", "data", "--forget_column", "user_id"]
    common += ["--forget_values", "u3"]
    training = ["--num_train_epochs", "1", "--use_cpu", "--disable_tqdm", "True", "--learning_rate", "1e-3"]
    assert main(["unlearn", *common, *training, "--stop_margin", "2", "--output_dir", "out"]) == 0
    assert not equal(weights(load_model("timm")), weights(load_model("out")))
    assert ForgetSetRecord.from_json("out/forget_set.json").task == "image-classification"
    options = ["--salt_file", "out.forget_set.salt", "--dataset_name", "data", "--original_model", "timm"]
    assert main(["verify", "out", *options, "--device", "cpu"]) == 0
    assert "ok      lotus: rf jsd" in capsys.readouterr().out
    again = [*common, "--original_model", "timm", "--output_dir", "again", "--device", "cpu"]
    assert main(["evaluate", *again[:1], "out", *again[2:]]) == 0
