"""A small published model, as fuzzing begins from it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.support.bad_materials import Materials


def publish(folder: Path, processor) -> Path:
    """Unlearn for one round and leave the model, with record, results and card, in a folder of `folder`."""
    from hf_lotus.cli.main import main

    with tempfile.TemporaryDirectory() as temporary:
        materials = Materials(Path(temporary), processor)
        words = [
            "--model_name_or_path",
            materials.model,
            "--dataset_name",
            materials.data,
            "--forget_rows",
            materials.rows,
        ]
        words += ["--output_dir", folder / "published", "--num_train_epochs", "1", "--use_cpu", "True"]
        words += ["--disable_tqdm", "True", "--stop_margin", "2", "--salt_file", Path(temporary) / "salt"]
        status = main(["unlearn", *map(str, words)])
    assert status == 0
    return folder / "published"
