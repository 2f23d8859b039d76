"""Making all pictures of a set ready at once: by a pool of processes where that pays, and by one rank of several."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import datasets
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from hf_lotus.data.pictures import read_pictures
from hf_lotus.data.pixel_store import PixelStore, blocks

if TYPE_CHECKING:
    from hf_lotus.data.images import PixelPipeline

T = TypeVar("T")

# Pictures that are decoded at once; and so many first, in this process, to see what one takes.
_AT_ONCE, _TRIED = 256, 16
# Seconds that decoding must take for a pool to pay: to start its processes takes some tenths of one.
_WORTH = 2.0


@dataclass(frozen=True, eq=False)
class Decoder(Dataset):
    """Rows of a data set → pixels made ready; light enough to be sent to another process.

    Attributes:
        images: the pictures, as they are stored.
        column: of the pictures.
        pipeline: makes them ready.
    """

    images: datasets.Dataset
    column: str
    pipeline: PixelPipeline

    def pixels(self, rows: Sequence[int]) -> Tensor:
        """Prepared pixels of some rows, shape (rows, channels, height, width).

        Raises:
            ValueError: if a picture cannot be read, or the processor gives pictures of different sizes.
        """
        prepared = self.pipeline.prepare(read_pictures(self.images, self.column, rows))
        if prepared.shape[1:] != self.pipeline.shape:
            raise ValueError(
                f"The image processor gave an image of shape {tuple(prepared.shape[1:])} after one of "
                f"{tuple(self.pipeline.shape)}. Use a processor that resizes or crops to one size."
            )
        return prepared

    def __getitems__(self, rows: Sequence[int]) -> Tensor | ValueError:
        """`pixels`, for a loader: what is wrong with a picture is handed over, not raised into a traceback."""
        try:
            return self.pixels(rows)
        except ValueError as error:
            return error


def fill(
    decoder: Decoder, store: PixelStore, keys: Sequence[bytes], pixels: Tensor, is_ready: Tensor, workers: int = 0
) -> None:
    """Make every row ready: those that the store has are copied, and the others decoded and kept there.

    Of several processes that lack pictures in one store, such as the ranks of a run, one decodes at a time; the others
    then find them there.

    Args:
        decoder: of the rows.
        store: of the pixels.
        keys: of the rows' pictures.
        pixels: where the rows' pixels are put, shape (rows, channels, height, width).
        is_ready: which rows are, shape (rows,); all are in the end.
        workers: processes to decode with on behalf of each rank of this machine.

    Raises:
        ValueError: as `Decoder.pixels`.
        ChildProcessError: if a process of the pool dies.
    """
    store.read(keys, pixels, is_ready)
    if bool(is_ready.all()):
        return
    with store.filling():
        store.read(keys, pixels, is_ready)  # what another process has decoded meanwhile
        lacking = torch.nonzero(~is_ready)[:, 0].tolist()
        first: dict[bytes, int] = {}  # of rows that have the same picture
        for row in lacking:
            first.setdefault(keys[row], row)
        missing = list(first.values())
        done: list[int] = []
        files = list(blocks(missing, pixels[:1].nbytes))
        ends = {block[-1] for block in files}
        with tqdm(total=len(missing), desc="Decoding", unit="image", leave=False, disable=len(missing) < 1000) as bar:

            def take(rows: Sequence[int], decoded: Tensor) -> None:
                places = torch.tensor(rows)
                pixels[places], is_ready[places] = decoded, True
                done.extend(rows)
                bar.update(len(rows))
                if rows[-1] in ends:
                    store.keep([keys[row] for row in done], pixels[torch.tensor(done)])
                    done.clear()

            decode(decoder, [cut for block in files for cut in _cut(block)], take, workers)
        for row in lacking:
            if not is_ready[row]:
                pixels[row], is_ready[row] = pixels[first[keys[row]]], True


def _cut(rows: Sequence[T]) -> list[Sequence[T]]:
    return [rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE)]


def decode(
    decoder: Decoder, batches: Sequence[Sequence[int]], take: Callable[[Sequence[int], Tensor], None], workers: int = 0
) -> None:
    """Decode batches of rows in their order, in this process or, where that pays, in several others.

    The pixels are the same whoever decodes them.

    Args:
        decoder: of the rows.
        batches: of rows.
        take: given each batch and its pixels, in this process.
        workers: how many processes on behalf of each rank of this machine; fewer than two are none.

    Raises:
        ValueError: as `Decoder.pixels`.
        ChildProcessError: if a process of the pool dies.
    """
    workers = pool_size(workers)
    begun, started = 0, time.perf_counter()
    if workers > 1 and batches:
        decoder.pixels(batches[0][:_TRIED])
        begun = len(batches[0][:_TRIED])
    seconds = (time.perf_counter() - started) / max(begun, 1) * sum(map(len, batches))
    if workers < 2 or seconds < _WORTH:
        for rows in batches:
            take(rows, decoder.pixels(rows))
        return
    loader = DataLoader(
        decoder,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # not the global state, which a resumed run must find the same
    )
    try:
        for rows, found in zip(batches, loader, strict=True):
            if isinstance(found, ValueError):
                raise found
            take(rows, found)
    except RuntimeError as error:
        if "DataLoader worker (pid" not in str(error):  # as torch tells of one that is gone
            raise
        raise ChildProcessError(
            f"One of {workers} processes that decode pictures died, for want of memory perhaps. What was decoded is "
            "kept: run the same again, with a lower dataloader_num_workers."
        ) from error


def pool_size(workers: int) -> int:
    """Processes to decode with: those of all ranks of this machine, as the other ranks wait; no more than it has CPUs.

    Args:
        workers: of each rank.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(workers * int(os.environ.get("LOCAL_WORLD_SIZE", 1)), usable)


def _as_it_is(found: T) -> T:
    return found
