"""Two real ranks on data that does not divide by them give what one process gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import ResNetForImageClassification

from hf_lotus.images import ReadyImages
from hf_lotus.predictions import predict

ROOT = Path(__file__).parents[1]


def train(folder, ranks, *options):
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)] if ranks > 1 else []
    command = [sys.executable, *launcher, "-m", "tests.trainer_on_ranks", str(folder), *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((folder / "record.json").read_text())
    assert record["ranks"] == ranks
    return record


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_ranks_train_as_one_process_with_twice_the_batch(tmp_path, accumulation):
    """180 samples in steps of 64: the tail is uneven, and samples that fill it up must not count."""
    both = train(tmp_path / "both", 2, "vit", "finetune", 32 // accumulation, accumulation)
    alone = train(tmp_path / "alone", 1, "vit", "finetune", 64, 1)
    assert both["steps"] == alone["steps"] == 6
    assert both["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("both", "alone")]
    for name, value in weights[1].items():
        torch.testing.assert_close(weights[0][name], value, rtol=1e-5, atol=1e-6)


def test_what_is_measured_on_two_ranks_is_the_model_that_is_saved(tmp_path, parts, processor):
    """Each rank's BatchNorm has statistics of its own, and only the first rank's are saved."""
    train(tmp_path / "both", 2, "resnet", "lotus", 32, 1)
    saved = ResNetForImageClassification.from_pretrained(tmp_path / "both" / "model")
    expected = predict(saved, ReadyImages(parts["forget"], processor), progress=False)
    np.testing.assert_allclose(np.load(tmp_path / "both" / "logits.npy"), expected.logits, rtol=1e-5, atol=1e-6)
