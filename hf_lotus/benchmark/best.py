"""The model of a comparison's best row: its weights, with record and card, ready to be pushed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.publishing.folder_checks import RESULTS
from hf_lotus.publishing.model_card import write_recorded_card
from hf_lotus.publishing.record import RECORD, ForgetSetRecord
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.files import write_whole

# In the model's folder: of which row it is. Written last, and never published.
CHOICE = "choice.json"


class BestModel:
    """The folder of the best model so far.

    Args:
        folder: where it is, or will be. It holds nothing else.
        name: what its card calls the model; the name of the folder that this one is in, if None.
    """

    def __init__(self, folder: str | Path, name: str | None = None):
        self.folder = Path(folder)
        self.name = name or self.folder.resolve().parent.name

    def holds(self, row: str, key: str) -> bool:
        """Whether the whole model of a row is there, as the first rank sees it: all must go the same way."""
        choice = self._choice() if PartialState().is_main_process else None
        is_it = choice is not None and (choice["row"], choice["key"]) == (row, key)
        return broadcast_object_list([is_it])[0]

    def take(
        self,
        trainer: UnlearningTrainer,
        row: str,
        key: str,
        predictions: Mapping[str, Predictions],
        retrain_seconds: Sequence[float | None],
        given: Mapping[str, Mapping[str, float | None]],
        **about: object,
    ) -> None:
        """Put a trainer's model in the place of what is there, with its results, record and card; on all ranks.

        Args:
            trainer: after `train`; its output folder is this one from then on.
            row: the row that it is of.
            key: digest of what determines the row.
            predictions: of its student.
            retrain_seconds: what each retrained model took, where it is known.
            given: row → values, as in `UnlearningTrainer.compare`; of the student under the method's name.
            **about: further provenance, as JSON values.
        """
        if PartialState().is_main_process:
            shutil.rmtree(self.folder, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()
        trainer.args.output_dir = str(self.folder)
        result = trainer.compare(predictions, retrain_seconds, given, **about)
        trainer.create_model_card(model_name=self.name)
        if PartialState().is_main_process:
            choice = {"row": row, "key": key, "name": trainer.method_name, "notes": list(result.notes)}
            write_whole(self.folder / CHOICE, json.dumps(choice, indent=1) + "\n")

    def explain(self, notes: Sequence[str], **about: object) -> None:
        """Have results, record and card say how the model was chosen; the first rank's job.

        Args:
            notes: what a reader of the figures must know of the choice; in place of those of an earlier call.
            **about: the same for programs, as JSON values: provenance of the results.
        """
        choice = self._choice()
        assert choice is not None  # as it was taken
        record = ForgetSetRecord.from_json(self.folder / RECORD)
        result = UnlearningResult.from_json(self.folder / RESULTS)
        result = replace(result, notes=(*choice["notes"], *notes), provenance={**result.provenance, **about})
        result.to_json(self.folder / RESULTS)
        record.measured(result, choice["name"]).listing(self.folder, **record.card).to_json(self.folder / RECORD)
        write_recorded_card(self.folder)

    def _choice(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / CHOICE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
