"""Real distributions of others in a folder, which `importlib.metadata` finds once the folder is on the path."""

from __future__ import annotations

import textwrap
from pathlib import Path


def write_distribution(folder: Path, name: str, group: str, entry_points: dict[str, str], modules: dict[str, str]):
    """Write a distribution as an installer leaves it: its modules, and a dist-info folder beside them.

    Args:
        folder: where; of `sys.path`.
        name: the distribution's; its version is 1.0.
        group: of its entry points.
        entry_points: name → "module:attribute".
        modules: module → source.
    """
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(textwrap.dedent(source))
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{entry} = {value}" for entry, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
