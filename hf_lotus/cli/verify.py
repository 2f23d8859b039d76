"""`hf-lotus verify`: whether a published model is what its record and its card say."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

import torch
from datasets import Dataset, Features, Image
from transformers import AutoConfig

from hf_lotus.cli.flags import flag_parser
from hf_lotus.data.loading import DatasetArguments
from hf_lotus.evaluation.results import retrained_row
from hf_lotus.models.loading import all_retrained
from hf_lotus.publishing.digests import Salt, sample_contents
from hf_lotus.publishing.hub import fetch
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.publishing.recording import LOADING
from hf_lotus.publishing.remeasurement import find_forget_rows, measure_again
from hf_lotus.publishing.signing import check_signature
from hf_lotus.publishing.verification import Check, check_folder, check_salt, check_sample, is_finished


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
    text: list[str] | None = field(
        default=None,
        metadata={"nargs": "+", "help": "The same for texts: files, each with one text, to the last character."},
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
    device: str | None = field(default=None, metadata={"help": "Device. Default: a GPU if there is one."})


def run(argv: list[str]) -> int:
    """Check, print each check, and return 0 if all of them hold, 1 if one does not."""
    parser = flag_parser([VerifyArguments, DatasetArguments], "verify")
    parser.add_argument("model", help="The published model: a Hub id or a local folder.")
    _leave_open(parser)
    arguments, data_arguments, given = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    asked = arguments.image or arguments.text
    if (asked or arguments.expect) and not (asked and arguments.salt_file):
        raise ValueError(
            "--image and --text need --salt_file, and --expect needs one of them: without the salt no digest is known."
        )
    folder = fetch(given.model, arguments.revision)
    record, checks = check_folder(folder)
    checks += check_signature(folder, arguments.key)
    for check in checks:
        _print(check)
    if record is not None:
        for check in _with_record(folder, record, arguments, data_arguments):
            checks.append(check)
            _print(check)
    failed = sum(check.holds is False for check in checks)
    print(f"\n{failed} of {len(checks)} checks FAILED." if failed else "\nAll that was checked holds.")
    return 1 if failed else 0


def _leave_open(parser: argparse.ArgumentParser) -> None:
    """The data set is optional, and how it was cut into parts is taken from the record unless it is said."""
    for action in parser._actions:
        if action.dest in ("dataset_name", *LOADING):
            action.required, action.default = False, None
        if action.dest in LOADING:
            action.help = f"{action.help or ''} (By default as recorded.)"


def _print(check: Check) -> None:
    print(check, flush=True)


def _with_record(
    folder: Path, record: ForgetSetRecord, arguments: VerifyArguments, data: DatasetArguments
) -> Iterator[Check]:
    """The checks that need more than the folder, one after another as they are made."""
    yield is_finished(record)
    salt = None
    if arguments.salt_file is not None:
        salt = Salt.read(arguments.salt_file)
        yield (fits := check_salt(record, salt))
        if not fits.holds:
            return
    for kind in _ASKED:
        if given := getattr(arguments, kind):
            assert salt is not None
            yield from _samples(folder, record, salt, kind, given, arguments.expect)
    if data.dataset_name is None:
        yield Check("the figures, measured again", None, "needs --dataset_name and --salt_file")
        return
    if salt is None and record.row_numbers is None:
        yield Check("the figures, measured again", None, "needs --salt_file, which finds the forgotten samples")
        return
    _fill_in(data, record)
    loaded = find_forget_rows(folder, record, salt, data)
    yield loaded.check
    if loaded.data is not None:
        device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
        # Only what the user names is downloaded; of the base model the commit that the record names.
        base = record.base_model
        revision = base["revision"] if arguments.original_model == base["id"] else None
        models: dict[str, tuple[str | None, str | None]] = {"original": (arguments.original_model, revision)}
        for number, name in enumerate(all_retrained(arguments.retrain_model, arguments.retrain_models)):
            models[retrained_row(number)] = name, None
        yield from measure_again(
            folder,
            record,
            loaded.data,
            models,
            data,
            device,
            batch_size=arguments.batch_size,
            tolerance=arguments.tolerance,
        )


def _fill_in(data: DatasetArguments, record: ForgetSetRecord) -> None:
    defaults = {f.name: None if f.default is MISSING else f.default for f in fields(data)}
    for name in LOADING:
        if getattr(data, name) is None:
            setattr(data, name, record.loading.get(name, defaults[name]))
    if data.dataset_revision is None and data.dataset_name == record.dataset["id"]:
        data.dataset_revision = record.dataset["revision"]


def _samples(
    folder: Path, record: ForgetSetRecord, salt: Salt, kind: str, paths: Sequence[str], expect: str | None
) -> Iterator[Check]:
    """Whether each of some pictures or texts is in the forget set."""
    content, name, read = _ASKED[kind]
    if record.digests is None or record.digests["content"] != content:
        yield Check(f"the {name}s", None, f"the record has no digests of {name}s")
        return
    labels: Sequence[int]
    if record.class_histogram is not None:
        labels = [entry["label"] for entry in record.class_histogram]
    else:
        labels = range(AutoConfig.from_pretrained(folder).num_labels)
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no {name} {path}.")
        digest = sample_contents(read(path))[1][0].tobytes()
        yield check_sample(record, salt, path, digest, labels, None if expect is None else expect == "in")


def _picture(path: str) -> Dataset:
    return Dataset.from_dict({"image": [path]}, features=Features({"image": Image()}))


def _text(path: str) -> Dataset:
    # Newlines are left as they are: a text is known by its characters.
    return Dataset.from_dict({"text": [Path(path).read_bytes().decode()]})


# Flag → what the record must have digests of, what to call it, and how a file of it is read.
_ASKED = {"image": ("pixels", "picture", _picture), "text": ("text", "text", _text)}
