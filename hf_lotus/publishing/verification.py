"""Whether a published model's record, weights, results and card belong together, and what the record proves."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from hf_lotus.evaluation.metrics import METRICS
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.publishing.bom import BOM, make_bom, model_name
from hf_lotus.publishing.digests import Salt, merkle_root
from hf_lotus.publishing.manifest import LISTED, WEIGHTS, changed_files, matches, names_in, strays
from hf_lotus.publishing.model_card import CARD, header_figures, recorded_card
from hf_lotus.publishing.record import FINISHED, RECORD, ForgetSetRecord
from hf_lotus.utils.documents import read_document
from hf_lotus.version import __version__

RESULTS = "results.json"
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


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what should hold.
        holds: whether it does; None where it could not be told.
        detail: what was found, or what it would take to tell.
    """

    name: str
    holds: bool | None
    detail: str = ""

    def __str__(self) -> str:
        mark = {True: "ok    ", False: "FAILED", None: "–     "}[self.holds]
        line = f"{mark}  {self.name}" + (f": {self.detail}" if self.detail else "")
        # Names in a record are anybody's: a terminal would obey some characters.
        return "".join(c if c.isprintable() else "\ufffd" for c in line)


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
    checks = [_made(check, folder, record) for check in _CHECKS]
    return record, [
        Check("the record can be read", True, f"{record.rows} samples, {record.status}"),
        *checks,
        _nothing_else(record, there, published),
    ]


def _made(check: Callable[[Path, ForgetSetRecord], Check], folder: Path, record: ForgetSetRecord) -> Check:
    """A check, which fails where it cannot be made: the record is anybody's, and may have anything in it."""
    try:
        return check(folder, record)
    except Exception as error:
        name = f"what the record says of its {check.__name__.strip('_')} can be checked"
        return Check(name, False, f"{type(error).__name__}: {error}")


def _digests(folder: Path, record: ForgetSetRecord) -> Check:
    name = "the record's digests agree with its Merkle root and its counts"
    wrong = []
    for what, counted in {
        "class histogram": record.class_histogram and sum(c["rows"] for c in record.class_histogram),
        "row numbers": record.row_numbers and len(record.row_numbers),
        "digests": record.digests and len(record.digests["samples"]),
    }.items():
        if counted not in (None, record.rows):
            wrong.append(f"{record.rows} samples, but the {what} are of {counted}")
    if record.digests is None:
        return Check(name, False if wrong else None, "; ".join(wrong) or "the record has no digests")
    if merkle_root(record.digests["samples"]) != record.digests["merkle_root"]:
        wrong.append("the root is not that of the digests")
    return Check(name, not wrong, "; ".join(wrong))


def _files(folder: Path, record: ForgetSetRecord) -> Check:
    name = "the files are those of the record"
    never = [file for file in sorted(record.files) if not matches(file, (*LISTED, *WEIGHTS))]
    wrong = [f"{file} is none that hf-lotus publishes, and the record lists it" for file in never]
    wrong += changed_files(folder, record.files)
    if not record.weights:
        wrong.append("it has no weights: trainer.save_model() saves them with it")
    return Check(name, not wrong, "; ".join(wrong) or ", ".join(sorted(record.files)))


def _bound(folder: Path, record: ForgetSetRecord) -> Check:
    name = "the record lists every published file"
    if record.format_version == 1:
        detail = "it is of version 1, which lists the weights alone: nothing tells whether another file was changed"
        return Check(name, None, detail)
    return Check(name, True)


def _code(folder: Path, record: ForgetSetRecord) -> Check:
    name = "no configuration asks to run code of a repository"
    asks = [path.name for path in sorted(folder.glob("*.json")) if path.name != RECORD and _asks_to_run(path)]
    return Check(name, not asks, f"{', '.join(asks)} has auto_map: do not set trust_remote_code" if asks else "")


def _asks_to_run(path: Path) -> bool:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False  # a file that cannot be read asks for nothing
    return isinstance(document, dict) and "auto_map" in document


def _nothing_else(record: ForgetSetRecord, names: Collection[str], published: bool) -> Check:
    name = "there is no other file"
    wrong, work = strays(names, record.files)
    if published:
        wrong, work = sorted([*wrong, *work]), []
    if record.format_version == 1:
        weights = [file for file in wrong if matches(file, WEIGHTS)]
        detail = (
            f"{', '.join(weights)} is not in the record" if weights else f"not bound: {', '.join(wrong) or 'none'}"
        )
        return Check(name, False if weights else None, detail)
    if wrong:
        return Check(name, False, f"{', '.join(wrong)} is not in the record: load nothing from here, or delete it")
    return Check(name, True, f"but for work of the trainer, which nothing loads: {', '.join(work)}" if work else "")


def _changed(folder: Path, record: ForgetSetRecord) -> Check:
    name = "unlearning changed the weights"
    if record.unchanged:
        return Check(name, False, "they are the base model's, bit for bit: nothing was unlearned")
    known = record.base_weights is not None
    return Check(name, True if known else None, "" if known else "the record is of a version that does not say")


def _results(folder: Path, record: ForgetSetRecord) -> Check:
    name = f"{RESULTS} has the figures of the record"
    recorded = record.result
    if not (folder / RESULTS).is_file():
        return Check(name, None if recorded is None else False, f"there is no {RESULTS}")
    if recorded is None:
        return Check(name, False, f"the record has none: {RESULTS} is of other weights")
    try:
        found = UnlearningResult.from_json(folder / RESULTS)
    except (OSError, ValueError) as error:
        return Check(name, False, str(error))
    same = (found.models, found.controls, found.notes) == (recorded.models, recorded.controls, recorded.notes)
    return Check(name, same, "" if same else "they differ")


def _materials(folder: Path, record: ForgetSetRecord) -> Check:
    """Whether a bill of materials is the one that the record makes."""
    name = "the bill of materials is the one that the record makes"
    if not (folder / BOM).is_file() or record.format_version == 1:
        return Check(name, None, "there is none" if record.format_version > 1 else "the record is of version 1")
    if importlib.util.find_spec("cyclonedx") is None:
        return Check(name, None, "that needs cyclonedx-python-lib: pip install 'hf-lotus[bom]'")
    try:
        same = read_document(folder / BOM) == make_bom(record, model_name(folder, record))
    except (OSError, ValueError) as error:
        return Check(name, False, str(error))
    return Check(name, same, "" if same else f"{BOM} is another: hf-lotus bom writes it anew{_other_version(record)}")


def _card(folder: Path, record: ForgetSetRecord) -> Check:
    """Whether the card is the one that the record makes: nobody's words stand on it but those."""
    name = "the card is the one that the record makes"
    if not (folder / CARD).is_file():
        return Check(name, False, f"there is no {CARD}: trainer.create_model_card() or hf-lotus card writes it")
    if record.format_version == 1:
        return _card_of_version_1(folder / CARD, record)
    try:
        found = (folder / CARD).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        return Check(name, False, f"{CARD} cannot be read: {error}")
    made = recorded_card(record).splitlines()
    for number, (line, expected) in enumerate(zip_longest(found, made), start=1):
        if line != expected:
            detail = f"{CARD} differs in line {number}: {_shown(line)}, where the record makes {_shown(expected)}"
            return Check(name, False, f"{detail}. hf-lotus card writes it anew{_other_version(record)}")
    return Check(name, True)


def _shown(line: str | None) -> str:
    return "nothing" if line is None else repr(line if len(line) <= 80 else f"{line[:80]}…")


def _other_version(record: ForgetSetRecord) -> str:
    """A card is made again by this version: where another wrote it, that may be the difference."""
    wrote = record.versions.get("hf-lotus")
    if wrote in (None, __version__):
        return ""
    return f"; hf-lotus {wrote} wrote it, and may have other words: verify by that version"


def _card_of_version_1(path: Path, record: ForgetSetRecord) -> Check:
    """A card of version 1 has the record's figures and digest; its other words are bound by nothing."""
    name = "the card has the figures of the record, and its digest"
    try:
        card = ModelCard.load(path)
    except (ValueError, yaml.YAMLError) as error:
        return Check(name, False, f"its header cannot be read: {' '.join(str(error).split())}")
    wrong = []
    if record.digest not in card.text:
        wrong.append("it is the card of another record")
    recorded = record.result
    if recorded is not None:
        if recorded.to_markdown() not in card.text:
            wrong.append("its table is another")
        shown = {r.metric_name: r.metric_value for r in card.data.eval_results or []}
        assert record.results is not None
        figures = header_figures(recorded[record.results["name"]])
        expected = {METRICS[name].words: value for name, value in figures.items()}
        differing = sorted(m for m in expected.keys() | shown.keys() if expected.get(m) != shown.get(m))
        if differing:
            wrong.append(f"its header differs in {', '.join(differing)}")
    elif card.data.eval_results:
        wrong.append("it has figures, and the record has none")
    return Check(name, not wrong, "; ".join(wrong))


# Every check of a folder by itself, in the order in which they are printed.
_CHECKS: tuple[Callable[[Path, ForgetSetRecord], Check], ...] = (
    _digests,
    _files,
    _bound,
    _code,
    _changed,
    _results,
    _card,
    _materials,
)


def require_whole(folder: str | Path, *, alone: bool = False) -> ForgetSetRecord:
    """The record of a folder in which everything belongs together.

    Args:
        folder: the model's.
        alone: whether there may be nothing else in it, as where a model is to be loaded from it. What is published
            from it is what the record lists, and no more.

    Raises:
        ValueError: if something does not; the message says what, and what to do.
    """
    record, checks = check_folder(folder, None if alone else ())
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
    times, found = 0, []
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
