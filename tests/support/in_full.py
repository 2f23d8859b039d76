"""What was measured of a model in full: published figures are rounded, and what its owner keeps is not."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hf_lotus import UnlearningResult
from hf_lotus.evaluation.results import FORMAT_VERSION
from hf_lotus.publishing.record import owner_path


def result_in_full(folder: str | Path) -> UnlearningResult:
    """The comparison behind the results of a model's folder."""
    document = json.loads(owner_path(folder).read_text(encoding="utf-8"))["results"]
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "results.json"
        path.write_text(json.dumps({"format_version": FORMAT_VERSION, **document}), encoding="utf-8")
        return UnlearningResult.from_json(path)
