"""`UnlearningTrainer`: the seam between unlearning methods and `transformers.Trainer`."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import broadcast
from huggingface_hub import CommitInfo
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, speed_metrics
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from hf_lotus.data.batches import FORGET_FLAG, POSITION, FiniteCheck, class_logits, model_inputs
from hf_lotus.data.columns import InputOptions
from hf_lotus.data.images import Augmentation
from hf_lotus.data.prepared import num_samples
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.methods import Batch, UnlearningMethod, describe, name_of
from hf_lotus.methods.base import rows_of_side
from hf_lotus.methods.rounds import Pass
from hf_lotus.models.checks import check_models
from hf_lotus.publishing.digests import weights_digest
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.captured_step import CapturedSteps
from hf_lotus.trainer.checkpoints import Checkpoints
from hf_lotus.trainer.fingerprint import teacher_logits_key
from hf_lotus.trainer.given import check_given
from hf_lotus.trainer.pass_counter import PassCounter
from hf_lotus.trainer.publisher import UNCHANGED, Publisher
from hf_lotus.trainer.replicas import settle_division
from hf_lotus.trainer.round_control import RoundControl
from hf_lotus.trainer.round_trainer import RoundTrainer
from hf_lotus.trainer.run import TrainerRun
from hf_lotus.trainer.sampler import Sides
from hf_lotus.trainer.sharding import Sharding, check_launch, check_sharding
from hf_lotus.trainer.side_gradients import SideGradients
from hf_lotus.trainer.sides import forward_by_side
from hf_lotus.trainer.stopwatch import Stopwatch
from hf_lotus.trainer.teacher import SIDES, FrozenTeacher, may_keep_logits
from hf_lotus.trainer.weight_mask import WeightMask

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.get_logger(__name__)

# Where the student is kept as it was when it became the teacher: a folder for each round before which it did.
RENEWED_TEACHER = "renewed_teacher"


class UnlearningTrainer(RoundTrainer):
    """A `Trainer` that unlearns: makes a trained classifier forget some of its training data.

    A frozen copy of the model (the teacher) is taken when the trainer is made. One epoch is one round of the method.
    `evaluate()` measures the student on every split that was given, beside what calibrates the figures.

    Args:
        model: the trained classifier to unlearn; its output has `logits` of shape (batch, classes). Changed in place.
        args: `UnlearningArguments`.
        method: the unlearning method; `LoTUS()` if None.
        forget_dataset: what to forget. Raw images or texts (a `datasets.Dataset` with such a column and labels) or
            samples of model inputs with a label.
        retain_dataset: the rest of the training data.
        unseen_dataset: data of the same kind that was never trained on. Needed by LoTUS unless whole classes are
            forgotten, and by RF-JSD.
        eval_dataset: the test set; no method decides by it.
        retrain_model: a model trained without the forget set, to measure the gaps from. Never used to decide anything.
        retrain_models: further such models, of other seeds: gaps are then from the mean of all of them.
        evaluator: what measures the student, in place of one made of the sets, the teacher and these models.
        processing_class: the model's image processor or tokenizer.
        data_collator: how to collate samples that are model inputs already.
        forget_set: the record of what is to be forgotten (`ForgetSetRecord.of_split`), where more is known of it than
            the forget set tells: how it was chosen, and from which data set.
        callbacks: as in `Trainer`.
        optimizers: as in `Trainer`.
        **options: `image_column`, `text_column`, `label_column` and `max_length` (tokens after which a text is cut
            off), where they cannot be told from the features and the processor.

    Attributes:
        run: what the method may ask of this run.
        evaluator: what measures the student.
        unlearning_seconds: wall time of the last `train`, evaluation left out; None before it.
        unlearning_passes: kind ("student_forward", "teacher_forward", "backward") → side ("forget", "retain", "other")
            → samples that passed in the last `train`, on all ranks, evaluation left out; None before it.
        weight_mask: the weights that may move; None for all.
        renewed_before: the round before which the student last became the teacher; None where it did not.
        stopwatch: the clock behind `unlearning_seconds`.
        passes: counts the samples that pass forward and backward in `train`, evaluation left out.
        captured: takes the steps, by a graph where it can be.
        checkpoints: which run each checkpoint is of, and which one to go on from.
        publisher: record, card and pushes.
        sharding: what FSDP2 and DeepSpeed need.

    Raises:
        TypeError: for a streamed data set, or a method that is not one.
        ValueError: for an empty set, rows shared between sets, labels outside the model's classes, a missing unseen
            set, a record of another forget set, or a model that is not a single-label classifier.
    """

    unlearning_seconds: float | None = None
    unlearning_passes: Mapping[str, Mapping[str, int]] | None = None
    weight_mask: WeightMask | None = None
    renewed_before: int | None = None
    _unkept_renewal: int | None = None
    # The side whose loss alone counts, while each has a backward pass of its own.
    _side: str | None = None
    _sides: SideGradients | None = None

    def __init__(
        self,
        model: PreTrainedModel | nn.Module,
        args: UnlearningArguments | None = None,
        method: UnlearningMethod | None = None,
        *,
        forget_dataset: Dataset,
        retain_dataset: Dataset,
        unseen_dataset: Dataset | None = None,
        eval_dataset: Dataset | None = None,
        retrain_model: nn.Module | None = None,
        retrain_models: Sequence[nn.Module] = (),
        evaluator: Evaluator | None = None,
        processing_class: object | None = None,
        data_collator: Callable | None = None,
        forget_set: ForgetSetRecord | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
        **options: Unpack[InputOptions],
    ):
        sets = {"forget": forget_dataset, "retain": retain_dataset, "unseen": unseen_dataset, "test": eval_dataset}
        given = check_given(
            model,
            args,
            method,
            sets,
            retrain_model=retrain_model,
            processing_class=processing_class,
            **options,
        )
        for another in retrain_models:
            check_models(model, another)
        # Trainer's constructor calls some of these already, or hooks of this class that do.
        self.stopwatch, self.checkpoints, self.sharding = Stopwatch(), Checkpoints(self), Sharding(self)
        self.passes, self.captured = PassCounter(), CapturedSteps(self)
        self.publisher, self._rounds = Publisher(self, given, forget_set), RoundControl(self)
        super().__init__(
            model,
            given,
            processing_class=processing_class,
            data_collator=data_collator,
            callbacks=[*(callbacks or []), *given.stopping, self._rounds, self.publisher, self.sharding],
            optimizers=optimizers,
        )
        self.sharding.place_student()
        self._teacher = FrozenTeacher(model, self.args.device)
        self._teacher.showing = self.passes.split
        self.run = TrainerRun(self, self.task, self.args.seed)
        self.evaluator = evaluator or self._own_evaluator(retrain_model, retrain_models)

    def _own_evaluator(self, retrain_model: nn.Module | None, further: Sequence[nn.Module]) -> Evaluator:
        chosen = self.args.evaluation_seed
        options: dict[str, Any] = {
            "further_retrained": further,
            "class_wise": self.task.class_wise,
            "seed": self.args.seed if chosen is None else chosen,
            "fold_seed": chosen,
            **self._prediction_options,
        }
        return Evaluator(self.splits, self.teacher, retrain_model, **options)

    @property
    def _prediction_options(self) -> dict[str, Any]:
        return {
            "batch_size": self.args.eval_batch_size,
            "collator": self.data_collator,
            "accelerator": self.accelerator,
            "num_workers": self.args.dataloader_num_workers,
            "progress": not self.args.disable_tqdm,
            "device": self.args.device,
            "capture": self.args.capture_graph is not False,
        }

    @property
    def teacher(self) -> nn.Module:
        """The frozen copy of the model as it was when the trainer was made."""
        return self._teacher.model

    @property
    def class_wise(self) -> bool:
        """Whether whole classes are forgotten."""
        return self.task.class_wise

    @property
    def method_name(self) -> str:
        """The method's name in tables: its registered name, or its class's."""
        return name_of(self.method)

    @property
    def round_state(self) -> Mapping[str, Tensor]:
        """The tensors of the last decision about a round (`Round.state`)."""
        return self._rounds.tensors

    @property
    def forget_parts(self) -> Tensor | None:
        """The number of each forget sample's part, as the method tells it once a run."""
        return self.hooks.parts(self.run)

    @property
    def step_of_round(self) -> int:
        """Which optimizer step of its round is being made, from 0."""
        return self.state.global_step - self._rounds.first_step

    @property
    def current_pass(self) -> Pass:
        """The pass of the optimizer step that is being made."""
        return self._rounds.current_pass

    @property
    def augmentation(self) -> Augmentation:
        """How the training images of the optimizer step that is being made are augmented: the pass may say how."""
        return self.current_pass.augmentation or super().augmentation

    def create_accelerator_and_postprocess(self) -> None:
        """As in `Trainer`; refuses what cannot be right with several processes or divided weights."""
        self.sharding.is_whole = settle_division(self.model, self.args, self.method)
        with self.sharding.as_settled():
            super().create_accelerator_and_postprocess()
        check_launch(self.args.world_size)
        check_sharding(self.accelerator, self.method)

    # ---- the teacher ----

    @property
    def current_teacher(self) -> nn.Module:
        """The model that the loss and the method's decisions are measured from: the teacher, or what renewed it."""
        return self._teacher.current

    def renew_teacher(self, index: int, from_folder: bool = False) -> None:
        """Let the student, as it is before round `index`, be the teacher from then on; the method prepares anew.

        The next checkpoint has the new teacher saved beside it (`keep_renewed_teacher`): a resumed run finds it there.

        Args:
            index: the round.
            from_folder: take what was saved before this round, not the student as it is now.
        """
        if self.args.world_size > 1 and not from_folder:
            broadcast(list(self.run.student.buffers()))  # each rank's BatchNorm has seen other samples
        self._teacher.forget_logits(self.args.teacher_logits_dir is not None)
        renewed = self._teacher.renew(self.run.student, self.args.device)
        if from_folder:
            folder = self._renewed_folder(index)
            self.checkpoints.require_marked(folder, before_round=index)
            load_model(renewed, os.path.join(folder, SAFE_WEIGHTS_NAME))
        self._unkept_renewal, self.renewed_before = None if from_folder else index, index
        self._prepare()
        self._keep_logits_if_asked()
        if not from_folder:  # a run that is resumed does so when all is there
            self._hold_weights()

    def _renewed_folder(self, index: int) -> str:
        return os.path.join(self.args.output_dir, RENEWED_TEACHER, f"before-round-{index}")

    def keep_renewed_teacher(self) -> None:
        """Save the renewed teacher, once, before the first checkpoint that counts on it."""
        if self._unkept_renewal is not None and self.is_world_process_zero():
            folder = self._renewed_folder(self._unkept_renewal)
            self.checkpoints.mark(folder, before_round=self._unkept_renewal)
            save_model(self.current_teacher, os.path.join(folder, SAFE_WEIGHTS_NAME))
        self._unkept_renewal = None

    def _keep_logits_if_asked(self) -> None:
        """Have the teacher's logits kept from the first pass on that needs them."""
        needs = self.method.needs_teacher and (
            self.run.teacher_is_renewed or any(one.needs_teacher for one in self.hooks.passes(0))
        )
        if needs and may_keep_logits(self.args, self.given.retain, self.task.num_labels):
            self._keep_logits()

    # ---- training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Unlearn. As `Trainer.train`; takes no step where the method edits weights, or stops before it begins."""
        self.publisher.measured = None
        checkpoint = self.checkpoints.begin(resume_from_checkpoint)
        with self.passes.counting(self.run.student, self.teacher):
            if self.hooks.edits:
                output = self._edit(checkpoint)
            else:
                output = self._take_rounds(checkpoint, *args, **kwargs)
        self.unlearning_passes = self._passes_of_all_ranks()
        self.unlearning_seconds = self.stopwatch.seconds
        return output

    def _passes_of_all_ranks(self) -> dict[str, dict[str, int]]:
        own = self.passes.counts
        flat = torch.tensor([list(sides.values()) for sides in own.values()], device=self.args.device)
        summed = self.accelerator.reduce(flat, "sum").tolist()
        return {kind: dict(zip(own[kind], row, strict=True)) for kind, row in zip(own, summed, strict=True)}

    def _edit(self, checkpoint: str | None) -> TrainOutput:
        """Edit the weights, once: a checkpoint holds weights that have been edited."""
        started, folder = time.time(), os.path.join(self.args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-0")
        if checkpoint is not None:
            self.load_weights(checkpoint)
        else:
            self.log(self.hooks.edit(self.run))
            if self.args.save_strategy != "no":
                self.save_model(folder, _internal_call=True)
                self.checkpoints.mark(folder)  # last: by its mark the checkpoint is known to be whole
        return TrainOutput(0, 0.0, speed_metrics("train", started))

    def _prepare(self) -> None:
        self.hooks.prepare(self.run)
        self.passes.watch(self.hooks.state)

    def _take_rounds(self, checkpoint: str | None, *args: Any, **kwargs: Any) -> TrainOutput:
        self._prepare()
        if checkpoint is not None:
            stopped = self._rounds.take_over(checkpoint)
            if stopped:
                self._load_stopped(checkpoint)
        else:
            stopped = self._rounds.decide_first()
        if stopped:
            logger.warning("The method stops before any further step: its bound is reached. The weights are kept.")
            output = TrainOutput(self.state.global_step, 0.0, speed_metrics("train", time.time()))
        else:
            self.captured.require()
            if not self.run.teacher_is_renewed:
                self._keep_logits_if_asked()
            self._hold_weights()
            try:
                with self.sharding.dividing():
                    output = super().train(checkpoint, *args, **kwargs)
            finally:
                self.captured.forget()
                self.hooks.finite, self._resident = FiniteCheck(), None
                self.run.forget_predicted()
            self._teacher.forget_logits(self.args.teacher_logits_dir is not None)
        self._rounds.rewind()
        return output

    def _hold_weights(self) -> None:
        """Let only those weights move that the method lets; the rest are held as the teacher has them."""
        mask = self.hooks.mask(self.run)
        # What moves in some steps alone is held as it stands, not as the teacher has it.
        always = all(one.masks_every_step for one in self.hooks.passes(0))
        held_as = self.current_teacher if always else None
        self.weight_mask = None if mask is None else WeightMask(self.run.student, mask, held_as)
        if mask is None:
            self._teacher.leave()

    def _keep_logits(self) -> None:
        """Have the teacher's logits on the round's samples computed once."""
        identity, device = self.checkpoints.identity, self.args.device
        if self.run.teacher_is_renewed:
            identity = {**identity, "model": weights_digest(self.current_teacher)}
        measures_the_same = (
            not self.run.teacher_is_renewed and self.evaluator.splits.get("retain") is self.given.retain
        )
        self._teacher.keep_logits(
            self.train_dataset,
            self.args.teacher_logits_dir or os.path.join(self.args.output_dir, "teacher_logits"),
            {side: teacher_logits_key(identity, side, device) for side in SIDES},
            self.args.teacher_logits_dtype,
            lambda: torch.from_numpy(self.run.teacher_predictions("forget").logits),
            self.evaluator.take_original if measures_the_same else None,
            on_device=self.args.keep_on_device,
            **self._prediction_options,
        )

    def step_on_device(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """As in `RoundTrainer`, by a graph where it can be."""
        take = super().step_on_device
        return self.captured.take(inputs, lambda given: take(model, given, num_items_in_batch))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, object]:
        """The method's loss, averaged over all samples of the optimizer step on all ranks.

        A batch without the forget flag (a data set passed to `evaluate` or `predict`) gets the mean cross-entropy.
        """
        if FORGET_FLAG not in inputs:
            outputs = model(**model_inputs(inputs))
            labels = inputs["labels"]
            logits = class_logits(outputs, len(labels))
            self.hooks.finite.see(logits)
            self.hooks.finite.ask()
            loss = nn.functional.cross_entropy(logits.float(), labels)
            return (loss, outputs) if return_outputs else loss
        drawn = Batch(
            inputs=model_inputs(inputs),
            labels=inputs["labels"],
            is_forget=inputs[FORGET_FLAG],
            positions=inputs[POSITION],
            round_index=self._rounds.index,
            round_share=self._rounds.share,
            round_values=self._rounds.decided.values,
            state=self.hooks.state,
            round_state=self._rounds.state_on_device,
            generator=self.noise,
            num_forget=None if self.captured.is_recording else self.shown.forgotten,
        )
        current = self.current_pass

        def forward(batch: Batch) -> object:
            if current.separate_forward:
                return forward_by_side(model, batch.inputs, batch.is_forget, batch.forgotten, self.passes.showing)
            return model(**batch.inputs)

        asked = self._teacher_logits if current.needs_teacher else None
        with self.passes.showing(*self.shown):
            per_sample, batch, outputs = self.hooks.losses(drawn, self.run.student, forward, asked)
        assert batch.positions is not None
        if self._side is not None:
            per_sample = per_sample * (batch.is_forget == (self._side == "forget"))
        loss = self.step_share(per_sample, batch.positions, batch.is_forget, current.paired)
        return (loss, outputs) if return_outputs else loss

    def backward_pass(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """As in `RoundTrainer`; where the pass asks for it, of each side on its own, or clipped."""
        current = self.current_pass
        if current.bargain is not None:
            loss = self._backward_by_side(model, inputs, num_items_in_batch)
        else:
            loss = self._masked_backward(model, inputs, num_items_in_batch)
        if not self.accelerator.sync_gradients:
            return loss
        if current.bargain is None and current.max_norm is None:
            return loss
        # The gradients are scaled as yet, where half precision has a scaler; to ask it is to wait for the device.
        scale = self.accelerator.scaler.get_scale() if self.accelerator.scaler is not None else 1.0
        if current.bargain is not None:
            assert self._sides is not None
            self._sides.agree(current.bargain, self.accelerator, scale)
        if current.max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), current.max_norm * scale)
        return loss

    def _masked_backward(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """`RoundTrainer.backward_pass`, with no gradient left of the weights that must not move."""
        loss = super().backward_pass(model, inputs, num_items_in_batch)
        if self.weight_mask is not None:
            self.weight_mask.still()
        return loss

    def _backward_by_side(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """A forward and a backward pass of each side, whose gradients wait in `_sides` for the end of the step.

        A side of one sample, which BatchNorm refuses, is shown in the whole batch, of which only its loss counts.
        """
        if self._sides is None:
            self._sides = SideGradients(self.run.student.parameters())
        loss, whole = torch.zeros((), device=self.args.device), self.shown
        together = self.task.is_batch_norm_model and min(whole) < 2
        alone = {"retain": Sides(whole.retained, 0), "forget": Sides(0, whole.forgotten)}
        for side, sides in alone.items():
            if not sum(sides):
                continue
            shown = inputs
            if not together:
                rows = rows_of_side(inputs[FORGET_FLAG], whole.forgotten, side == "forget")
                shown = {name: value[rows] for name, value in inputs.items()}
            self._side, self.shown = side, whole if together else sides
            try:
                # What the ranks have is averaged when the sums are whole.
                with self.accelerator.no_sync(model):
                    loss = loss + self._masked_backward(model, shown, num_items_in_batch)
            finally:
                self._side, self.shown = None, whole
            self._sides.take(side)
        return loss

    def _teacher_logits(self, batch: Batch) -> Tensor:
        assert batch.positions is not None
        return self._teacher.logits(batch.inputs, batch.positions, self.accelerator.autocast())

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | float | None = None) -> Tensor | float | None:
        if grad_norm is None and self.args.logging_strategy != "steps" and not self._rounds.ends_pass:
            return None
        return super()._get_grad_norm(model, grad_norm)

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """As in `Trainer`; a loss is logged with the name of its pass, where the round has several."""
        if "loss" in logs and self._rounds.last_pass.name:
            logs = {**logs, "pass": self._rounds.last_pass.name}
        super().log(logs, *args, **kwargs)

    # ---- checkpoints ----

    def load_weights(self, folder: str) -> None:
        """Load the weights that `save_model` wrote."""
        self._load_from_checkpoint(folder)

    def _load_stopped(self, checkpoint: str) -> None:
        """Load what a run ends with that had stopped when the checkpoint was written; `state` is the checkpoint's."""
        best = self.state.best_model_checkpoint
        chosen = self.args.load_best_model_at_end and best is not None and os.path.isdir(best)
        self._load_best_model() if chosen else self.load_weights(checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self.checkpoints.load_pretrained(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None
        if not self.checkpoints.load_pretrained(self.state.best_model_checkpoint):
            super()._load_best_model()

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    # ---- evaluation ----

    def measure_with(self, evaluator: Evaluator) -> None:
        """Have the student measured by another evaluator from now on, such as one with further samples to forget.

        Args:
            evaluator: of the same kind of model and data.
        """
        self.evaluator, self.publisher.measured = evaluator, None

    @property
    def measured(self) -> tuple[UnlearningResult, Mapping[str, Predictions]] | None:
        """The comparison and the student's predictions behind it; None where the weights were not measured."""
        return self.publisher.measured

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure the student: every metric of `ModelResult` and every control, one forward pass a split.

        Args:
            eval_dataset: a data set of the user's, to get its loss instead, as `Trainer.evaluate` does.
            ignore_keys: as in `Trainer`.
            metric_key_prefix: first part of the metrics' names.

        Returns:
            `eval_forget_accuracy`, `eval_rf_jsd`, … and `eval_rf_jsd_null_mean`, … as far as the data allow.
        """
        if eval_dataset is not None:
            return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        started = time.time()
        with self.stopwatch.paused(), self.passes.paused():
            yardstick = self.evaluator.yardstick
            result = yardstick.measure("student", self.student_predictions())
            controls = vars(yardstick.controls)
        references = {f"reference_{name}": v for name, v in controls.items() if v is not None}
        measured = {**result.metrics(), **references}
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        size = sum(num_samples(dataset) for dataset in self.splits.values() if dataset is not None)
        metrics.update(speed_metrics(metric_key_prefix, started, num_samples=size))
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def compare(
        self,
        predictions: Mapping[str, Predictions] | None = None,
        retrain_seconds: float | Sequence[float | None] | None = None,
        given: Mapping[str, Mapping[str, float | None]] | None = None,
        **run: object,
    ) -> UnlearningResult:
        """The student beside the original and, where there is one, the retrained model.

        Args:
            predictions: the student's, where they are at hand already (`student_predictions`).
            retrain_seconds: what the retrained model took, or each of them, where it is known.
            given: row → values of metrics that no predictions tell, such as what `relearning_of_rows` measures.
            **run: further provenance, as JSON values.
        """
        predictions = predictions or self.student_predictions()
        result = self.evaluator.compare(
            {self.method_name: (predictions, self.unlearning_seconds)},
            retrain_seconds,
            given,
            method=describe(self.method),
            arguments=self.publisher.recorded_arguments(),
            rounds=self._rounds.history(),
            processes=self.args.world_size,
            passes=self.unlearning_passes,
            **run,
        )
        if self.unlearning_seconds is not None and self.publisher.unchanged:
            logger.warning(UNCHANGED)
            result = replace(result, notes=(*result.notes, UNCHANGED))
        self.publisher.measured = result, predictions
        return result

    def student_predictions(self) -> dict[str, Predictions]:
        """One forward pass of the student over every split: split → `Predictions`."""
        kept, student = self.run.predicted, self.run.student
        return {
            split: kept[split] if split in kept else self.evaluator.predict(student, split, "student")
            for split in self.evaluator.splits
        }

    # ---- publishing ----

    @property
    def forget_set(self) -> ForgetSetRecord | None:
        """The record of what is to be forgotten; made when it is first needed, unless it was given."""
        return self.publisher.record

    def follow(self, previous: ForgetSetRecord) -> None:
        """Have the record tell of what an earlier model was made to forget too (`ForgetSetRecord.following`)."""
        self.publisher.follow(previous)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in `Trainer`, and `forget_set.json` beside the weights; pushes where `push_to_hub` is set."""
        if _internal_call:
            self.hooks.finite.ask()  # whoever it was that asked for a checkpoint
            self.checkpoints.mark_first(output_dir)
        with self.publisher.without_token():
            super().save_model(output_dir, _internal_call=True)
        self.publisher.saved(output_dir or self.args.output_dir, by_user=not _internal_call)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """As in `Trainer`; optimizer states, which know the forgotten data too, are not published."""
        with self.publisher.making_repository():
            super().init_hf_repo(token=token, private=private)

    def create_model_card(  # type: ignore[override]  # what else Trainer's takes, the record and the results tell
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
    ) -> None:
        """Save the model, and write its card with `results.json`, `entropy.png` and `forget_set.json` beside it.

        Saved first, so that the figures are of the weights in the folder; measured where `compare` has not been called
        since the student was trained. Call it on every rank.

        Args:
            language: of the data, for the card's header.
            license: of the model, instead of the base model's.
            tags: further tags.
            model_name: instead of the folder's name.
        """
        self.save_model(_internal_call=True)
        if self.measured is None:
            self.compare()
        self.publisher.write_card(tags, language=language, license=license, model_name=model_name)

    def push_to_hub(  # type: ignore[override]  # Trainer's gives a future or None too, and does not say so
        self,
        commit_message: str | None = "End of unlearning",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **card: Any,
    ) -> CommitInfo | Future | None:
        """Save, measure, write the card, and upload all of it in one commit. Call it on every rank.

        Uploaded are weights, configuration, processor, card, record, results and figure, and nothing else.

        Args:
            commit_message: of the commit.
            blocking: whether to wait for the upload.
            token: of the Hub, instead of `hub_token`.
            revision: the branch, instead of `hub_revision`.
            private: whether to make the repository private, if it is made.
            **card: as in `create_model_card`.

        Returns:
            the commit, or a future of it if not blocking; None on other ranks than the first.

        Raises:
            PublishError: if there is no token, or the Hub refuses, or cannot be reached.
        """
        return self.publisher.push(commit_message, blocking, token, revision, private, card)

    def end(self) -> None:
        """As in `Trainer`. The wrapper of distributed training goes first: it must not outlive its process group."""
        self.model_wrapped = self.model
        self.accelerator.free_memory()
        gc.collect()
        self.accelerator.end_training()
