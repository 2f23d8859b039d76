"""`UnlearningTrainer`: the seam between unlearning methods and `transformers.Trainer`."""

from __future__ import annotations

import copy
import gc
import os
import time
from collections.abc import Callable, Mapping

import torch
from accelerate.utils import broadcast
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel, TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput, speed_metrics
from transformers.utils import SAFE_WEIGHTS_NAME, logging

from hf_lotus.data.batches import (
    FORGET_FLAG,
    POSITION,
    Collator,
    class_logits,
    model_columns,
    model_inputs,
    read_dataset_labels,
)
from hf_lotus.data.checks import require_unseen
from hf_lotus.data.images import Augmentation
from hf_lotus.data.prepared import ready_splits
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.predictions import Predictions
from hf_lotus.evaluation.results import UnlearningResult
from hf_lotus.methods import (
    METHODS,
    Batch,
    GradientMethod,
    LossInputs,
    LoTUS,
    Task,
    UnlearningMethod,
    WeightEdit,
    describe,
    name_of,
)
from hf_lotus.methods.rounds import Streams
from hf_lotus.models.checks import check_models
from hf_lotus.publishing.digests import weights_digest
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.checkpoints import Checkpointing
from hf_lotus.trainer.publisher import Publishing
from hf_lotus.trainer.round_control import RoundControl
from hf_lotus.trainer.round_data import RoundDataset, draw_per_class, draw_subset
from hf_lotus.trainer.round_trainer import RoundTrainer
from hf_lotus.trainer.run import TrainerRun
from hf_lotus.trainer.sharding import ShardedTraining
from hf_lotus.trainer.sides import forward_by_side
from hf_lotus.trainer.stopping import stopping_callbacks
from hf_lotus.trainer.teacher import SIDES, FrozenTeacher, may_keep_logits
from hf_lotus.trainer.weight_mask import WeightMask

logger = logging.get_logger(__name__)

# Where the student is kept as it was when it became the teacher.
RENEWED_TEACHER = "renewed_teacher"


class UnlearningTrainer(Publishing, Checkpointing, ShardedTraining, RoundTrainer):
    """A `Trainer` that unlearns: makes a trained classifier forget some of its training data.

    A frozen copy of the model (the teacher) is taken when the trainer is made. One epoch is one round of the method.
    `evaluate()` measures the student on every split that was given, beside what calibrates the figures.

    Args:
        model: the trained classifier to unlearn; its output has `logits` of shape (batch, classes). Changed in place.
        args: `UnlearningArguments`.
        method: the unlearning method; `LoTUS()` if None.
        forget_dataset: what to forget. Raw images (a `datasets.Dataset` with an image and a label column) or samples
            of model inputs with a label.
        retain_dataset: the rest of the training data.
        unseen_dataset: data of the same kind that was never trained on. Needed by LoTUS unless whole classes are
            forgotten, and by RF-JSD.
        eval_dataset: the test set; no method decides by it.
        retrain_model: a model trained without the forget set, to measure the gaps from. Never used to decide anything.
        processing_class: the model's image processor or tokenizer.
        data_collator: how to collate samples that are not images.
        image_column: name of the image column, where it cannot be told from the features.
        label_column: name of the label column, where it cannot be told from the features.
        forget_set: the record of what is to be forgotten (`ForgetSetRecord.of_split`), where more is known of it than
            the forget set tells: how it was chosen, and from which data set.
        callbacks: as in `Trainer`.
        optimizers: as in `Trainer`.

    Raises:
        TypeError: for a streamed data set, or a method that is not one.
        ValueError: for an empty set, rows shared between sets, labels outside the model's classes, a missing unseen
            set, a record of another forget set, or a model that is not a single-label classifier.
    """

    unlearning_seconds: float | None = None
    weight_mask: WeightMask | None = None
    _state: object = None
    _unkept_renewal: int | None = None

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
        processing_class: object | None = None,
        data_collator: Callable | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        forget_set: ForgetSetRecord | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple = (None, None),
    ):
        self.method = method if method is not None else LoTUS()
        if not isinstance(self.method, GradientMethod | WeightEdit):
            raise TypeError(f"method must be one of {', '.join(METHODS)} (hf_lotus.methods), got {self.method!r}.")
        check_models(model, retrain_model)
        if not isinstance(args, UnlearningArguments | None):
            raise TypeError(f"args must be UnlearningArguments, got {type(args).__name__}; it takes the same options.")
        # A copy: one set of arguments may serve several trainers, whose methods settle the open ones differently.
        args = copy.copy(args) if args is not None else UnlearningArguments("unlearned")
        given = {"forget": forget_dataset, "retain": retain_dataset, "unseen": unseen_dataset, "test": eval_dataset}
        self._columns = {"image_column": image_column, "label_column": label_column}
        config = getattr(model, "config", None)
        self.splits, self.class_wise = ready_splits(given, config, processing_class, **self._columns)
        self._columns["num_labels"] = getattr(config, "num_labels", None)
        classes = tuple(read_dataset_labels(self.splits["forget"]).unique().tolist())
        sizes = {"num_retain": len(self.splits["retain"]), "num_forget": len(self.splits["forget"])}
        self.task = Task(model, self.class_wise, self._columns["num_labels"], classes, **sizes)
        args.settle(self.method.default_arguments(self.task))
        if self.method.needs_unseen and not self.class_wise:
            require_unseen(self.splits["unseen"], type(self.method).__name__)
        stopping = stopping_callbacks(args, self.splits, self.class_wise)
        self.run = TrainerRun(self, self.task, args.seed)
        self.take_record(forget_set)
        args.data_seed = args.seed if args.data_seed is None else args.data_seed
        self._rounds = RoundControl(self)
        self._augmentation = Augmentation(args.horizontal_flip, args.crop_padding)
        self._noise = torch.Generator(device=args.device)
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=self._round_dataset(args.data_seed),
            # Trainer refuses an eval_strategy without an evaluation set; here there is always the forget set.
            eval_dataset=self.splits["test" if eval_dataset is not None else "forget"],
            processing_class=processing_class,
            callbacks=[*(callbacks or []), *stopping, self._rounds],
            optimizers=optimizers,
        )
        # The sample count of an optimizer step then reaches `compute_loss` for every model.
        self.model_accepts_loss_kwargs = True
        self.collator = Collator(model_columns(model), self.data_collator)
        self.place_student()
        self._teacher = FrozenTeacher(model, args.device)
        options = {"class_wise": self.class_wise, "seed": args.seed, **self._prediction_options}
        self.evaluator = Evaluator(self.splits, self.teacher, retrain_model, **options)

    @property
    def _prediction_options(self) -> dict[str, object]:
        return {
            "batch_size": self.args.eval_batch_size,
            "collator": self.data_collator,
            "accelerator": self.accelerator,
            "num_workers": self.args.dataloader_num_workers,
            "progress": not self.args.disable_tqdm,
            "device": self.args.device,
        }

    def _round_dataset(self, seed: int) -> RoundDataset:
        """The samples of a round; the part of the retain set in it is drawn here, once."""
        edits = isinstance(self.method, WeightEdit)
        streams = Streams(True, 1.0) if edits else self.method.streams(self.task)
        forget, retain = self.splits["forget"], self.splits["retain"]
        forget_rows = torch.arange(len(forget) if streams.forget else 0)
        if streams.forget_per_class is not None:
            labels = read_dataset_labels(forget)
            forget_rows = draw_per_class(labels, streams.forget_per_class, seed, repeat=True)
        if streams.retain_per_class is not None:
            retain_rows = draw_per_class(read_dataset_labels(retain), streams.retain_per_class, seed)
        else:
            retain_rows = draw_subset(len(retain), streams.retain_fraction, seed)
        return RoundDataset(forget, retain, forget_rows, retain_rows)

    @property
    def teacher(self) -> nn.Module:
        """The frozen copy of the model as it was when the trainer was made."""
        return self._teacher.model

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
            self.require_marked(self._renewed_folder, before_round=index)
            load_model(renewed, os.path.join(self._renewed_folder, SAFE_WEIGHTS_NAME), device=str(self.args.device))
        self._unkept_renewal = None if from_folder else index
        self._state = self.method.prepare(self.run)
        self._keep_logits_if_asked()
        self._teacher.leave()

    @property
    def _renewed_folder(self) -> str:
        return os.path.join(self.args.output_dir, RENEWED_TEACHER)

    def keep_renewed_teacher(self) -> None:
        """Save the renewed teacher, once, before the first checkpoint that counts on it."""
        if self._unkept_renewal is not None and self.is_world_process_zero():
            self.mark(self._renewed_folder, before_round=self._unkept_renewal)
            save_model(self.current_teacher, os.path.join(self._renewed_folder, SAFE_WEIGHTS_NAME))
        self._unkept_renewal = None

    def _keep_logits_if_asked(self) -> None:
        """Have the teacher's logits kept from the first pass on that needs them."""
        needs = self.method.needs_teacher and (
            self.run.teacher_is_renewed or any(one.needs_teacher for one in self.method.passes(self.task, 0))
        )
        if needs and may_keep_logits(self.args, self.splits["retain"], self.task.num_labels):
            self._keep_logits()

    # ---- training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs) -> TrainOutput:
        """Unlearn. As `Trainer.train`; takes no step where the method edits weights, or stops before it begins."""
        self.measured = None
        checkpoint = self.begin(resume_from_checkpoint)
        if isinstance(self.method, WeightEdit):
            output = self._edit(checkpoint)
        else:
            output = self._take_rounds(checkpoint, *args, **kwargs)
        self.unlearning_seconds = self.seconds_so_far
        return output

    def _edit(self, checkpoint: str | None) -> TrainOutput:
        """Edit the weights, once: a checkpoint holds weights that have been edited."""
        started, folder = time.time(), os.path.join(self.args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-0")
        if checkpoint is not None:
            self._load_from_checkpoint(checkpoint)
        else:
            self.log(self.method.edit(self.run))
            if self.args.save_strategy != "no":
                self.save_model(folder, _internal_call=True)
                self.mark(folder)  # last: by its mark the checkpoint is known to be whole
        return TrainOutput(0, 0.0, speed_metrics("train", started))

    def _take_rounds(self, checkpoint: str | None, *args, **kwargs) -> TrainOutput:
        self._state = self.method.prepare(self.run)
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
            if not self.run.teacher_is_renewed:
                self._keep_logits_if_asked()
            mask = self.method.mask(self.run)
            if mask is not None:
                self.weight_mask = WeightMask(self.run.student, mask, self.teacher)
            else:
                self._teacher.leave()
            self.divide_teacher()
            try:
                output = super().train(checkpoint, *args, **kwargs)
            finally:
                if self.weight_mask is not None:
                    self.weight_mask.remove()
            self._teacher.forget_logits(self.args.teacher_logits_dir is not None)
        self._rounds.rewind()
        return output

    def _keep_logits(self) -> None:
        """Have the teacher's logits on the round's samples computed once."""
        run, precision = self._identity, (self.args.bf16, self.args.fp16, self.args.device.type)
        model = weights_digest(self.current_teacher) if self.run.teacher_is_renewed else run["model"]
        self._teacher.keep_logits(
            self.train_dataset,
            self.args.teacher_logits_dir or os.path.join(self.args.output_dir, "teacher_logits"),
            {side: f"{model} {run['sets'][side]} {precision}" for side in SIDES},
            self.args.teacher_logits_dtype,
            lambda: torch.from_numpy(self.run.teacher_predictions("forget").logits),
            **self._prediction_options,
        )

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
            loss = nn.functional.cross_entropy(class_logits(outputs, len(labels)).float(), labels)
            return (loss, outputs) if return_outputs else loss
        given = Batch(
            inputs=model_inputs(inputs),
            labels=inputs["labels"],
            is_forget=inputs[FORGET_FLAG],
            positions=inputs[POSITION],
            round_index=self._rounds.index,
            round_values=self._rounds.current.values,
            state=self._state,
            round_state=self._rounds.current.state,
            generator=self._noise,
        )
        batch = self.method.transform(given, self.run.student)
        if self._rounds.current_pass.separate_forward:
            outputs = forward_by_side(model, batch.inputs, batch.is_forget)
        else:
            outputs = model(**batch.inputs)
        teacher_logits = None
        if self.method.needs_teacher and self._rounds.current_pass.needs_teacher:
            teacher_logits = self._teacher.logits(given.inputs, given.positions, self.accelerator.autocast())
        logits = class_logits(outputs, len(batch.labels))
        per_sample = self.method.loss(LossInputs(**vars(batch), logits=logits, teacher_logits=teacher_logits))
        if per_sample.shape != batch.labels.shape:
            raise ValueError(
                f"{name_of(self.method)}.loss must give one value a sample, shape {tuple(batch.labels.shape)}, "
                f"got {tuple(per_sample.shape)}. Do not average: the trainer does, over the optimizer step."
            )
        counts = self.counts if self._rounds.current_pass.paired else self.counts.sum().expand(2)
        weights = self._is_counted(batch.positions) / counts[batch.is_forget.long()]
        # Gradients are averaged over ranks, so the global mean needs their number back.
        loss = (per_sample * weights).sum() * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """As in `Trainer`; a loss is logged with the name of its pass, where the round has several."""
        if "loss" in logs and self._rounds.last_pass.name:
            logs = {**logs, "pass": self._rounds.last_pass.name}
        super().log(logs, *args, **kwargs)

    # ---- evaluation ----

    def evaluate(
        self,
        eval_dataset: Dataset | None = None,
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
        yardstick = self.evaluator.yardstick
        result = yardstick.measure("student", self.student_predictions())
        references = {f"reference_{name}": v for name, v in vars(yardstick.controls).items() if v is not None}
        measured = {**result.metrics(), **references}
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
        size = sum(len(dataset) for dataset in self.splits.values() if dataset is not None)
        metrics.update(speed_metrics(metric_key_prefix, started, num_samples=size))
        self._evaluation_seconds += time.time() - started
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def compare(
        self,
        predictions: Mapping[str, Predictions] | None = None,
        retrain_seconds: float | None = None,
        **run: object,
    ) -> UnlearningResult:
        """The student beside the original and, where there is one, the retrained model.

        Args:
            predictions: the student's, where they are at hand already (`student_predictions`).
            retrain_seconds: what the retrained model took, where it is known.
            **run: further provenance, as JSON values.
        """
        predictions = predictions or self.student_predictions()
        result = self.evaluator.compare(
            {self.method_name: (predictions, self.unlearning_seconds)},
            retrain_seconds,
            method=describe(self.method),
            arguments=self.recorded_arguments(),
            rounds=self._rounds.history(),
            processes=self.args.world_size,
            **run,
        )
        self.measured = result, predictions
        return result

    def student_predictions(self) -> dict[str, Predictions]:
        """One forward pass of the student over every split: split → `Predictions`."""
        return self.evaluator.predict_all(self.run.student, "student")

    def end(self) -> None:
        """As in `Trainer`. The wrapper of distributed training goes first: it must not outlive its process group."""
        self.model_wrapped = self.model
        self.accelerator.free_memory()
        gc.collect()
        self.accelerator.end_training()
