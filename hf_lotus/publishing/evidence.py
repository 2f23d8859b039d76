"""What a measurement leaves in a model's folder: results.json, the figure, and the card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.publishing.folder_checks import RESULTS
from hf_lotus.publishing.model_card import FIGURE, write_model_card, write_recorded_card
from hf_lotus.publishing.record import RECORD, ForgetSetRecord
from hf_lotus.reporting.entropy_figure import comparison_figure


def write_evidence(
    folder: str | Path,
    result: UnlearningResult,
    name: str,
    predictions: Mapping[str, Predictions],
    evaluator: Evaluator,
    record: ForgetSetRecord | None = None,
    **card: Any,
) -> None:
    """Write results, figure, record and card of one comparison into `folder`, in the order in which they bind.

    Args:
        folder: the model's folder, made if it is not there.
        result: the comparison.
        name: the unlearned model's name in it.
        predictions: the unlearned model's predictions.
        evaluator: holds those of the original and the retrained model.
        record: of the forget set, where there is one: it then lists all files, and the card says what it says.
        **card: `language`, `license`, `tags` and `model_name` of `write_model_card`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    result.to_json(folder / RESULTS)
    comparison_figure(evaluator.yardstick, name, predictions, folder / FIGURE)
    if record is not None:
        record.listing(folder, **card).to_json(folder / RECORD)
        write_recorded_card(folder)
    else:
        write_model_card(folder, result, name, **card)
