"""The stand-alone `evaluate` metrics: where they are, and the files that they share.

A metric's folder is a complete Hub Space: `evaluate.load` runs it where neither this package nor torch is installed.
So it carries copies of the modules that hold the formulas. Their one source is here; `python -m hf_lotus.metric_files`
renews the copies, and the suite fails while one differs.
"""

from __future__ import annotations

import shutil
from pathlib import Path

_PACKAGE = Path(__file__).parent
# The wheel has the metrics inside the package, a clone beside it.
_METRICS = next((p for p in (_PACKAGE / "metrics", _PACKAGE.parent / "metrics") if p.is_dir()), None)

# Metric → files that it carries; `streaming.py` and `tables.py` have their source beside the metrics' folders.
SHARED = {
    "rf_jsd": ("rows.py", "divergences.py", "streaming.py", "tables.py"),
    "jsd": ("rows.py", "divergences.py", "streaming.py", "tables.py"),
    "membership_inference": ("rows.py", "membership.py", "streaming.py", "tables.py"),
}


def metric_path(name: str) -> str:
    """Folder of a metric, for `evaluate.load(metric_path("rf_jsd"))`.

    Args:
        name: "rf_jsd", "jsd" or "membership_inference".

    Raises:
        ValueError: for another name.
        FileNotFoundError: if the metrics are not installed.
    """
    if name not in SHARED:
        raise ValueError(f"There is no metric {name!r}. The metrics are {', '.join(SHARED)}.")
    if _METRICS is None:
        raise FileNotFoundError("The folder of the metrics is missing: install hf-lotus from a wheel or a clone.")
    return str(_METRICS / name)


def copies() -> dict[Path, Path]:
    """Every copied file → its source."""
    found = {}
    for metric, names in SHARED.items():
        for name in names:
            source = _PACKAGE / name
            found[Path(metric_path(metric)) / name] = source if source.exists() else _METRICS / name
    return found


def main() -> None:
    """Renew the copies."""
    for copy, source in copies().items():
        shutil.copyfile(source, copy)


if __name__ == "__main__":
    main()
