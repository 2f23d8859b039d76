"""The checks of a model's folder by itself, without data or salt, and without loading anything of it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Collection
from itertools import zip_longest
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from hf_lotus.evaluation.metrics import METRICS
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.publishing.audited import audit_problems
from hf_lotus.publishing.bom import BOM, make_bom, model_name
from hf_lotus.publishing.check import Check
from hf_lotus.publishing.digests import merkle_root
from hf_lotus.publishing.manifest import LISTED, WEIGHTS, changed_files, matches, strays
from hf_lotus.publishing.model_card import CARD, header_figures, recorded_card
from hf_lotus.publishing.record import RECORD, ForgetSetRecord
from hf_lotus.utils.documents import read_document
from hf_lotus.version import __version__

RESULTS = "results.json"


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
    same = same and found.audit == recorded.audit
    return Check(name, same, "" if same else "they differ")


def _audit(folder: Path, record: ForgetSetRecord) -> Check:
    name = "the audit is the one that the record tells of"
    problems = audit_problems(folder, record.audit)
    return Check(
        name, None if problems is None else not problems, "; ".join(problems or ["there is none"] * (problems is None))
    )


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
FOLDER_CHECKS: tuple[Callable[[Path, ForgetSetRecord], Check], ...] = (
    _digests,
    _files,
    _bound,
    _code,
    _changed,
    _results,
    _card,
    _materials,
    _audit,
)


def nothing_else(record: ForgetSetRecord, names: Collection[str], published: bool) -> Check:
    """Whether there is nothing that the record does not list.

    Args:
        record: the folder's.
        names: of all files that are there.
        published: whether that is a repository, in which the trainer's work has no place.
    """
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
