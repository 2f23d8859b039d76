"""Ready pixels that outlive a run: kept in a folder, found again by the content of each picture."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import datasets
import PIL
import torch
import transformers
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor
from transformers.utils import logging

from hf_lotus.data.columns import find_image_column
from hf_lotus.utils.files import write_private

logger = logging.get_logger(__name__)

# Of another format, older files are not read.
_FORMAT = 1
_SUFFIX = ".safetensors"
_KEYS, _PIXELS = "keys", "pixels"
# Nothing of another name is touched: a folder that is given may hold other things.
_FOLDER, _FILE = re.compile("[0-9a-f]{32}"), re.compile(rf"[0-9a-f]{{64}}{re.escape(_SUFFIX)}")
_KEY_BYTES = 16
# Pixels of a file, about: what a process that is killed has decoded in vain.
_FILE_BYTES = 1 << 26
# Held by who fills the store; another waits for so many seconds before it says so.
_LOCK, _UNTOLD_SECONDS = "filling.lock", 10.0


class PixelStore:
    """The pixels that one image processor makes, by what they were made of.

    A picture is known by a digest of the file that it is stored as, so that any selection of any data set finds it.
    A file here is written whole, never changed, and named by the digest of its content: several processes may write at
    once, a process that is killed leaves nothing half, and a file that is not what its name says is deleted and made
    anew. Files are for their owner alone (0600).

    **What is in here are the pictures themselves**, scaled to the model's size, also those that a model was made to
    forget; `forget_pictures` takes them out.

    Args:
        folder: of the store; it may hold the pixels of several processors.
        made_by: what determines the pixels besides the picture, as JSON values.
    """

    def __init__(self, folder: str | Path, made_by: object):
        versions = [_FORMAT, transformers.__version__, PIL.__version__]
        described = json.dumps([versions, made_by], sort_keys=True, default=str)
        self.folder = Path(folder) / hashlib.sha256(described.encode()).hexdigest()[:32]

    def read(self, keys: Sequence[bytes], into: Tensor, is_ready: Tensor) -> None:
        """Copy the pixels that are there to their rows, but for those that are ready.

        Args:
            keys: of the pictures (`picture_keys`).
            into: shape (pictures, …).
            is_ready: which rows are, bool, shape (pictures,); those that were there are then, too.
        """
        rows: dict[bytes, list[int]] = {}
        for row in torch.nonzero(~is_ready)[:, 0].tolist():
            rows.setdefault(keys[row], []).append(row)
        for path in _files(self.folder):
            there = _keys_of(path)
            if there is None or rows.keys().isdisjoint(there):
                continue
            content = _whole(path)
            if content is None:
                continue
            pairs = [(row, place) for place, key in enumerate(there) for row in rows.pop(key, ())]
            wanted, places = torch.tensor(pairs).unbind(1)
            into[wanted] = content[_PIXELS][places]
            is_ready[wanted] = True

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Be the only process that fills the store within the block; the system lets others in when it dies."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(self.folder / _LOCK, mode=0o600)
        try:
            lock.acquire(timeout=_UNTOLD_SECONDS)
        except Timeout:
            logger.warning(f"Another process decodes pictures into {self.folder}. It is waited for.")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def keep(self, keys: Sequence[bytes], pixels: Tensor) -> None:
        """Write the pixels of some pictures, shape (pictures, …), as a file of its own."""
        _write(self.folder, keys, pixels)


def picture_keys(pictures: datasets.Dataset, column: str) -> list[bytes] | None:
    """A digest of each picture as it is stored, 16 bytes; None where pictures are not stored as files.

    Args:
        pictures: a data set, or a selection of its rows.
        column: of the pictures.
    """
    if not isinstance(pictures.features[column], datasets.Image):
        return None
    stored = pictures.with_format(None).select_columns([column]).cast_column(column, datasets.Image(decode=False))
    keys = []
    for row in stored:
        picture = row[column]
        if picture is None:
            return None  # whoever decodes it says which row that is
        content = picture["bytes"] if picture["bytes"] is not None else Path(picture["path"]).read_bytes()
        keys.append(hashlib.blake2b(content, digest_size=_KEY_BYTES).digest())
    return keys


def blocks(rows: Sequence[int], row_bytes: int) -> Iterator[Sequence[int]]:
    """The rows, cut into those of one file each."""
    size = max(_FILE_BYTES // max(row_bytes, 1), 1)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def forget_pictures(folder: str | Path, pictures: datasets.Dataset, column: str | None = None) -> int:
    """Take pictures out of a store, whichever processors made pixels of them; return how many were there.

    A file that has one of them is written anew without, and then deleted. Whoever is broken off in the midst deletes
    the rest when he is called again. What is deleted is no longer in the file system; a disk may hold it longer.

    Args:
        folder: of the store.
        pictures: what is to be forgotten.
        column: of the pictures; found from the features if None.

    Raises:
        OSError: if a file cannot be deleted.
    """
    folder = Path(folder)
    column = find_image_column(pictures, column)
    keys = picture_keys(pictures, column) if column is not None else None
    if not keys or not folder.is_dir():
        return 0
    gone, found = set(keys), set()
    for kind in sorted(path for path in folder.iterdir() if _FOLDER.fullmatch(path.name)):
        for unfinished in kind.glob("*.part"):  # of a process that was killed; one that still writes does without
            unfinished.unlink(missing_ok=True)
        for path in _files(kind):
            there = _keys_of(path)
            if there is None or gone.isdisjoint(there):
                continue
            found |= gone.intersection(there)
            content = _whole(path)
            if content is None:
                continue
            left = [place for place, key in enumerate(there) if key not in gone]
            if left:
                _write(kind, [there[place] for place in left], content[_PIXELS][left])
            path.unlink(missing_ok=True)
    return len(found)


def _write(folder: Path, keys: Sequence[bytes], pixels: Tensor) -> None:
    made = save({_KEYS: _tensor_of(keys), _PIXELS: pixels.contiguous()})
    path = folder / f"{hashlib.sha256(made).hexdigest()}{_SUFFIX}"
    try:
        write_private(path, made, new=True)
    except FileExistsError:
        pass  # another process has made the same
    except FileNotFoundError:
        logger.warning(f"{folder} was cleared while it was written to; the pixels are made again when next needed.")


def _tensor_of(keys: Sequence[bytes]) -> Tensor:
    return torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(-1, _KEY_BYTES)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if _FILE.fullmatch(path.name))


def _keys_of(path: Path) -> list[bytes] | None:
    """The keys of a file's pictures; None, and the file is gone, where it cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            keys = file.get_tensor(_KEYS)
    except FileNotFoundError:
        return []  # another process has deleted it
    except (SafetensorError, OSError):
        _discard(path)
        return None
    if keys.dtype != torch.uint8 or keys.ndim != 2 or keys.shape[1] != _KEY_BYTES:
        _discard(path)
        return None
    flat = keys.numpy().tobytes()
    return [flat[start : start + _KEY_BYTES] for start in range(0, len(flat), _KEY_BYTES)]


def _whole(path: Path) -> dict[str, Tensor] | None:
    """What a file holds; None, and the file is gone, where it is not what its name says."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(content).hexdigest() != path.name.removesuffix(_SUFFIX):
        _discard(path)
        return None
    return load(content)


def _discard(path: Path) -> None:
    logger.warning(f"{path} is broken; it is deleted, and its pixels are made anew.")
    path.unlink(missing_ok=True)
