"""What a comparison has measured, kept by a digest of all that determines it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers.utils import logging

from hf_lotus.utils.files import write_whole

logger = logging.get_logger(__name__)

MEASURED = "measured.json"


def kept_row(path: Path, key: str) -> dict[str, Any] | None:
    """What was kept before with the same key, as the first rank sees it: all must go the same way."""
    row = None
    if PartialState().is_main_process and path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        row = kept["row"] if kept.get("key") == key else None
        if row is None:
            logger.warning(f"{path.parent} holds a row of other settings, which is measured anew.")
    return broadcast_object_list([row])[0]


def keep_row(path: Path, key: str, row: Mapping[str, object]) -> None:
    """Keep what was measured; the first rank's job. The file appears whole or not at all."""
    if PartialState().is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({"key": key, "row": row}, indent=2) + "\n")
