"""Unlearn one model by many methods, and measure them all against the same original and retrained models."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from torch import nn
from torch.utils.data import Dataset
from transformers.trainer_utils import SaveStrategy
from transformers.utils import logging

from hf_lotus.benchmark.best import BestModel
from hf_lotus.benchmark.kept import MEASURED, keep_row, kept_row
from hf_lotus.benchmark.rows import ROW_VERSION, Rows, folder_of
from hf_lotus.data.columns import InputOptions
from hf_lotus.data.prepared import ready_splits
from hf_lotus.data.sized import sized
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.provenance import provenance
from hf_lotus.evaluation.results import ModelResult, UnlearningResult, is_control_row, retrained_row
from hf_lotus.methods import Retrain, UnlearningMethod, describe
from hf_lotus.methods.base import RefusedModel
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.fingerprint import identity_digest
from hf_lotus.trainer.relearning import Relearning
from hf_lotus.trainer.trainer import UnlearningTrainer
from hf_lotus.utils.seeds import AGAIN, derived_seed

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.get_logger(__name__)

# The folder of the best row's model.
BEST = "best"


class _DataOptions(InputOptions, total=False):
    """How `UnlearningTrainer` reads the data, where that cannot be told from them."""

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
    off goes on where it stopped. The retrained models are kept there too and, if asked for, the model of the best row;
    other weights are not saved. The result's provenance has under "details" what a report shows of each model
    (`row_details`), and under "evaluations" each row's metrics by evaluation seed, where several were asked for.

    Args:
        model: the trained classifier; not changed.
        args: training arguments for all; each method settles the open ones. `output_dir` is the comparison's folder.
            Where they choose a round (`early_stopping_patience`), every method ends with its best.
        forget_dataset: what to forget, as in `UnlearningTrainer`.
        retain_dataset: the rest of the training data.
        unseen_dataset: data that was never trained on.
        eval_dataset: the test set.
        retrain_model: a model trained without the forget set; or a contender `Retrain` trains one.
        retrain_models: further such models, of other seeds: gaps are then from the mean of all of them.
        retrain_seconds: what each of them took, where it is known.
        retrain_again: how many further models of other seeds the contender `Retrain` trains, each at its cost.
        training_seed: seed of the retrained models; that of `args` if None.
        evaluation_seeds: seeds of what measuring draws; each row is measured with each, and the table is of the first.
            That of `args` if there are none.
        measure_relearning: whether to measure the relearning excess, where there is unseen data for it: of each row
            and evaluation seed one round on the retain set.
        keep_best: whether to keep the model of the row with the least `retrain_free_score`, in the folder "best".
        best_name: what that model's card calls it; the name of the comparison's folder, if None.
        forget_set: the record for it, where more is known of the forget set than it tells.
        paper_protocol: measure the published code's RF-JSD on the test set, as that code does.
        processing_class: the model's image processor or tokenizer.
        on_measured: called with each row as soon as it is there.
        **options: `InputOptions` and `data_collator` of `UnlearningTrainer`.
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
        retrain_models: Sequence[nn.Module] = (),
        retrain_seconds: Sequence[float | None] = (),
        retrain_again: int = 0,
        training_seed: int | None = None,
        evaluation_seeds: Sequence[int] = (),
        measure_relearning: bool = False,
        keep_best: bool = False,
        best_name: str | None = None,
        forget_set: ForgetSetRecord | None = None,
        paper_protocol: bool = False,
        processing_class: object | None = None,
        on_measured: Callable[[ModelResult], None] | None = None,
        **options: Unpack[_DataOptions],
    ):
        if retrain_again < 0:
            raise ValueError(f"retrain_again must be 0 or more further models, got {retrain_again}.")
        self.model = model
        self.evaluation_seeds = tuple(dict.fromkeys(evaluation_seeds))
        self.args = args.changed(evaluation_seed=self.evaluation_seeds[0]) if self.evaluation_seeds else args
        self.options: _TrainerOptions = {**options, "processing_class": processing_class}
        self.retrained = [model for model in (retrain_model, *retrain_models) if model is not None]
        self.retrain_seconds = list(retrain_seconds)
        self.retrain_again, self.training_seed = retrain_again, training_seed
        self.forget_set, self.rf_jsd_on = forget_set, "test" if paper_protocol else "unseen"
        self.on_measured = on_measured or (lambda result: None)
        self.best = BestModel(Path(folder_of(args)) / BEST, best_name) if keep_best else None
        given = {"forget": forget_dataset, "retain": retain_dataset, "unseen": unseen_dataset, "test": eval_dataset}
        inputs: Any = {name: value for name, value in options.items() if name != "data_collator"}
        inputs.setdefault("decoding_workers", args.dataloader_num_workers)
        # Made ready once: every trainer then takes the same samples.
        self.splits, class_wise = ready_splits(given, getattr(model, "config", None), processing_class, **inputs)
        how = processing_class, options.get("data_collator")
        relearning = Relearning(self.args, self.splits, class_wise, *how)
        self.relearning = relearning if measure_relearning and relearning.is_possible else None

    def run(self, contenders: Mapping[str, Contender], **about: object) -> UnlearningResult:
        """Unlearn by each method in turn, and measure.

        Args:
            contenders: row name → method; a `Retrain` among them is trained first and is what gaps are measured from.
            **about: provenance to add, as JSON values, such as the digest of the split.

        Raises:
            ValueError: if there are two retrained models, a row has a name that the table uses itself, or no method is
                defined for the model. A method that is not, beside others that are, is left out, with a note.
        """
        others = self._methods(contenders)
        for contender in (c for c in contenders.values() if isinstance(c.method, Retrain)):
            self._retrain_all(contender)
        rows = Rows(self, about)
        for name, contender in others.items():
            try:
                rows.add(name, contender)
            except RefusedModel as refusal:
                logger.warning(f"{name} is left out: {refusal}")
                rows.left_out.append(f"{name} is left out: {refusal}")
                continue
            self.on_measured(rows.measured[name])
        if not rows.measured:
            raise ValueError(f"There is nothing to compare: {' '.join(rows.left_out)}")
        chosen = rows.choose(others) if self.best is not None else None
        self.forget_logits()
        samples = {split: len(sized(data)) for split, data in self.splits.items() if data is not None}
        run = provenance(seed=self.args.seed, samples=samples, methods=_settings(contenders), **about)
        if self.training_seed is not None:
            run["training_seed"] = self.training_seed
        return rows.result(run if chosen is None else {**run, "best": chosen})

    def _methods(self, contenders: Mapping[str, Contender]) -> dict[str, Contender]:
        """The rows that are no retrained model."""
        retrains = [name for name, c in contenders.items() if isinstance(c.method, Retrain)]
        others = {name: c for name, c in contenders.items() if name not in retrains}
        if len(retrains) + bool(self.retrained) > 1:
            raise ValueError(
                "There can be one retrained model: give it, or have one trained by one `retrain` row. Further ones "
                "are given by retrain_models, or trained as retrain_again says."
            )
        if reserved := [name for name in others if is_control_row(name)]:
            raise ValueError(f"{reserved[0]!r} is the name of another row; call the method something else.")
        if self.best is not None and BEST in others:
            raise ValueError(f"{BEST!r} is the folder of the best row's model; call the method something else.")
        if not others:
            raise ValueError("There is nothing to compare: name at least one method besides retrain.")
        return others

    @property
    def _logits(self) -> str:
        """Where the teacher's logits are kept for all methods, until there is no other to come."""
        return os.path.join(folder_of(self.args), "teacher_logits")

    def forget_logits(self) -> None:
        """Delete the teacher's logits that were kept for all methods: no other is to come."""
        if PartialState().is_main_process:
            shutil.rmtree(self._logits, ignore_errors=True)

    def trainer(self, name: str, contender: Contender, evaluator: Evaluator | None = None) -> UnlearningTrainer:
        """The trainer of a row, with a copy of the model."""
        folder, shared = os.path.join(folder_of(self.args), name), self.args.teacher_logits_dir or self._logits
        arguments = {"output_dir": folder, "teacher_logits_dir": shared, "save_strategy": SaveStrategy.NO}
        args = self.args.changed(**contender.arguments, **arguments)
        if args.load_best_model_at_end and not isinstance(contender.method, Retrain):
            # The best round is found again in a checkpoint, which is deleted once the row is measured.
            args = args.changed(save_strategy="epoch", save_total_limit=1, save_only_model=True)
        elif args.load_best_model_at_end:
            args = args.changed(load_best_model_at_end=False, early_stopping_patience=None, eval_strategy="no")
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
            retrain_models=self.retrained,
            evaluator=evaluator,
            forget_set=self.forget_set,
            **self.options,
        )

    def _retrain_all(self, contender: Contender) -> None:
        """Train the models to measure gaps from: the first with the training seed, the others with seeds from it."""
        own = {"seed": self.training_seed} if self.training_seed is not None else {}
        first = int(contender.arguments.get("seed", own.get("seed", self.args.seed)))  # type: ignore[call-overload]
        seeds = [first, *(again_seed(first, place) for place in range(1, self.retrain_again + 1))]
        trained = []
        for place, seed in enumerate(seeds):
            arguments = {**own, **contender.arguments, **({"seed": seed, "data_seed": None} if place else {})}
            trained.append(self._retrain(retrained_row(place), replace(contender, arguments=arguments)))
        self.retrained, self.retrain_seconds = [model for model, _ in trained], [seconds for _, seconds in trained]

    def _retrain(self, name: str, contender: Contender) -> tuple[nn.Module, float]:
        """Train one, or take the one that was trained before; with its seconds."""
        trainer = self.trainer(name.replace(" ", "_"), contender)
        path = Path(folder_of(trainer.args)) / MEASURED
        key = identity_digest(trainer.checkpoints.identify(ended=True), ROW_VERSION)
        kept = kept_row(path, key)
        if kept is None:
            trainer.train()
            trainer.save_model(_internal_call=True)
            kept = {"seconds": trainer.unlearning_seconds}
            keep_row(path, key, kept)
        else:
            trainer.load_weights(folder_of(trainer.args))
        return trainer.run.student, kept["seconds"]  # its own copy already


def again_seed(seed: int, number: int) -> int:
    """The seed of the further retrained model of a number from 1, from that of the first; below 2³¹."""
    return derived_seed(seed, AGAIN, number) % 2**31


def _settings(contenders: Mapping[str, Contender]) -> dict[str, Any]:
    return {name: {**describe(c.method), "arguments": dict(c.arguments)} for name, c in contenders.items()}
