"""Files that only their owner may read, and that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_private(path: str | Path, text: str, *, new: bool = False) -> None:
    """Write a text file with mode 0600; after a crash at any moment it is there as a whole, or as it was before.

    Args:
        path: of the file; its folder is made if it is not there, for its owner alone.
        text: its content.
        new: refuse to replace a file that is there, also where two processes write it at once.

    Raises:
        FileExistsError: if `new` and the file is there.
        OSError: if it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if new:  # several may write it at once
        handle, unfinished = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
    else:
        unfinished = path.with_name(f"{path.name}.part")
        unfinished.unlink(missing_ok=True)  # of a killed process
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if new:
            os.link(unfinished, path)  # unlike a renaming, it fails where the name is taken
        else:
            os.replace(unfinished, path)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    sync(path.parent)


def sync(path: str | Path) -> None:
    """Have a file's content, or a folder's names, on the disk: what is not may be gone with the power."""
    if os.name == "nt" and Path(path).is_dir():
        return  # it cannot be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: str | Path, text: str | bytes) -> None:
    """Write a file of text or bytes that appears whole or not at all."""
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_bytes(text) if isinstance(text, bytes) else unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
