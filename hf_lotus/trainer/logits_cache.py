"""Logits of a data set's rows in a file that is mapped into memory: computed once, read from then on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class KeptLogits:
    """The logits of the rows of one data set, as far as they are known.

    The file takes room only for the rows that were written, and memory only while they are read. Processes of one
    machine that open the same file see each other's rows.

    Args:
        path: of the file; a second one beside it, ending in `.known`, says which rows it has.
        rows: rows of the data set.
        classes: logits of a row.
        dtype: "float32", or "bfloat16" for half the room.
    """

    def __init__(self, path: Path, rows: int, classes: int, dtype: str = "float32"):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.paths = path, path.with_name(f"{path.name}.known")
        flat = torch.from_file(str(path), shared=True, size=rows * classes, dtype=DTYPES[dtype])
        self.logits = flat.view(rows, classes)
        self.known = torch.from_file(str(self.paths[1]), shared=True, size=rows, dtype=torch.bool)

    def missing(self, rows: Tensor) -> Tensor:
        """Those of the given rows that are not known yet, sorted, each once."""
        return rows[~self.known[rows]].unique()

    def keep(self, rows: Tensor, logits: Tensor) -> None:
        """Write the logits of some rows, shape (rows, classes)."""
        self.logits[rows] = logits.to(self.logits.dtype)
        self.known[rows] = True  # last: a row that is known is there

    def remove(self) -> None:
        """Delete the files, and their folder if nothing else is in it."""
        for path in self.paths:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.paths[0].parent.rmdir()

    def __getitem__(self, rows: Tensor) -> Tensor:
        """The logits of some rows, float32, shape (rows, classes)."""
        return self.logits[rows].float()
