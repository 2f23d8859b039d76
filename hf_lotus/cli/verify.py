"""`hf-lotus verify`: whether a published model, or every model of a queue, is what its record and its card say."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from datasets import Dataset
from PIL import Image as PILImage

from hf_lotus.cli.devices import DeviceArguments
from hf_lotus.cli.flags import flag_parser
from hf_lotus.cli.sample_files import SAMPLE_FILES
from hf_lotus.data.columns import find_image_column
from hf_lotus.data.loading import DatasetArguments
from hf_lotus.data.perceptual import find_lookalikes, perceptual_hashes
from hf_lotus.evaluation.results import retrained_row
from hf_lotus.models.loading import all_retrained
from hf_lotus.publishing.chain import check_chain
from hf_lotus.publishing.digests import Salt
from hf_lotus.publishing.disclosure import read_owners_record
from hf_lotus.publishing.hub import fetch, names_at
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.publishing.recording import LOADING
from hf_lotus.publishing.remeasurement import find_forget_rows, measure_again
from hf_lotus.publishing.signing import check_signature
from hf_lotus.publishing.verification import (
    Check,
    check_folder,
    check_salt,
    check_sample,
    follows_nothing,
    is_finished,
)
from hf_lotus.requests.queue import RequestQueue, is_queue

_FAILED = (
    "Do not use what is named above before its owner has explained it. Its owner saves model, record and card anew "
    "with trainer.create_model_card(), or the card alone with hf-lotus card."
)
_HOLDS = (
    "It shows that these files are the record's, and with salt and data that the record lists these samples and that "
    "its figures come out again; not that the record lists all that was asked for, nor that no trace is left."
)


@dataclass
class VerifyArguments:
    """What to verify, and by what means."""

    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of the model."})
    salt_file: str | None = field(
        default=None, metadata={"help": "The salt of the record, from its owner: finds the forgotten samples."}
    )
    image: list[str] | None = field(
        default=None,
        metadata={"nargs": "+", "help": "Pictures to tell of whether they were forgotten; needs the salt."},
    )
    owners_record: str | None = field(
        default=None,
        metadata={
            "help": "The full record beside the model's folder (….forget_set.owner.json), from its owner: figures in "
            "full, and the seed of a random selection."
        },
    )
    text: list[str] | None = field(
        default=None,
        metadata={"nargs": "+", "help": "The same for texts: files, each with one text, to the last character."},
    )
    audio: list[str] | None = field(
        default=None, metadata={"nargs": "+", "help": "The same for clips: files, each with one clip."}
    )
    expect: str | None = field(
        default=None,
        metadata={"choices": ["in", "out"], "help": "Fail unless each of these is in the forget set, or out of it."},
    )
    key: str | None = field(
        default=None,
        metadata={"help": "The owner's public key, got by another way than the model: checks the signature."},
    )
    original_model: str | None = field(
        default=None,
        metadata={"help": "The model before unlearning, which the record names; RF-JSD is measured against it."},
    )
    retrain_model: str | None = field(
        default=None, metadata={"help": "The model trained without the forget set, if the table has one."}
    )
    retrain_models: list[str] | None = field(
        default=None, metadata={"nargs": "+", "help": "All such models in their order, if the table has several."}
    )
    tolerance: float = field(
        default=1e-3,
        metadata={"help": "How far a figure may lie from the recorded one; for figures above 1, relative."},
    )
    batch_size: int = field(default=256, metadata={"help": "Samples per forward pass."})


def run(argv: list[str]) -> int:
    """Check, print each check, and return 0 if all of them hold, 1 if one does not."""
    parser = flag_parser([VerifyArguments, DeviceArguments, DatasetArguments], "verify")
    parser.add_argument("model", help="The published model: a Hub id or a local folder; or the folder of a queue.")
    _leave_open(parser)
    arguments, at, data_arguments, given = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    asked = any(getattr(arguments, kind) for kind in SAMPLE_FILES)
    if (asked or arguments.expect) and not (asked and arguments.salt_file):
        raise ValueError(
            "--image, --text and --audio need --salt_file, and --expect needs one of them: without the salt no digest "
            "is known."
        )
    if is_queue(given.model):
        return _say(_queue(Path(given.model)))
    folder = fetch(given.model, arguments.revision)
    return _say(_model(given.model, folder, arguments, at, data_arguments))


def _say(checks: Iterable[Check]) -> int:
    """Print each check as it is made, and what they come to; return the exit status."""
    made = []
    for check in checks:
        print(check, flush=True)
        made.append(check.holds)
    failed = made.count(False)
    if failed:
        print(f"\n{failed} of {len(made)} checks FAILED. {_FAILED}")
    else:
        print(f"\nAll that was checked holds. {_HOLDS}")
    return 1 if failed else 0


def _queue(folder: Path) -> Iterator[Check]:
    """The models of a queue's runs, back to the first."""
    models = RequestQueue(folder).models()
    if not models:
        yield Check("the queue has made a model", None, "no run has ended")
    yield from check_chain(models)


def _model(
    name: str, folder: Path, arguments: VerifyArguments, at: DeviceArguments, data: DatasetArguments
) -> Iterator[Check]:
    """A model by itself, then what takes a key, a salt or the data."""
    published = not Path(name).is_dir()
    names = names_at(name, folder) if published else None
    record, checks = check_folder(folder, names, published=published)
    yield from checks
    if published and names is None:
        yield Check("the repository's other files", None, "the Hub cannot be asked, and they were not downloaded")
    yield from check_signature(folder, arguments.key)
    if record is None:
        return
    sound = all(check.holds is not False for check in checks)
    yield from _with_record(folder, record, sound, arguments, at, data)


def _leave_open(parser: argparse.ArgumentParser) -> None:
    """The data set is optional, and how it was cut into parts is taken from the record unless it is said."""
    for action in parser._actions:
        if action.dest in ("dataset_name", *LOADING):
            action.required, action.default = False, None
        if action.dest in LOADING:
            action.help = f"{action.help or ''} (By default as recorded.)"


def _with_record(
    folder: Path,
    record: ForgetSetRecord,
    sound: bool,
    arguments: VerifyArguments,
    at: DeviceArguments,
    data: DatasetArguments,
) -> Iterator[Check]:
    """The checks that need more than the folder, one after another as they are made.

    Nothing of a folder is loaded unless it is `sound`: another configuration than the record's may ask for anything.
    """
    yield is_finished(record)
    yield follows_nothing(record)
    salt, full = None, record
    if arguments.owners_record is not None:
        full = read_owners_record(arguments.owners_record, record)
        yield Check("the record is what may be told of its owner's", True)
    if arguments.salt_file is not None:
        salt = Salt.read(arguments.salt_file)
        yield (fits := check_salt(record, salt))
        if not fits.holds:
            return
    for kind in SAMPLE_FILES:
        if given := getattr(arguments, kind):
            assert salt is not None
            yield from _samples(record, salt, kind, given, arguments.expect)
    if data.dataset_name is None:
        yield Check("the figures, measured again", None, "needs --dataset_name and --salt_file")
        return
    if salt is None and record.row_numbers is None:
        yield Check("the figures, measured again", None, "needs --salt_file, which finds the forgotten samples")
        return
    if not sound:
        yield Check("the figures, measured again", None, "nothing is loaded from files that are not the record's")
        return
    _fill_in(data, full)
    if data.split_seed is None:
        yield Check("the figures, measured again", None, "needs --owners_record, which has the seed of the splits")
        return
    loaded = find_forget_rows(folder, record, salt, data)
    yield loaded.check
    if loaded.data is not None:
        yield from _lookalikes(arguments.image or (), loaded.data.split.forget, data.image_column)
        # Only what the user names is downloaded; of the base model the commit that the record names.
        base = record.base_model
        revision = base["revision"] if arguments.original_model == base["id"] else None
        models: dict[str, tuple[str | None, str | None]] = {"original": (arguments.original_model, revision)}
        for number, name in enumerate(all_retrained(arguments.retrain_model, arguments.retrain_models)):
            models[retrained_row(number)] = name, None
        yield from measure_again(
            folder,
            full,
            loaded.data,
            models,
            data,
            at.chosen,
            batch_size=arguments.batch_size,
            tolerance=arguments.tolerance,
            exactly=full is not record,
            decoding_workers=at.dataloader_num_workers,
        )


def _fill_in(data: DatasetArguments, record: ForgetSetRecord) -> None:
    defaults = {f.name: None if f.default is MISSING else f.default for f in fields(data)}
    for name in LOADING:
        if getattr(data, name) is None:
            setattr(data, name, record.loading.get(name, defaults[name]))
    if data.dataset_revision is None and data.dataset_name == record.dataset["id"]:
        data.dataset_revision = record.dataset["revision"]


def _samples(
    record: ForgetSetRecord, salt: Salt, kind: str, paths: Sequence[str], expect: str | None
) -> Iterator[Check]:
    """Whether each of some pictures, texts or clips is in the forget set."""
    file = SAMPLE_FILES[kind]
    if record.digests is None or record.digests["content"] != file.content:
        yield Check(f"the {file.name}s", None, f"the record has no digests of {file.name}s")
        return
    for path in paths:
        yield check_sample(record, salt, path, file.digest(path), None if expect is None else expect == "in")


def _lookalikes(paths: Iterable[str], forgotten: Dataset, image_column: str | None) -> Iterator[Check]:
    """What the asked pictures look like among the forgotten ones: a hint, apart from what digests prove."""
    column = find_image_column(forgotten, image_column)
    if not paths or column is None:
        return
    hashes = perceptual_hashes(row[column] for row in forgotten.select_columns([column]))
    for path in paths:
        with PILImage.open(path) as picture:
            yield Check(f"{path}, beside the forgotten pictures", None, str(find_lookalikes(picture, hashes)))
