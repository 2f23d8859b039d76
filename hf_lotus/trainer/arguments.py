"""Training arguments with unlearning's defaults."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from hf_lotus.evaluation.metrics import METRICS
from hf_lotus.utils.seeds import LARGEST
from hf_lotus.utils.text import nearest

# Left open by the user, these are settled by the method for the model at hand; the values are Trainer's own and only
# stand in until then.
OPEN_ARGUMENTS = {
    "learning_rate": 5e-5,
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 8,
    "optim": "adamw_torch_fused",
    "optim_args": None,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "weight_decay": 5e-4,
}

# The metric that a round is chosen by, unless another is given.
RETRAIN_FREE_GAP = "retrain_free_gap"
# Whole numbers → the least and the most that they can be.
_MANY = 10**9
_WHOLE = {
    **dict.fromkeys(("seed", "data_seed", "evaluation_seed"), (0, LARGEST)),
    **dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), (1, _MANY)),
    **dict.fromkeys(("gradient_accumulation_steps", "save_total_limit"), (1, _MANY)),
    "dataloader_num_workers": (0, 10_000),
    "max_steps": (-1, _MANY),
}
# Numbers that are no less than nothing.
_AMOUNTS = ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps")
# The arguments that choose a round.
_CHOICE = {"early_stopping_patience", "load_best_model_at_end", "metric_for_best_model"}


@dataclass
class UnlearningArguments(TrainingArguments):
    """`TrainingArguments` whose open values the method fills in, and whose defaults suit unlearning.

    One epoch is one round. `learning_rate`, `num_train_epochs`, `per_device_train_batch_size`, `optim`, `optim_args`,
    `lr_scheduler_type`, `warmup_steps` and `weight_decay` are None until `UnlearningTrainer` settles them by the
    method's and the model family's defaults; whatever is set here is kept.

    Where a round is chosen (`load_best_model_at_end`), `metric_for_best_model` is the retrain-free gap unless given,
    and less of it, or of RF-JSD, is better; any metric of `hf_lotus.evaluation.metrics` that needs no retrained model
    may be given.

    Attributes:
        early_stopping_patience: evaluate after each round, stop after this many rounds without a better one, and end
            with the best round's weights. None: take all rounds and end with the last.
        horizontal_flip: mirror training images at random.
        crop_padding: pad training images by this many pixels and crop at random.
        keep_teacher_logits: compute the teacher's logits once a run; None where its inputs never change.
        teacher_logits_dtype: "float32" or "bfloat16".
        evaluation_seed: seed of what measuring draws: the null's resamples, the attacks' folds, the order of
            relearning. None for `seed`.
        teacher_logits_dir: folder of the kept logits; None for one in `output_dir`, deleted when the run ends.
        keep_on_device: hold what every round reads on the device; None where it takes no more than a quarter of the
            device's free memory.
        capture_graph: on a CUDA device, record a step of each kind once a round and replay it from then on. None
            where it can be done; False never; True refuses to run where it cannot.
        logging_nan_inf_filter: as in `TrainingArguments`, and off: it has the host wait for the device in every step,
            and logits that are not finite end a run anyway.
    """

    if TYPE_CHECKING:  # None only until `TrainingArguments` has put its default there
        output_dir: str = field(default="trainer_output")

    learning_rate: float | None = field(  # type: ignore[assignment]  # open until settled
        default=None, metadata={"help": "Learning rate. Default: the method's for the model family."}
    )
    num_train_epochs: float | None = field(  # type: ignore[assignment]  # open until settled
        default=None, metadata={"help": "Number of rounds. Default: the method's for the model family."}
    )
    per_device_train_batch_size: int | None = field(  # type: ignore[assignment]  # open until settled
        default=None, metadata={"help": "Batch size per device. Default: the method's for the model family."}
    )
    optim: str | None = field(  # type: ignore[assignment]  # open until settled
        default=None, metadata={"help": "Optimizer. Default: the method's, else AdamW."}
    )
    lr_scheduler_type: str | None = field(  # type: ignore[assignment]  # open until settled
        default=None, metadata={"help": "Learning-rate schedule. Default: the method's, else constant."}
    )
    warmup_steps: float | None = field(  # type: ignore[assignment]  # open until settled
        default=None,
        metadata={
            "help": "Steps, or the share of all steps, of a rising learning rate. Default: the method's, else 0."
        },
    )
    weight_decay: float | None = field(  # type: ignore[assignment]  # open until settled
        default=None, metadata={"help": "Weight decay. Default: the method's, else 5e-4."}
    )
    max_grad_norm: float = field(default=0.0, metadata={"help": "Clip gradients to this norm; 0 does not clip."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Evaluation batch size per device."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log: no, steps or epoch (a round)."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save: no, steps, epoch (a round) or best."})
    save_total_limit: int | None = field(default=1, metadata={"help": "How many checkpoints to keep."})
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Evaluate after each round, stop after this many without a better one, and end with the best, by "
            "metric_for_best_model, or else by the retrain-free gap. Default: take all rounds and end with the last."
        },
    )
    evaluation_seed: int | None = field(
        default=None,
        metadata={
            "help": "Seed of what measuring draws: the null's resamples, the attack's folds, the relearning's order. "
            "Default: that of --seed, which alone decides how the model comes about."
        },
    )
    horizontal_flip: bool = field(default=False, metadata={"help": "Mirror training images at random."})
    crop_padding: int = field(
        default=0, metadata={"help": "Pad training images by this many black pixels and crop at random."}
    )

    keep_teacher_logits: bool | None = field(
        default=None,
        metadata={
            "help": "Compute the teacher's logits on the round's samples once and read them from then on, instead of "
            "in each step. Default: where the samples never change, which augmented ones do."
        },
    )
    teacher_logits_dtype: str = field(
        default="float32", metadata={"help": "Precision of kept logits.", "choices": ["float32", "bfloat16"]}
    )
    teacher_logits_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the kept logits, for several runs from one model and data set to share. Default: in "
            "output_dir, and deleted when the run ends."
        },
    )

    keep_on_device: bool | None = field(
        default=None,
        metadata={
            "help": "Hold what every round reads on the device, so that no step waits for a copy. Default: where it "
            "takes no more than a quarter of the device's free memory."
        },
    )
    capture_graph: bool | None = field(
        default=None,
        metadata={
            "help": "On a CUDA device, record a step once a round and replay it, which takes the host no time. "
            "Default: where it can be done. true: refuse to run where it cannot."
        },
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Leave losses that are not finite out of the logged ones. Waits for the device each step."},
    )

    def __post_init__(self) -> None:
        self.open_arguments = {name for name in OPEN_ARGUMENTS if getattr(self, name) is None}
        for name in self.open_arguments:
            setattr(self, name, OPEN_ARGUMENTS[name])
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding must be 0 or more pixels, got {self.crop_padding}.")
        if self.label_smoothing_factor != 0:
            raise ValueError("label_smoothing_factor is not used by unlearning losses; leave it at 0.")
        self._check_numbers()
        # At most as many as a schedule can count; `max_steps` overrules the number of rounds.
        assert self.num_train_epochs is not None  # the open ones were settled above
        if not 0 < self.num_train_epochs <= 1_000_000 and self.max_steps <= 0:
            raise ValueError(
                f"num_train_epochs must be above 0 and at most 1,000,000 rounds, got {self.num_train_epochs}: a run "
                "without a round leaves the model as it is."
            )
        self._settle_choice()
        super().__post_init__()

    def _check_numbers(self) -> None:
        """Refuse numbers that no run can have: some would end it in the midst of its work, and some never.

        Raises:
            ValueError: with the argument's name, what it can be, and what it was.
        """
        for name, (least, most) in _WHOLE.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                bound = "or more" if value < least else f"to {most:,}"
                raise ValueError(f"{name} must be {least} {bound}, got {value}.")
        for name in _AMOUNTS:
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value < math.inf):
                raise ValueError(f"{name} must be 0 or more, and finite, got {value}.")
        if unreadable := [part for part in (self.optim_args or "").split(",") if part and "=" not in part]:
            raise ValueError(f"optim_args takes name=value, several with commas between, got {unreadable[0]!r}.")
        if self.logging_strategy == "steps" and not self.logging_steps > 0:
            raise ValueError(f"logging_steps must be above 0, got {self.logging_steps}.")

    @property
    def augments(self) -> bool:
        """Whether training images are augmented."""
        return self.horizontal_flip or self.crop_padding > 0

    @property
    def chosen_by(self) -> str | None:
        """The metric by which a round is chosen, without "eval_"; None where none is chosen."""
        if not self.load_best_model_at_end:
            return None
        assert self.metric_for_best_model is not None
        return self.metric_for_best_model.removeprefix("eval_")

    def _settle_choice(self) -> None:
        """Settle what choosing a round leaves open.

        Raises:
            ValueError: for a patience below 1, or a metric that needs a retrained model.
        """
        if self.early_stopping_patience is not None:
            if self.early_stopping_patience < 1:
                raise ValueError(
                    f"early_stopping_patience must be 1 or more rounds, got {self.early_stopping_patience}."
                )
            self.load_best_model_at_end = True
            if self.eval_strategy == "no":
                self.eval_strategy = IntervalStrategy.EPOCH
        if not self.load_best_model_at_end:
            return
        self.metric_for_best_model = self.metric_for_best_model or RETRAIN_FREE_GAP
        assert self.chosen_by is not None
        metric = METRICS.get(self.chosen_by)
        if metric is None and not self.chosen_by.startswith("reference_"):
            raise ValueError(
                f"metric_for_best_model is {self.metric_for_best_model!r}, which is not measured. "
                f"{nearest(self.chosen_by, list(METRICS))}"
            )
        if metric is None:
            return
        if not metric.is_retrain_free:
            raise ValueError(
                f"metric_for_best_model is {self.metric_for_best_model!r}, which is measured from a retrained model: "
                "where there is one, nothing is left to unlearn. Choose by 'eval_retrain_free_gap' or 'eval_rf_jsd'."
            )
        if self.greater_is_better is None and metric.best != "nearest":
            self.greater_is_better = metric.best == "most"

    def settle(self, defaults: dict[str, object]) -> None:
        """Give the arguments that the user left open the values in `defaults`; what is not in there keeps Trainer's.

        Args:
            defaults: name → value, as a method's `default_arguments` gives them.
        """
        # Options of one optimizer mean nothing to another.
        taken = self.open_arguments if "optim" in self.open_arguments else self.open_arguments - {"optim_args"}
        for name in sorted(taken & defaults.keys()):
            self._set(name, defaults[name])
        self.open_arguments = set()

    def changed(self, **values: object) -> UnlearningArguments:
        """A copy with some arguments changed; those that are open stay open.

        Raises:
            ValueError: for an argument that does not exist.
        """
        copied = copy.copy(self)
        for name, value in values.items():
            if name not in self.__dataclass_fields__:
                raise ValueError(
                    f"There is no training argument {name!r}. {nearest(name, list(self.__dataclass_fields__))}"
                )
            copied._set(name, value)
        copied.open_arguments = self.open_arguments - values.keys()
        copied._check_numbers()
        if values.keys() & _CHOICE:
            copied._settle_choice()
        return copied

    def _set(self, name: str, value: object) -> None:
        now = getattr(self, name)
        # Through the type of what stands there: Trainer compares enums.
        setattr(self, name, type(now)(value) if isinstance(now, Enum) else value)
