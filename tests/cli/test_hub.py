"""`hf-lotus unlearn` with Hub ids, against a Hub on this machine with the real clients."""

import os
import subprocess
import sys

import pytest

from hf_lotus import ForgetSetRecord, UnlearningResult
from tests.conftest import TINY_MODELS
from tests.support.hub_server import TOKEN, HubServer

UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
for kind in ("model", "dataset"):
    api.create_repo(f"someone/{kind}", repo_type=kind)
    api.upload_folder(folder_path=f"{sys.argv[1]}/{kind}", repo_id=f"someone/{kind}", repo_type=kind)
"""


@pytest.fixture
def files(tmp_path, digits, processor):
    """A model and a data set as they are uploaded."""
    TINY_MODELS["resnet"]().save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (tmp_path / "dataset").mkdir()
    for name, rows in {"train": range(250), "validation": range(250, 320), "test": range(320, 400)}.items():
        digits.shuffle(seed=0).select(rows).to_parquet(tmp_path / "dataset" / f"{name}-00000.parquet")
    return tmp_path


def test_models_and_data_sets_of_the_hub(files):
    with HubServer() as hub:
        variables = {**os.environ, **hub.environment(files / "home"), "OMP_NUM_THREADS": "1"}

        def run(*command):
            done = subprocess.run(
                [sys.executable, *map(str, command)],
                env=variables,
                cwd=files,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            assert TOKEN not in done.stdout + done.stderr
            return done.stdout

        run("-c", UPLOAD, files)
        run(
            "-m", "hf_lotus.cli.main", "unlearn", "--model_name_or_path", "someone/model", "--dataset_name",
            "someone/dataset", "--forget_class", "digit 3", "--num_train_epochs", "1", "--use_cpu", "True",
            "--output_dir", files / "out",
        )  # fmt: skip
        assert any(path.startswith("/someone/model/resolve") for _, path in hub.requests)
    result = UnlearningResult.from_json(files / "out" / "results.json")
    assert result.provenance["samples"]["unseen"] == 70
    card = (files / "out" / "README.md").read_text(encoding="utf-8")
    assert "base_model: someone/model" in card and "- someone/dataset" in card
    assert "license: mit" in card and "base_model_relation: finetune" in card
    record = ForgetSetRecord.from_json(files / "out" / "forget_set.json")
    for recorded, key in (
        (record.dataset, ("datasets", "someone/dataset")),
        (record.base_model, ("models", "someone/model")),
    ):
        assert (recorded["id"], recorded["revision"]) == (key[1], hub.repos[key].commits[-1].sha)
