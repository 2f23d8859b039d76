"""The stand-alone `evaluate` metrics: each folder is a complete Hub Space.

`evaluate.load` runs a metric where neither this package nor torch is installed, so its folder has all that it needs.
What it shares with the package stands there as a link to the one source, whose content is taken on upload and into a
wheel.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
# The wheel has the metrics inside the package, a clone beside it.
_FOLDER = next((p for p in (_PACKAGE / "metrics", _PACKAGE.parent / "metrics") if p.is_dir()), None)
SPACES = ("rf_jsd", "jsd", "membership_inference", "klom", "relative_test", "rmia")


def metric_path(name: str) -> str:
    """Folder of a metric, for `evaluate.load(metric_path("rf_jsd"))`.

    Args:
        name: one of `SPACES`, such as "rf_jsd".

    Raises:
        ValueError: for another name.
        FileNotFoundError: if the metrics are not installed, or were checked out without their links.
    """
    if name not in SPACES:
        raise ValueError(f"There is no metric {name!r}. The metrics are {', '.join(SPACES)}.")
    if _FOLDER is None:
        raise FileNotFoundError("The folder of the metrics is missing: install hf-lotus from a wheel or a clone.")
    if "import" not in (_FOLDER / name / "arrays.py").read_text(encoding="utf-8"):
        raise FileNotFoundError(
            f"{_FOLDER / name} was checked out without symbolic links (git's core.symlinks is off, as on Windows "
            "without developer mode). Turn it on and check out again, or install a wheel."
        )
    return str(_FOLDER / name)
