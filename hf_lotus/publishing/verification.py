"""Whether a published model's record, files and card belong together, and what the record proves of a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

from hf_lotus.publishing.check import Check
from hf_lotus.publishing.digests import Salt
from hf_lotus.publishing.folder_checks import FOLDER_CHECKS, nothing_else
from hf_lotus.publishing.manifest import names_in
from hf_lotus.publishing.record import FINISHED, RECORD, ForgetSetRecord

# More than any model has: trying them all takes a tenth of a second.
CLASSES = 1 << 16
# What it means, and what not, that a picture is not found.
NOT_IN = (
    "as the record lists it: no digest is of exactly these pixels. A copy that was scaled or saved anew is another "
    "sample, and a sample that its publisher left out is in no list"
)
# What to do about a folder that has no record yet, and about one whose files are not those of its record.
WRITE_ALL = (
    "In Python, trainer.create_model_card() saves the model and writes record, results and card; on the command line "
    "hf-lotus unlearn does"
)
SAVE_AGAIN = (
    "Save the model again (trainer.push_to_hub(), or trainer.save_model() and trainer.create_model_card()), or write "
    "the card anew with hf-lotus card."
)


def check_folder(
    folder: str | Path, names: Collection[str] | None = None, *, published: bool = False
) -> tuple[ForgetSetRecord | None, list[Check]]:
    """Check a model's folder by itself, without data or salt, and without loading anything of it.

    Args:
        folder: with weights, `forget_set.json`, `README.md` and, where something was measured, `results.json`.
        names: of all files that there are, where the folder has a part of them; by default what is in the folder.
        published: whether it is the repository itself, in which the trainer's work has no place.

    Returns:
        the record, or None where there is none that can be read; and the checks.
    """
    folder = Path(folder)
    try:
        record = ForgetSetRecord.from_json(folder / RECORD)
    except FileNotFoundError:
        return None, [Check("there is a record", False, f"{folder} has no {RECORD}. {WRITE_ALL}")]
    except (OSError, ValueError) as error:
        return None, [Check("the record can be read", False, str(error))]
    there = names_in(folder) if names is None else names
    checks = [_made(check, folder, record) for check in FOLDER_CHECKS]
    return record, [
        Check("the record can be read", True, f"{record.rows} samples, {record.status}"),
        *checks,
        nothing_else(record, there, published),
    ]


def _made(check: Callable[[Path, ForgetSetRecord], Check], folder: Path, record: ForgetSetRecord) -> Check:
    """A check, which fails where it cannot be made: the record is anybody's, and may have anything in it."""
    try:
        return check(folder, record)
    except Exception as error:
        name = f"what the record says of its {check.__name__.strip('_')} can be checked"
        return Check(name, False, f"{type(error).__name__}: {error}")


def require_whole(folder: str | Path) -> ForgetSetRecord:
    """The record of a folder in which everything belongs together; what else lies in it is not published from it.

    Raises:
        ValueError: if something does not; the message says what, and what to do.
    """
    record, checks = check_folder(folder, ())
    failed = [f"{check.name}: {check.detail}" for check in checks if check.holds is False]
    if failed or record is None:
        raise ValueError(f"{folder} is not whole. What should hold and does not: {'; '.join(failed)}. {SAVE_AGAIN}")
    return record


def check_salt(record: ForgetSetRecord, salt: Salt) -> Check:
    """Whether a salt is the one that the record commits to."""
    name = "the salt is the record's"
    if record.digests is None:
        return Check(name, None, "the record has no digests")
    holds = record.digests["salt_commitment"] == salt.commitment
    return Check(name, holds, "" if holds else "the record commits to another")


def check_sample(record: ForgetSetRecord, salt: Salt, name: str, content: bytes, expected: bool | None) -> Check:
    """Whether a sample is in the forget set, by the record.

    A sample's digest is of its class too. Every class is tried, and none that the record or the configuration names,
    which may be forged: so no forgery of either hides a sample that is listed.

    Args:
        record: the record; it has digests.
        salt: its salt.
        name: what to call the sample.
        content: the digest of its content (`sample_contents`).
        expected: True if it should be in, False if not; None to tell only.
    """
    assert record.digests is not None
    listed = Counter(record.digests["samples"])
    times = 0
    found: list[int] = []
    for label in range(CLASSES):
        if here := listed.get(salt.digest(content, label)):
            times, found = times + here, [*found, label]
    where = f"class {', '.join(map(str, found))}" + (f", {times} times" if times > 1 else "")
    detail = f"IN the forget set ({where})" if found else f"NOT in the forget set, {NOT_IN}"
    return Check(name, expected is None or expected == bool(found), detail)


def follows_nothing(record: ForgetSetRecord) -> Check:
    """Whether the record is the first of its chain; the records before it are looked at with `chain.check_chain`."""
    name = "the records before it"
    if record.previous is None:
        return Check(name, True, "there are none: it is the first")
    return Check(name, None, f"needs the queue's folder (hf-lotus verify QUEUE): {record.previous[:16]}… is in it")


def is_finished(record: ForgetSetRecord) -> Check:
    """Whether unlearning had ended when the weights were saved."""
    return Check("unlearning had ended", record.status == FINISHED, "" if record.status == FINISHED else record.status)
