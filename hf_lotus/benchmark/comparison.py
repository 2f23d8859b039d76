"""Unlearn one model by many methods, and measure them all against the same original and retrained model."""

from __future__ import annotations

import copy
import gc
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.utils.data import Dataset
from transformers import TrainingArguments
from transformers.trainer_utils import SaveStrategy
from transformers.utils import logging

from hf_lotus.data.prepared import ready_splits
from hf_lotus.data.sized import sized
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.metrics import ORIGINAL, RETRAIN
from hf_lotus.evaluation.provenance import provenance
from hf_lotus.evaluation.results import CONTROL_ROWS, ModelResult, UnlearningResult
from hf_lotus.evaluation.row_details import row_details
from hf_lotus.methods import Retrain, UnlearningMethod, describe
from hf_lotus.methods.base import RefusedModel
from hf_lotus.publishing.digests import weights_digest
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.fingerprint import identity_digest
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.files import write_whole

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.get_logger(__name__)

_MEASURED = "measured.json"
# Counts up when a kept row holds something else than before: older ones are then measured anew.
_ROW_VERSION = 3


class _DataOptions(TypedDict, total=False):
    """How `UnlearningTrainer` reads the data, where that cannot be told from them."""

    image_column: str | None
    label_column: str | None
    data_collator: Callable | None


class _TrainerOptions(_DataOptions):
    processing_class: object | None


@dataclass(frozen=True)
class Contender:
    """One row of a comparison.

    Attributes:
        method: the unlearning method.
        arguments: training argument → value, where this method's differ from the comparison's.
    """

    method: UnlearningMethod
    arguments: Mapping[str, object] = field(default_factory=dict)


class Comparison:
    """Several methods on one model and one forget set.

    Each method starts from its own copy of the model. What it has measured is kept in the output folder, and taken
    from there when the comparison is run again with the same model, data and settings: a comparison that was broken
    off goes on where it stopped. The retrained model is kept there too; other weights are not saved. The result's
    provenance has under "details" what a report shows of each model (`row_details`).

    Args:
        model: the trained classifier; not changed.
        args: training arguments for all; each method settles the open ones. `output_dir` is the comparison's folder.
        forget_dataset: what to forget, as in `UnlearningTrainer`.
        retain_dataset: the rest of the training data.
        unseen_dataset: data that was never trained on.
        eval_dataset: the test set.
        retrain_model: a model trained without the forget set; or a contender `Retrain` trains one.
        processing_class: the model's image processor or tokenizer.
        on_measured: called with each row as soon as it is there.
        **options: `image_column`, `label_column`, `data_collator` of `UnlearningTrainer`.
    """

    def __init__(
        self,
        model: nn.Module,
        args: UnlearningArguments,
        *,
        forget_dataset: Dataset,
        retain_dataset: Dataset,
        unseen_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        retrain_model: nn.Module | None = None,
        processing_class: object | None = None,
        on_measured: Callable[[ModelResult], None] | None = None,
        **options: Unpack[_DataOptions],
    ):
        self.model, self.args = model, args
        self.options: _TrainerOptions = {**options, "processing_class": processing_class}
        self.retrain_model, self.on_measured = retrain_model, on_measured or (lambda result: None)
        given = {"forget": forget_dataset, "retain": retain_dataset, "unseen": unseen_dataset, "test": eval_dataset}
        # Made ready once: every trainer then takes the same decoded images.
        self.splits, _ = ready_splits(
            given,
            getattr(model, "config", None),
            processing_class,
            image_column=options.get("image_column"),
            label_column=options.get("label_column"),
        )

    def run(self, contenders: Mapping[str, Contender], **about: object) -> UnlearningResult:
        """Unlearn by each method in turn, and measure.

        Args:
            contenders: row name → method; a `Retrain` among them is trained first and is what gaps are measured from.
            **about: provenance to add, as JSON values, such as the digest of the split.

        Raises:
            ValueError: if there are two retrained models, a row has a name that the table uses itself, or no method is
                defined for the model. A method that is not, beside others that are, is left out, with a note.
        """
        retrains = {name: c for name, c in contenders.items() if isinstance(c.method, Retrain)}
        others = {name: c for name, c in contenders.items() if name not in retrains}
        if len(retrains) + (self.retrain_model is not None) > 1:
            raise ValueError("There can be one retrained model: give it, or have one trained by one `retrain` row.")
        if reserved := set(CONTROL_ROWS) & others.keys():
            raise ValueError(f"{reserved.pop()!r} is the name of another row; call the method something else.")
        if not others:
            raise ValueError("There is nothing to compare: name at least one method besides retrain.")
        retrain_seconds = None
        for contender in retrains.values():
            retrain_seconds = self._retrain(contender)
        retrained = None if self.retrain_model is None else weights_digest(self.retrain_model)
        evaluator: Evaluator | None = None
        rows: dict[str, ModelResult] = {}
        details: dict[str, dict[str, Any]] = {}
        left_out: list[str] = []
        for name, contender in others.items():
            # The original's and the retrained model's predictions are made once for all.
            try:
                trainer = self._trainer(name, contender, retrain_model=self.retrain_model, evaluator=evaluator)
            except RefusedModel as refusal:
                logger.warning(f"{name} is left out: {refusal}")
                left_out.append(f"{name} is left out: {refusal}")
                continue
            evaluator = trainer.evaluator
            rows[name], details[name] = self._measured(name, trainer, retrained)
            self.on_measured(rows[name])
            trainer.accelerator.free_memory()
            del trainer
            gc.collect()
        if PartialState().is_main_process:
            shutil.rmtree(self._logits, ignore_errors=True)
        if evaluator is None:
            raise ValueError(f"There is nothing to compare: {' '.join(left_out)}")
        yardstick = evaluator.yardstick
        models = [yardstick.measure(ORIGINAL, yardstick.original), *rows.values()]
        details = {ORIGINAL: row_details(yardstick, yardstick.original), **details}
        if yardstick.retrained is not None:
            models.append(yardstick.measure(RETRAIN, yardstick.retrained, retrain_seconds))
            details[RETRAIN] = row_details(yardstick, yardstick.retrained)
        samples = {split: len(sized(data)) for split, data in self.splits.items() if data is not None}
        settings = {name: {**describe(c.method), "arguments": dict(c.arguments)} for name, c in contenders.items()}
        run = provenance(seed=self.args.seed, samples=samples, methods=settings, details=details, **about)
        return UnlearningResult(tuple(models), yardstick.controls, (*yardstick.notes, *left_out), run)

    @property
    def _logits(self) -> str:
        """Where the teacher's logits are kept for all methods, until there is no other to come."""
        return os.path.join(_folder(self.args), "teacher_logits")

    def _trainer(
        self,
        name: str,
        contender: Contender,
        retrain_model: nn.Module | None = None,
        evaluator: Evaluator | None = None,
    ) -> UnlearningTrainer:
        folder, shared = os.path.join(_folder(self.args), name), self.args.teacher_logits_dir or self._logits
        arguments = {"output_dir": folder, "teacher_logits_dir": shared, "save_strategy": SaveStrategy.NO}
        args = self.args.changed(**contender.arguments, **arguments)
        forget, retain = self.splits["forget"], self.splits["retain"]
        assert forget is not None and retain is not None
        return UnlearningTrainer(
            copy.deepcopy(self.model),
            args,
            contender.method,
            forget_dataset=forget,
            retain_dataset=retain,
            unseen_dataset=self.splits["unseen"],
            eval_dataset=self.splits["test"],
            retrain_model=retrain_model,
            evaluator=evaluator,
            **self.options,
        )

    def _measured(
        self, name: str, trainer: UnlearningTrainer, retrained: str | None
    ) -> tuple[ModelResult, dict[str, Any]]:
        path = Path(_folder(trainer.args)) / _MEASURED
        key = _key(trainer, retrained)
        if (kept := _kept(path, key)) is not None:
            return ModelResult(**{**kept["measured"], "name": name}), kept["details"]
        trainer.train()
        predictions, yardstick = trainer.student_predictions(), trainer.evaluator.yardstick
        measured = yardstick.measure(name, predictions, trainer.unlearning_seconds)
        details = row_details(yardstick, predictions, trainer.state.log_history)
        details["passes"] = trainer.unlearning_passes
        if trainer.is_world_process_zero():
            _keep(path, key, {"measured": measured.to_dict(), "details": details})
        return measured, details

    def _retrain(self, contender: Contender) -> float:
        """Train the model to measure gaps from, or take the one that was trained before; return its seconds."""
        trainer = self._trainer(RETRAIN, contender)
        path = Path(_folder(trainer.args)) / _MEASURED
        key = _key(trainer)
        kept = _kept(path, key)
        if kept is None:
            trainer.train()
            trainer.save_model(_internal_call=True)
            kept = {"seconds": trainer.unlearning_seconds}
            if trainer.is_world_process_zero():
                _keep(path, key, kept)
        else:
            trainer.load_weights(_folder(trainer.args))
        self.retrain_model = trainer.run.student  # its own copy already
        return kept["seconds"]


def _folder(args: TrainingArguments) -> str:
    """The output folder, which transformers settles where none was given."""
    assert args.output_dir is not None
    return args.output_dir


def _key(trainer: UnlearningTrainer, retrained: str | None = None) -> str:
    """A digest of all that determines a row: the run, the sets it is measured on, and the model gaps are from."""
    return identity_digest(trainer.checkpoints.identify(ended=True), _ROW_VERSION, retrained)


def _kept(path: Path, key: str) -> dict[str, Any] | None:
    """What was measured before with the same key, as the first rank sees it: all must go the same way."""
    row = None
    if PartialState().is_main_process and path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        row = kept["row"] if kept.get("key") == key else None
        if row is None:
            logger.warning(f"{path.parent} holds a row of other settings, which is measured anew.")
    return broadcast_object_list([row])[0]


def _keep(path: Path, key: str, row: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"key": key, "row": row}, indent=2) + "\n")
