"""What a method may ask of the trainer: `hf_lotus.methods.base.Run`, over a trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from hf_lotus.data.batches import FORGET_FLAG, model_inputs, read_dataset_labels
from hf_lotus.data.prepared import num_samples
from hf_lotus.data.samples import are_ready
from hf_lotus.evaluation.predictions import Predictions, predict
from hf_lotus.functional.tensors import equal_weights
from hf_lotus.methods import Task
from hf_lotus.trainer.given import required
from hf_lotus.trainer.round_data import RoundDataset, SplitRows
from hf_lotus.utils.seeds import ORDER, derived_seed

if TYPE_CHECKING:
    from hf_lotus.trainer.trainer import UnlearningTrainer

# The order of `batches` is drawn as that of a round which no run reaches.
_NO_ROUND = 2**31


class TrainerRun:
    """The run of one trainer, as methods see it; documented at `hf_lotus.methods.base.Run`.

    Args:
        trainer: the trainer.
        task: what it unlearns.
        seed: seed of the run.
    """

    def __init__(self, trainer: UnlearningTrainer, task: Task, seed: int):
        self._trainer, self.task, self.class_wise, self.seed = trainer, task, task.class_wise, seed
        self._wrapped: nn.Module | None = None
        self._student: nn.Module | None = None
        self._renewed_predictions: tuple[nn.Module | None, dict[str, Predictions]] = (None, {})
        self._predicted: tuple[object, dict[str, Predictions]] = (None, {})

    @property
    def student(self) -> nn.Module:
        """The model being unlearned, without the wrappers of distributed training."""
        model = self._trainer.model
        if model is not self._wrapped:  # unwrapping walks through all modules: not in each step
            self._wrapped, self._student = model, self._trainer.accelerator.unwrap_model(model)
        assert self._student is not None
        return self._student

    @property
    def teacher(self) -> nn.Module:
        """The frozen copy of the model as it was when the trainer was made, or when it last became the teacher."""
        return self._trainer.current_teacher

    @property
    def teacher_is_renewed(self) -> bool:
        """Whether the student became the teacher since."""
        return self._trainer.current_teacher is not self._trainer.teacher

    @property
    def num_rounds(self) -> int:
        """Rounds that the run is to begin."""
        return self._trainer.num_rounds

    @property
    def num_forget(self) -> int:
        """Forget samples of a round."""
        return self._trainer.train_dataset.num_forget

    @property
    def input_range(self) -> tuple[Tensor, Tensor] | None:
        """Lowest and highest value of the model's image inputs, each of shape (channels, 1, 1)."""
        samples = self._trainer.splits["forget"]
        return samples.input_range if are_ready(samples) else None

    def student_accuracy(self, split: str) -> float:
        """Exact accuracy of the student on a split, over all ranks, in eval mode."""
        return self.student_predictions(split).accuracy

    def teacher_accuracy(self, split: str, like: str | None = None) -> float:
        """Exact accuracy of the teacher on a split, measured once; each class weighted as in the split `like`."""
        predictions = self.teacher_predictions
        if like is None:
            return predictions(split).accuracy
        return predictions(split).accuracy_weighted(predictions(like).labels)

    def teacher_predictions(self, split: str, rows: Sequence[int] | None = None) -> Predictions:
        """The teacher's predictions over all ranks: on a whole split, made once and kept; or on some of its rows."""
        if rows is None and not self.teacher_is_renewed:
            with self._trainer.passes.split(split):
                return self._trainer.evaluator.original_predictions(split)
        if rows is None:
            if self._renewed_predictions[0] is not self.teacher:
                self._renewed_predictions = self.teacher, {}
            kept = self._renewed_predictions[1]
            if split not in kept:
                kept[split] = self._predict(self.teacher, split, "teacher")
            return kept[split]
        samples = SplitRows(self._split(split), rows)
        options = self._trainer.evaluator.options
        with self._trainer.passes.split(split):
            return predict(self.teacher, samples, description=f"original on {split}", **options)

    def student_predictions(self, split: str) -> Predictions:
        """The student's predictions on a split over all ranks, in the split's order."""
        if equal_weights(self.student, self.teacher):
            return self.teacher_predictions(split)  # before the first round, and without a pass of its own
        kept = self.predicted
        if split not in kept:
            kept = {**kept, split: self._predict(self.student, split, "student")}
            self._predicted = (
                self._moment,
                kept,
            )  # the moment after: ranks that predict take over the first one's buffers
        return kept[split]

    @property
    def predicted(self) -> Mapping[str, Predictions]:
        """What the student was found to predict since the last optimizer step, by split; nothing but within training.

        Whoever decides or measures at a border of rounds takes it from here, and no pass is taken twice.
        """
        moment, kept = self._predicted
        return kept if self._trainer.is_in_train and moment == self._moment else {}

    @property
    def _moment(self) -> object:
        """Changes with each step, and with each change of a weight in its place."""
        values = chain(self.student.parameters(), self.student.buffers())
        return self._trainer.state.global_step, [value._version for value in values]

    def forget_predicted(self) -> None:
        """Let go of what the student was found to predict: it is about to change."""
        self._predicted = None, {}

    def _predict(self, model: nn.Module, split: str, name: str) -> Predictions:
        with self._trainer.passes.split(split):
            return self._trainer.evaluator.predict(model, split, name)

    def labels(self, split: str) -> Tensor:
        """The true class of every sample of a split, shape (samples,)."""
        return read_dataset_labels(self._split(split))

    @property
    def round_state(self) -> Mapping[str, Tensor]:
        """The tensors of the last decision."""
        return self._trainer.round_state

    @property
    def parts(self) -> Tensor | None:
        """The number of each forget sample's part, where the method tells them."""
        return self._trainer.hooks.parts(self)

    @property
    def renewed_before(self) -> int | None:
        """The round before which the student last became the teacher; None where it did not."""
        return self._trainer.renewed_before

    @property
    def num_samples(self) -> int:
        """Samples of a round; positions from there on repeat one before."""
        return len(self._trainer.train_dataset)

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self._trainer.args.process_index

    @property
    def ranks(self) -> int:
        """How many processes there are."""
        return self._trainer.args.world_size

    @property
    def prepared(self) -> object:
        """What the method prepared."""
        return self._trainer.hooks.state

    def example(self, split: str) -> dict[str, Tensor]:
        """The model inputs of the first batch of a split, the same on every rank."""
        return self.inputs(split, range(min(num_samples(self._split(split)), self._trainer.args.train_batch_size)))

    def inputs(self, split: str, rows: Sequence[int]) -> dict[str, Tensor]:
        """The model inputs of some rows of a split, on the device."""
        trainer, dataset, rows = self._trainer, self._split(split), [int(row) for row in rows]
        samples = dataset.__getitems__(rows) if are_ready(dataset) else [dataset[row] for row in rows]
        inputs = self._on_device(model_inputs(trainer.collator(samples)))
        return dataset.finish(inputs) if are_ready(dataset) else inputs

    def _split(self, name: str) -> Dataset:
        dataset = self._trainer.splits[name]
        assert dataset is not None
        return dataset

    def _on_device(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self._trainer.args.device) for name, value in batch.items()}

    def batches(
        self, *splits: str, rows: Mapping[str, Sequence[int]] | None = None
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """This rank's share of the batches of the splits, shuffled together once: (model inputs, labels)."""
        trainer = self._trainer
        sides = {name: required(trainer.splits, name) for name in ("forget", "retain")}
        everything = {name: torch.arange(num_samples(side)) for name, side in sides.items()}
        dataset = RoundDataset(sides["forget"], sides["retain"], everything["forget"], everything["retain"])
        taken = {**everything, **{name: torch.as_tensor(few) for name, few in (rows or {}).items()}}
        starts = {"forget": 0, "retain": dataset.num_forget}
        chosen = torch.cat([taken[name] + starts[name] for name in splits])
        generator = torch.Generator().manual_seed(derived_seed(self.seed, ORDER, _NO_ROUND))
        batches = chosen[torch.randperm(len(chosen), generator=generator)].split(trainer.args.train_batch_size)
        ranks, rank = trainer.args.world_size, trainer.args.process_index
        loader = DataLoader(
            dataset,
            batch_sampler=[batch.tolist() for batch in batches[rank::ranks]],
            collate_fn=trainer.collator,
            num_workers=trainer.args.dataloader_num_workers,
            generator=torch.Generator(),
        )
        hidden = trainer.args.disable_tqdm or rank > 0
        for batch in tqdm(loader, desc=f"gradients on {' + '.join(splits)}", leave=False, disable=hidden):
            batch = self._on_device(batch)
            inputs = model_inputs(batch)
            forgotten = int(batch[FORGET_FLAG].sum())
            with trainer.passes.showing(len(batch["labels"]) - forgotten, forgotten):
                yield (dataset.finish(inputs) if dataset.finish else inputs), batch["labels"]

    def sum_over_ranks(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each tensor summed over all ranks."""
        return self._trainer.accelerator.reduce(dict(values), "sum")
