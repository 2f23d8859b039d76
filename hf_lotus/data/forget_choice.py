"""What to forget, as a person says it: by flags, and by a file of row numbers. The queue of requests needs no more."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hf_lotus.utils.documents import parse_document, read_text
from hf_lotus.utils.text import one_line

if TYPE_CHECKING:
    import numpy as np


@dataclass
class ForgetArguments:
    """What to forget, by exactly one way."""

    forget_rows: str | None = field(
        default=None, metadata={"help": "Forget the row numbers in this file (.json, .csv, or text, one a line)."}
    )
    forget_class: list[str] | None = field(
        default=None, metadata={"nargs": "+", "help": "Forget whole classes, by name or number."}
    )
    forget_column: str | None = field(default=None, metadata={"help": "Forget by the values of this column …"})
    forget_values: list[str] | None = field(default=None, metadata={"nargs": "+", "help": "… namely these."})

    def require_one_way(self, **others: object) -> None:
        """Raise a ValueError unless what to forget is said in exactly one way; `others` are further ways."""
        if (self.forget_column is None) != (self.forget_values is None):
            raise ValueError("forget_column and forget_values go together.")
        names = ("forget_rows", "forget_class", "forget_column")
        ways = {**{name: getattr(self, name) for name in names}, **others}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) != 1:
            told = ", ".join(given) or "none"
            raise ValueError(f"Say what to forget by exactly one of {', '.join(ways)}; got {told}.")


def read_rows(path: str | Path) -> np.ndarray:
    """Row numbers from a file: a JSON list, a CSV with a column 'row' (or one column), or text with one a line.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if an entry is not a whole number; the message names it.
    """
    import numpy as np  # here, so that a queue of requests does not wait for it

    path = Path(path)
    text = read_text(path, "utf-8-sig")  # spreadsheets begin their files with a byte-order mark
    suffix = path.suffix.lower()
    if suffix == ".json":
        entries = parse_document(text, str(path))
        if not isinstance(entries, list):
            raise ValueError(f"{path} must hold a list of row numbers, got {type(entries).__name__}.")
    elif suffix == ".csv":
        entries = _csv_entries(path, text)
    else:
        entries = [line for line in text.splitlines() if line.strip()]
    rows = []
    for number, entry in enumerate(entries, start=1):
        try:
            if isinstance(entry, (bool, float)):
                raise ValueError
            rows.append(int(entry))
        except (TypeError, ValueError):
            raise ValueError(f"{path}: entry {number} is {one_line(repr(entry), 60)}, not a row number.") from None
    try:
        return np.asarray(rows, dtype=np.int64)
    except OverflowError:
        huge = one_line(max(rows, key=abs), 60)
        raise ValueError(f"{path}: {huge} is too large to be a row number.") from None


def _csv_entries(path: Path, text: str) -> list[str | None]:
    """The cells of the column 'row', or of the only column, which may have a heading; None where a line is short."""
    try:
        lines = [line for line in csv.reader(text.splitlines()) if line]
    except csv.Error as error:
        raise ValueError(f"{path} is not valid CSV: {error}.") from error
    header = [cell.strip() for cell in lines[0]] if lines else []
    if "row" in header:
        column = header.index("row")
        return [line[column] if column < len(line) else None for line in lines[1:]]
    if lines and len(header) != 1:
        raise ValueError(f"{path} must have a column 'row' or a single column, its header is {header}.")
    # Only words are a heading: a first entry that is meant as a row number must not be passed over.
    has_heading = bool(header) and header[0][:1].isalpha()
    return [line[0] for line in lines[has_heading:]]
