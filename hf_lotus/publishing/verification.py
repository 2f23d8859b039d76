"""Whether a published model's record, weights, results and card belong together, and what the record proves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from hf_lotus.evaluation.metrics import METRICS
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.publishing.audited import audit_problems
from hf_lotus.publishing.digests import Salt, merkle_root
from hf_lotus.publishing.model_card import CARD, header_figures
from hf_lotus.publishing.record import FINISHED, RECORD, ForgetSetRecord, weight_digests

RESULTS = "results.json"


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


def check_folder(folder: str | Path) -> tuple[ForgetSetRecord | None, list[Check]]:
    """Check a model's folder by itself, without data or salt.

    Args:
        folder: with weights, `forget_set.json`, `README.md` and, where something was measured, `results.json`.

    Returns:
        the record, or None where there is none that can be read; and the checks.
    """
    folder = Path(folder)
    try:
        record = ForgetSetRecord.from_json(folder / RECORD)
    except FileNotFoundError:
        return None, [Check("there is a record", False, f"{folder} has no {RECORD}")]
    except (OSError, ValueError) as error:
        return None, [Check("the record can be read", False, str(error))]
    return record, [
        Check("the record can be read", True, f"{record.rows} samples, {record.status}"),
        _digests(record),
        _weights(folder, record),
        _changed(record),
        _results(folder, record),
        _card(folder, record),
        *_audit(folder, record),
    ]


def _digests(record: ForgetSetRecord) -> Check:
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


def _weights(folder: Path, record: ForgetSetRecord) -> Check:
    name = "the weights are those of the record"
    found = weight_digests(folder)
    if not found:
        return Check(name, False, f"{folder} has no weights")
    wrong = [f"{file} is not in the record" for file in sorted(found.keys() - record.weights.keys())]
    wrong += [f"{file} is missing" for file in sorted(record.weights.keys() - found.keys())]
    wrong += [f"{file} is another" for file in sorted(found.keys() & record.weights.keys())
              if found[file] != record.weights[file]]  # fmt: skip
    return Check(name, not wrong, "; ".join(wrong) or ", ".join(sorted(found)))


def _changed(record: ForgetSetRecord) -> Check:
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


def _card(folder: Path, record: ForgetSetRecord) -> Check:
    name = "the card has the figures of the record, and its digest"
    path = folder / CARD
    if not path.is_file():
        return Check(name, False, f"there is no {CARD}; hf-lotus card writes it")
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


def _audit(folder: Path, record: ForgetSetRecord) -> list[Check]:
    problems = audit_problems(folder, record.audit)
    if problems is None:
        return []
    return [Check("the audit is the one that the record tells of", not problems, "; ".join(problems))]


def require_whole(folder: str | Path) -> ForgetSetRecord:
    """The record of a folder in which everything belongs together.

    Raises:
        ValueError: if something does not; the message says what, and what to do.
    """
    record, checks = check_folder(folder)
    failed = [f"{check.name}: {check.detail}" for check in checks if check.holds is False]
    if failed or record is None:
        raise ValueError(
            f"{folder} is not whole. What should hold and does not: {'; '.join(failed)}. Save the model again "
            "(trainer.push_to_hub(), or trainer.save_model() and trainer.create_model_card()), or write the card anew "
            "with hf-lotus card."
        )
    return record


def check_salt(record: ForgetSetRecord, salt: Salt) -> Check:
    """Whether a salt is the one that the record commits to."""
    name = "the salt is the record's"
    if record.digests is None:
        return Check(name, None, "the record has no digests")
    holds = record.digests["salt_commitment"] == salt.commitment
    return Check(name, holds, "" if holds else "the record commits to another")


def check_sample(
    record: ForgetSetRecord, salt: Salt, name: str, content: bytes, labels: Sequence[int], expected: bool | None
) -> Check:
    """Whether a sample is in the forget set, by the record.

    Args:
        record: the record; it has digests.
        salt: its salt.
        name: what to call the sample.
        content: the digest of its content (`sample_contents`).
        labels: the classes that it may have had in the data set.
        expected: True if it should be in, False if not; None to tell only.
    """
    assert record.digests is not None
    listed = Counter(record.digests["samples"])
    found = [label for label in labels if listed[salt.digest(content, label)]]
    times = sum(listed[salt.digest(content, label)] for label in found)
    where = f"class {', '.join(map(str, found))}" + (f", {times} times" if times > 1 else "")
    detail = f"IN the forget set ({where})" if found else "NOT in the forget set"
    return Check(name, expected is None or expected == bool(found), detail)


def is_finished(record: ForgetSetRecord) -> Check:
    """Whether unlearning had ended when the weights were saved."""
    return Check("unlearning had ended", record.status == FINISHED, "" if record.status == FINISHED else record.status)
