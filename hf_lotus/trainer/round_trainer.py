"""A `Trainer` whose epochs are rounds: passes of batches that may differ from round to round."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from accelerate.data_loader import prepare_data_loader
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainingArguments

from hf_lotus.data.batches import POSITION, Collator, model_columns
from hf_lotus.data.images import Augmentation
from hf_lotus.data.prepared import ready
from hf_lotus.data.samples import are_ready
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.given import Given
from hf_lotus.trainer.hooks import MethodHooks
from hf_lotus.trainer.resident import ResidentRound, may_reside
from hf_lotus.trainer.round_data import RoundDataset, draw_round
from hf_lotus.trainer.sampler import RoundBatches, Sides
from hf_lotus.utils.seeds import NOISE, derived_seed


class RoundTrainer(Trainer):
    """The part of `UnlearningTrainer` that knows about steps and batches, and not about unlearning.

    `Trainer` takes every epoch for as long as the first; here each round has the length that its passes give it, in
    the schedule and on a resume too.

    Args:
        model: the model to train.
        given: what the run is made of.
        **options: `processing_class`, `data_collator`, `callbacks` and `optimizers` of `Trainer`.

    Attributes:
        given: the same.
        method: says which passes make a round, and how its learning rate is scaled.
        task: what is unlearned.
        splits: name → data set made ready, or None.
        hooks: every call of the method's hooks.
        sampler: the batches of the current round.
        collator: makes a batch of samples.
        counts: samples in the optimizer step, over all ranks and accumulated batches, without repetitions.
        shown: samples of each side in the batch at hand, repetitions included.
        noise: the source of the batch's random numbers, on the device.
        operations_of_batch: floating-point operations of the batch at hand.
    """

    # The loss is averaged over all samples of an optimizer step, accumulated and on all ranks (transformers ≥ 5.20).
    loss_is_scaled_for_ga = True

    # What `Trainer` is given here is narrower than what it takes.
    args: UnlearningArguments
    model: nn.Module
    train_dataset: RoundDataset
    hub_model_id: str | None  # type: ignore[assignment]  # declared by what it is set to first

    def __init__(self, model: nn.Module, given: Given, **options: Any):
        self.given = given
        self.method, self.task, self.splits = given.method, given.task, given.splits
        self.hooks = MethodHooks(given.method, given.task)
        self._sampler: RoundBatches | None = None
        self.counts = self.shown = Sides(0, 0)
        self._resident: ResidentRound | None = None
        self._operations: dict[int, int] = {}  # of a batch of so many values
        self.operations_of_batch = 0
        self._batch_id = (-1, 0)
        self._evaluated: Dataset | None = None
        self._augmentation = Augmentation(given.args.horizontal_flip, given.args.crop_padding)
        samples = draw_round(self.hooks.streams(), given.forget, given.retain, given.settled_data_seed)
        # Trainer refuses an eval_strategy without an evaluation set; here there is always the forget set.
        measured = self.splits["forget" if self.splits["test"] is None else "test"]
        super().__init__(model=model, args=given.args, train_dataset=samples, eval_dataset=measured, **options)
        # The sample count of an optimizer step then reaches `compute_loss` for every model.
        self.model_accepts_loss_kwargs = True
        self.collator = Collator(model_columns(model), self.data_collator)
        self.noise = torch.Generator(device=self.args.device)

    @property
    def sampler(self) -> RoundBatches:
        """The batches of the current round; made when first asked for, and anew when training starts."""
        if self._sampler is None:
            self._sampler = self._make_sampler()
        return self._sampler

    @property
    def forget_parts(self) -> Tensor | None:
        """The number of each forget sample's part, where passes take one part alone."""
        return None

    def get_train_dataloader(self) -> DataLoader:
        """The batches of a round, in an order that depends only on the seed and the round."""
        self._sampler = self._make_sampler()
        data: Dataset = self.train_dataset
        self._resident = None
        if may_reside(self.train_dataset, self.args.device, self.args.keep_on_device):
            workers, shown = self.args.dataloader_num_workers, not self.args.disable_tqdm
            data = self._resident = ResidentRound(self.train_dataset, self.args.device, workers, shown)
        # The batches are this rank's already: nothing is left to divide.
        return prepare_data_loader(
            self._loader(data, batch_sampler=self._sampler), self.args.device, num_processes=1, process_index=0,
            put_on_device=True, non_blocking=self._pins_memory,
        )  # fmt: skip

    def _make_sampler(self) -> RoundBatches:
        data, args = self.train_dataset, self.args
        return RoundBatches(
            data.num_forget,
            len(data) - data.num_forget,
            self.hooks.passes,
            self._train_batch_size,
            self.given.settled_data_seed,
            accumulation=args.gradient_accumulation_steps,
            ranks=args.world_size,
            rank=args.process_index,
            drop_last=args.dataloader_drop_last,
            at_least=2 if self.task.is_batch_norm_model else 1,
            parts=self.forget_parts,
        )

    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader) -> tuple:
        """As in `Trainer`, for rounds that may differ in their number of steps."""
        values = list(super().set_initial_training_values(args, dataloader))
        assert args.num_train_epochs is not None and args.max_steps is not None
        if args.max_steps > 0:
            values[0] = self._num_rounds(args.max_steps)
            return tuple(values)
        rounds, whole = math.ceil(args.num_train_epochs), int(args.num_train_epochs)
        last = math.ceil((args.num_train_epochs - whole) * self.sampler.steps(whole)) if rounds > whole else 0
        values[-1] = self.sampler.first_step(whole) + last
        return tuple(values)

    @property
    def num_rounds(self) -> int:
        """Rounds that the run is to begin."""
        if self.args.max_steps <= 0:
            assert self.args.num_train_epochs is not None
            return math.ceil(self.args.num_train_epochs)
        return self._num_rounds(self.args.max_steps)

    def _num_rounds(self, steps: int) -> int:
        """Rounds that a run of so many optimizer steps begins."""
        return self.sampler.locate(steps - 1, sys.maxsize) + 1

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        _, skipped = super()._init_training_state(*args, **kwargs)
        step = self.state.global_step
        if step >= self.state.max_steps:
            return self.state.num_train_epochs, 0  # it is over, be it within a round
        index = self.sampler.locate(step, self.state.num_train_epochs)
        if not self.args.ignore_data_skip:
            skipped = (step - self.sampler.first_step(index)) * self.args.gradient_accumulation_steps
        return index, skipped

    def _run_epoch(  # type: ignore[override]  # Trainer names all that it gives, more or less of it by release
        self, *, epoch: int, **kwargs: Any
    ) -> None:
        steps = self.sampler.steps(epoch)
        kwargs |= {
            "num_update_steps_per_epoch": steps,
            "steps_in_epoch": steps * self.args.gradient_accumulation_steps,
        }
        super()._run_epoch(epoch=epoch, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """As in `Trainer`, times the method's factor at each step."""
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        last = self._num_rounds(num_training_steps)
        rounds = float(last if self.args.max_steps > 0 else cast(float, self.args.num_train_epochs))

        def factor(step: int) -> float:
            index = self.sampler.locate(step, last)
            share = (step - self.sampler.first_step(index)) / self.sampler.steps(index)
            return self.hooks.learning_rate_within(index, share, rounds)

        places = [(index, share) for index in range(last + 1) for share in (0.0, 0.5)]
        if any(self.hooks.learning_rate_within(*place, rounds) != 1.0 for place in places):
            scale_by_round(scheduler, factor)
        return scheduler

    @property
    def _pins_memory(self) -> bool:
        """Whether batches lie where the device can fetch them while the host goes on."""
        return self.args.dataloader_pin_memory and self.args.device.type != "cpu"

    def _loader(self, dataset: Dataset, **options: Any) -> DataLoader:
        works = not isinstance(dataset, ResidentRound)  # its positions are at hand
        return DataLoader(
            dataset,
            collate_fn=self.collator,
            num_workers=self.args.dataloader_num_workers if works else 0,
            pin_memory=self._pins_memory,
            persistent_workers=self.args.dataloader_persistent_workers and works,
            prefetch_factor=self.args.dataloader_prefetch_factor if works else None,
            **options,
        )

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """A loader for a data set of the user's: raw samples are made ready first."""
        given = cast(Dataset, self.eval_dataset if eval_dataset is None else eval_dataset)
        dataset = ready(given, self.processing_class, **self.given.options)
        self._evaluated = dataset
        return self.accelerator.prepare(self._loader(dataset, batch_size=self.args.eval_batch_size))

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        """The same for `predict`."""
        return self.get_eval_dataloader(test_dataset)

    @property
    def augmentation(self) -> Augmentation:
        """How the training images of the optimizer step that is being made are augmented."""
        return self._augmentation

    def training_step(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """As in `Trainer`, once the batch is augmented and finished on the device."""
        self._seed_batch()
        self.shown = self.sampler.shown(self.step_of_round, self._batch_id[1])
        return self.step_on_device(model, inputs, num_items_in_batch)

    def step_on_device(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """All of a step that its device does before the optimizer's part: the loss of what the loader gave."""
        if self._resident is not None:
            inputs = self._resident.batch(inputs[POSITION])
        inputs = self._finished(self.splits["retain"], inputs, self.augmentation)
        self.operations_of_batch = self._count_operations(inputs)
        return self.backward_pass(model, inputs, num_items_in_batch)

    def backward_pass(
        self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """`Trainer.training_step` on a batch that is finished: its loss, whose gradients the parameters then hold."""
        return super().training_step(model, inputs, num_items_in_batch)

    def prediction_step(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> tuple:
        """As in `Trainer`, once the batch is finished on the device."""
        return super().prediction_step(model, self._finished(self._evaluated, inputs), *args, **kwargs)

    def _finished(
        self, samples: Dataset | None, inputs: dict[str, Tensor], augmentation: Augmentation | None = None
    ) -> dict[str, Tensor]:
        if not are_ready(samples):
            return inputs
        inputs = {name: value.to(self.args.device, non_blocking=True) for name, value in inputs.items()}
        return samples.finish(inputs, augmentation, self.noise)

    def _seed_batch(self) -> None:
        """Seed the noise from (seed, rank, step, batch within the step): a resumed run draws the same numbers.

        So are torch's and NumPy's own sources, which dropout and SpecAugment draw from: else their masks would depend
        on all that was drawn since the trainer was made, and would be the same on every rank.
        """
        step = self.state.global_step
        self._batch_id = (step, self._batch_id[1] + 1 if self._batch_id[0] == step else 0)
        seed = derived_seed(self.args.seed, NOISE, self.args.process_index, *self._batch_id)
        self.noise.manual_seed(seed)
        # To seed devices that are not there takes as long as a tiny model's step: each call keeps its traceback.
        (torch.default_generator if self.args.device.type == "cpu" else torch).manual_seed(seed)
        np.random.seed(seed % 2**32)

    @property
    def step_of_round(self) -> int:
        """Which optimizer step of its round is being made, from 0."""
        return self.state.global_step - self.sampler.first_step(self.sampler.round)

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, int]:
        """As in `Trainer`, with the samples of the optimizer step over all ranks, repetitions left out.

        The sampler knows how many they are: nothing is counted on the device, or over the ranks.
        """
        self.counts = self.sampler.counted(self.step_of_round)
        return list(islice(epoch_iterator, num_batches)), sum(self.counts)

    def floating_point_ops(self, inputs: dict[str, Tensor]) -> int:
        """As in `Trainer`, of the batch at hand as it was shown: what the loader gave may be positions alone."""
        return self.operations_of_batch

    def _count_operations(self, inputs: dict[str, Tensor]) -> int:
        # Trainer's counts the model's parameters anew in each step.
        values = sum(value.numel() for value in inputs.values())
        if values not in self._operations:
            self._operations[values] = super().floating_point_ops(inputs)
        return self._operations[values]

    def step_share(self, per_sample: Tensor, positions: Tensor, is_forget: Tensor, paired: bool) -> Tensor:
        """A batch's share in the mean loss over all samples of the optimizer step, on all ranks; the step sums it up.

        Args:
            per_sample: losses, shape (batch,).
            positions: the samples' places among the round's samples, shape (batch,).
            is_forget: True for samples of the forget set, shape (batch,).
            paired: whether each side is averaged on its own, and the two means are added.
        """
        counted: Tensor | float = float(sum(self.counts))
        if paired:
            counted = torch.where(is_forget, float(self.counts.forgotten), float(self.counts.retained))
        weights = self._is_counted(positions) / counted
        # Gradients are averaged over ranks, so the global mean needs their number back.
        return (per_sample * weights).sum() * self.accelerator.num_processes

    def _is_counted(self, positions: Tensor) -> Tensor:
        """False for samples that are repeated to give every rank batches of one size."""
        return positions < len(self.train_dataset)


def scale_by_round(scheduler: LRScheduler, scale: Callable[[int], float]) -> None:
    """Multiply a schedule by a factor that depends on the number of steps taken.

    Raises:
        ValueError: if the schedule is not one of factors on the first learning rate.
    """
    if not isinstance(scheduler, LambdaLR):
        raise ValueError(
            f"The method changes the learning rate between rounds, which does not go with {type(scheduler).__name__}. "
            "Use lr_scheduler_type='constant', 'linear' or 'cosine'."
        )

    def scaled(own: Callable[[int], float]) -> Callable[[int], float]:
        return lambda step: own(step) * scale(step)

    scheduler.lr_lambdas = [scaled(own) for own in scheduler.lr_lambdas]
    for group, rate, factor in zip(
        scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
    ):
        group["lr"] = rate * factor(scheduler.last_epoch)
