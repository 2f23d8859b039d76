"""A sample in a file of its own, as whoever asks about it has it: the picture, the text, the clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from datasets import Audio, Dataset, Features, Image

from hf_lotus.publishing.digests import CONTENT, sample_contents
from hf_lotus.reporting.audit_texts import name_of


@dataclass(frozen=True)
class SampleFile:
    """How a file of one kind is read.

    Attributes:
        content: what a record's digests must be of.
        name: what to call it.
        read: path → a data set of it alone.
    """

    content: str
    name: str
    read: Callable[[str], Dataset]

    def digest(self, path: str) -> bytes:
        """The unsalted digest of what is in a file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it cannot be read.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no {self.name} {path}.")
        return sample_contents(self.read(path))[1][0].tobytes()


def _picture(path: str) -> Dataset:
    return Dataset.from_dict({"image": [path]}, features=Features({"image": Image()}))


def _text(path: str) -> Dataset:
    # Newlines are left as they are: a text is known by its characters.
    return Dataset.from_dict({"text": [Path(path).read_bytes().decode()]})


def _clip(path: str) -> Dataset:
    stored = Dataset.from_dict({"audio": [{"bytes": Path(path).read_bytes(), "path": path}]})
    return stored.cast_column("audio", Audio(decode=False))  # made as Audio at once, datasets would want torchcodec


# Flag → the files that it names.
SAMPLE_FILES: Mapping[str, SampleFile] = {
    kind: SampleFile(CONTENT[kind], name_of(kind), read)
    for kind, read in {"image": _picture, "text": _text, "audio": _clip}.items()
}
