"""The folder that a run writes into: one run at a time, nobody else's, and left as it was by a run that is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hf_lotus.data.loading import DatasetArguments
from hf_lotus.models.loading import ModelArguments
from hf_lotus.publishing.manifest import WEIGHTS
from hf_lotus.publishing.record import RECORD, owner_path, salt_path
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.utils.files import only_one

# What a run goes on from, and what it has no more use for once its model is saved: all of it knows what was to be
# forgotten.
WORK = ("checkpoint-*", "best_round", "renewed_teacher", "teacher_logits")
# What was measured, or can be gone on from: where there is any, a run that fails leaves its work.
_PROGRESS = ("checkpoint-*", "**/measured.json")


@dataclass
class OverwriteArguments:
    """Whether the run may write over what is there."""

    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Write into output_dir although it holds something else than a run that is resumed."},
    )


@dataclass
class OutputArguments(OverwriteArguments):
    """What becomes of the folder that the run writes into."""

    keep_checkpoints: bool = field(
        default=False,
        metadata={
            "help": "Keep the checkpoints when the model is saved. They hold optimizer states, which know what was "
            "forgotten; by default they are deleted then."
        },
    )


def sources_of(model: ModelArguments, data: DatasetArguments) -> dict[str, str | None]:
    """What a run is made from, as `claimed` takes it."""
    retrained = {f"retrained model {name}": name for name in model.retrained}
    return {"model": model.model_name_or_path, "data set": data.dataset_name, **retrained}


def holds_model(folder: str | Path) -> bool:
    """Whether a model, or the record of one, is in a folder."""
    folder = Path(folder)
    return (folder / RECORD).exists() or any(next(folder.glob(pattern), None) for pattern in WEIGHTS)


def remove_work(folder: str | Path) -> None:
    """Delete what a run went on from, once its model is saved."""
    for pattern in WORK:
        for path in Path(folder).glob(pattern):
            shutil.rmtree(path)


@contextmanager
def claimed(
    folder: str | Path | None,
    *,
    sources: Mapping[str, str | None],
    salt: str | Path | None = None,
    goes_on: bool = False,
    overwrite: bool = False,
) -> Iterator[Path]:
    """Have a folder to oneself within the block. Where the block raises, what it wrote is taken away again.

    Checkpoints, and rows that were measured, stay: the same command goes on from them.

    Args:
        folder: the folder; made if it is not there.
        sources: what the run is made from, such as "model" → the folder or Hub id. None of them is ever written over.
        salt: the file of the run's salt; like the owner's record taken away again only if made within the block.
        goes_on: the folder may hold an earlier part of the same run.
        overwrite: it may hold anything.

    Yields:
        the folder.

    Raises:
        ValueError: if it is one of the sources, no folder, not empty, or another run is writing into it.
        OSError: if it cannot be made.
    """
    path = _checked(folder, sources, may_hold=goes_on or overwrite)
    there, made = _names(path), _missing(path)
    beside = [name for name in (salt, owner_path(path)) if name is not None and not Path(name).exists()]
    path.mkdir(parents=True, exist_ok=True)
    busy = f"Another run is writing into {path}. Wait until it has ended, or give another output_dir."
    try:
        with only_one(path, busy):
            try:
                yield path
            except BaseException:
                if not any(next(path.glob(pattern), None) for pattern in _PROGRESS):
                    _take_away(path, there)
                    for name in beside:
                        Path(name).unlink(missing_ok=True)
                elif not (path / RECORD).exists():
                    _take_away_model(path, there)
                raise
    finally:
        for empty in made:
            with suppress(OSError):
                empty.rmdir()


@contextmanager
def claimed_for(
    arguments: UnlearningArguments,
    model: ModelArguments,
    data: DatasetArguments,
    salt_file: str | None,
    *,
    goes_on: bool,
    overwrite: bool,
) -> Iterator[None]:
    """Have the output folder of a run to oneself within the block: of several processes the first claims it for all.

    Args:
        arguments: of the run.
        model: which models it is made from.
        data: which data.
        salt_file: the file of its salt, beside the folder if None.
        goes_on: as in `claimed`.
        overwrite: as there.

    Raises:
        ValueError: as there.
        OSError: as there.
    """
    if arguments.process_index != 0:
        yield
        return
    salt = salt_file or salt_path(arguments.output_dir)
    with claimed(
        arguments.output_dir, sources=sources_of(model, data), salt=salt, goes_on=goes_on, overwrite=overwrite
    ):
        yield


def _checked(folder: str | Path | None, sources: Mapping[str, str | None], may_hold: bool) -> Path:
    if folder is None or not str(folder).strip():
        raise ValueError("output_dir is empty: name the folder that the model and what was measured are written into.")
    path = Path(folder)
    for what, source in sources.items():
        if source and Path(source).exists() and path.resolve() == Path(source).resolve():
            raise ValueError(
                f"output_dir {path} is the {what}'s own folder, which would be written over. Give another one."
            )
    for each in (path, *path.parents):
        if each.exists() and not each.is_dir():
            raise ValueError(f"{each} is a file, and output_dir {path} needs a folder. Give another one.")
    if names := sorted(_names(path)):
        if not may_hold:
            few = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise ValueError(
                f"output_dir {path} is not empty ({few}). Give another one; --resume_from_checkpoint True goes on "
                "with the run in it, --overwrite_output_dir True writes over what is there."
            )
    return path


def _names(folder: Path) -> set[str]:
    """What is in a folder, hidden files left out."""
    return {name for name in os.listdir(folder) if not name.startswith(".")} if folder.is_dir() else set()


def _missing(folder: Path) -> list[Path]:
    """The folder and those around it that have yet to be made, the innermost first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _take_away(folder: Path, there: set[str]) -> None:
    for name in _names(folder) - there:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _take_away_model(folder: Path, there: set[str]) -> None:
    """Take away a model of which nothing says that it was saved to its end."""
    for pattern in WEIGHTS:
        for path in folder.glob(pattern):
            if path.name not in there:
                path.unlink()
