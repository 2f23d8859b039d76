"""Entering an audit into the folder that it was written to: results, record and card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from huggingface_hub import ModelCard

from hf_lotus.evaluation.findings import AuditReport
from hf_lotus.evaluation.results import UnlearningResult, is_control_row
from hf_lotus.publishing.attestation import SIGNATURE
from hf_lotus.publishing.audited import audit_block
from hf_lotus.publishing.folder_checks import RESULTS
from hf_lotus.publishing.model_card import CARD, write_model_card, write_recorded_card
from hf_lotus.publishing.record import RECORD, ForgetSetRecord
from hf_lotus.publishing.verification import require_whole


def require_own_folder(folder: str | Path, model: str | None) -> None:
    """Refuse an audit that could not be entered where it is to be written, before anything is measured.

    Args:
        folder: where the audit is to be written.
        model: the audited model's folder or id; None where only outputs are audited.

    Raises:
        ValueError: if it is the folder of another model, or of this one and not whole.
    """
    if not (Path(folder) / RECORD).is_file():
        return
    if model is None or not Path(model).is_dir() or Path(model).resolve() != Path(folder).resolve():
        raise ValueError(
            f"{folder} is the folder of a model that is not the audited one: its record would tell of another's "
            "audit. Give a new folder as output_dir, or the audited model's own."
        )
    require_whole(folder)


def enter_audit(folder: str | Path, report: AuditReport) -> str:
    """Enter an audit whose document is in a folder into what else is there.

    Args:
        folder: with `audit.json`; the model's, or any other.
        report: what that document says.

    Returns:
        a sentence that says where it was entered; "" where there was nothing.
    """
    folder, entered = Path(folder), []
    block, result = audit_block(folder, report), None
    if (folder / RESULTS).is_file():
        result = replace(UnlearningResult.from_json(folder / RESULTS), audit=block)
        result.to_json(folder / RESULTS)
        entered.append(RESULTS)
    if (folder / RECORD).is_file():
        record = replace(ForgetSetRecord.from_json(folder / RECORD), audit=block)
        record.listing(folder, **record.card).to_json(folder / RECORD)
        write_recorded_card(folder)
        entered += [RECORD, CARD]
    elif result is not None and (folder / CARD).is_file():
        _write_card(folder, result)
        entered.append(CARD)
    signed = " The signature was of the folder as it was: sign it anew." if (folder / SIGNATURE).is_file() else ""
    return f"Its findings were entered into {', '.join(entered)} there.{signed}" if entered else ""


def _write_card(folder: Path, result: UnlearningResult) -> None:
    """The card of a comparison anew, with the header's words that it had from its owner."""
    header = ModelCard.load(folder / CARD).data
    metadata = {key: getattr(header, key, None) for key in ("language", "license", "tags", "model_name")}
    name = next((row.name for row in result.models if not is_control_row(row.name)), result.models[0].name)
    write_model_card(folder, result, name, **metadata)
