"""Files that appear whole or not at all, and some that only their owner may read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK = ".lock"


@contextmanager
def only_one(folder: str | Path, otherwise: str) -> Iterator[None]:
    """Be the only process in a folder within the block. The system lets the lock go when a process dies.

    Args:
        folder: which is there.
        otherwise: what is said where another process is in it.

    Raises:
        ValueError: if another process is.
    """
    lock = FileLock(Path(folder) / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(otherwise) from error
    try:
        yield
    finally:
        with suppress(OSError):  # on Windows nobody may delete what is open
            os.unlink(
                Path(folder) / _LOCK
            )  # before it is let go: who opened this one finds it gone, and makes another
        lock.release()


def write_private(path: str | Path, text: str | bytes, *, new: bool = False) -> None:
    """Write a file with mode 0600; after a crash at any moment it is there as a whole, or as it was before.

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
        handle, name = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
        unfinished = Path(name)
    else:
        unfinished = path.with_name(f"{path.name}.part")
        unfinished.unlink(missing_ok=True)  # of a killed process
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    # A link, unlike a renaming, fails where the name is taken.
    _write(handle, unfinished, path, text, place=os.link if new else os.replace, durable=True)


def write_whole(path: str | Path, text: str | bytes) -> None:
    """Write a file of text or bytes that appears whole or not at all."""
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    _write(handle, unfinished, path, text, place=os.replace, durable=False)


def _write(
    handle: int,
    unfinished: str | Path,
    path: Path,
    text: str | bytes,
    *,
    place: Callable[[str | Path, Path], None],
    durable: bool,
) -> None:
    """Write through `handle` into the file `unfinished`, and put that in the place of `path`."""
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode("utf-8"))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        place(unfinished, path)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    if durable:
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
