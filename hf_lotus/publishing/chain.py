"""Records that follow each other, as a queue's runs do: each names the digest of the one before, back to the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.publishing.verification import Check, check_folder, is_finished


def check_chain(folders: Sequence[Path]) -> Iterator[Check]:
    """Check the folders of models that were made from one another, and that their records are one chain.

    Every file of every one of them is read, so a byte that was changed in an earlier model's weights is found.

    Args:
        folders: of the models, the first one first.
    """
    previous: ForgetSetRecord | None = None
    for number, folder in enumerate(folders):
        record, checks = check_folder(folder)
        if record is not None:
            checks.append(is_finished(record))
        wrong = [f"{check.name}: {check.detail}" for check in checks if check.holds is False]
        yield Check(f"{folder} is whole", not wrong, "; ".join(wrong))
        if record is None:  # what follows it is not looked at: nothing tells what it should follow
            return
        broken = _broken(record, previous, folders[number - 1] if number else None)
        yield Check(f"the record in {folder} follows the one before it", not broken, "; ".join(broken))
        previous = record


def _broken(record: ForgetSetRecord, previous: ForgetSetRecord | None, before: Path | None) -> list[str]:
    """What keeps a record from following another; nothing if it does."""
    if previous is None:
        return [] if record.previous is None else ["it is not the first: an earlier model's folder is missing"]
    wrong = []
    if record.previous != previous.digest:
        wrong.append(f"it was written after another record than the one in {before}")
    if record.digests is None or previous.digests is None:
        return [*wrong, "one of the two has no digests"]
    if record.digests["salt_commitment"] != previous.digests["salt_commitment"]:
        wrong.append("it commits to another salt")
    if lost := (Counter(previous.digests["samples"]) - Counter(record.digests["samples"])).total():
        wrong.append(f"{lost} samples that were forgotten before are no longer listed")
    if list(record.requests[: len(previous.requests)]) != list(previous.requests):
        wrong.append("requests that were served before are no longer listed")
    return wrong


def require_chain(folders: Sequence[Path]) -> None:
    """Raise a ValueError unless models that were made from one another are what their records say.

    Args:
        folders: of the models, the first one first.
    """
    failed = [f"{check.name}: {check.detail}" for check in check_chain(folders) if check.holds is False]
    if failed:
        raise ValueError(
            f"Nothing is unlearned further from a model that is not what its record says. What should hold and does "
            f"not: {'; '.join(failed)}. Put the files back from a copy, or begin another queue from the original."
        )
