"""Which checkpoint of an output folder to go on from."""

from __future__ import annotations

import json
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


def last_whole_checkpoint(folder: str | Path) -> str | None:
    """The last checkpoint that was written to its end; None if there is none.

    A process that is killed while it writes a checkpoint leaves one from which nothing can go on. `Trainer` writes the
    state last, so one whose state can be read is whole.

    Args:
        folder: the run's `output_dir`.
    """
    found = []
    for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}"):
        number = path.parent.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if number.isdecimal():
            found.append((int(number), str(path.parent)))
    return max(found)[1] if found else None
