"""Run a recipe: train the original and the retrained model, unlearn by every method, measure, for every seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import BaseImageProcessor, PreTrainedModel

from hf_lotus.benchmark.comparison import Comparison, Contender, again_seed
from hf_lotus.benchmark.contenders import progress_line, read_entry
from hf_lotus.benchmark.data import class_names, load_benchmark_data, require_split
from hf_lotus.benchmark.models import image_processor, initial_model
from hf_lotus.benchmark.recipe import Recipe
from hf_lotus.data.loading import LoadedData
from hf_lotus.evaluation.results import UnlearningResult, retrained_row
from hf_lotus.methods import Task
from hf_lotus.models.loading import all_retrained, load_model
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.reference_models import TrainedModel, trained_model

OWN_PROTOCOL = "own forget split for every seed"
PAPER_PROTOCOL = "the paper's: one forget split, the first rows of each class, for every seed"
# Transformers' own default, which stands where neither the recipe nor the method says how many rounds there are.
_ROUNDS = 3.0


@dataclass(frozen=True)
class Benchmark:
    """A recipe and how it is run.

    Results are in `folder`, a folder of its own for all settings that the rows share: data, models, what is forgotten,
    reductions, protocol. In it, each row is kept by a digest of all that determines it (`Comparison`). Trained models
    are beside it, in `models`, shared by all recipes that start from the same training.

    Attributes:
        recipe: the settings.
        output_dir: where the folders are.
        arguments: the training arguments that say how to run and change no result, and the precision.
        paper_protocol: repeat the single forget split of the paper.
        original_model: a trained model to unlearn, in place of one trained here for every seed.
        retrain_model: a model trained without the forget set, likewise.
        retrain_models: further such models, of other seeds.
        retrain_again: how many further models are retrained, with other seeds, each at the cost of the first.
        training_seeds: seeds of the original and the retrained models, each with every seed of a run; () for its own.
        evaluation_seeds: seeds of what measuring draws, as in `Comparison`; () for the run's own.
        measure_relearning: whether to measure the relearning excess of every row.
        say: told what is going on, a line at a time.
    """

    recipe: Recipe
    output_dir: str | Path
    arguments: UnlearningArguments
    paper_protocol: bool = False
    original_model: str | None = None
    retrain_model: str | None = None
    retrain_models: Sequence[str] = ()
    retrain_again: int = 0
    training_seeds: Sequence[int] = ()
    evaluation_seeds: Sequence[int] = ()
    measure_relearning: bool = False
    say: Callable[[str], None] = lambda text: None

    @property
    def protocol(self) -> str:
        """How the forget splits of the seeds are chosen, in words."""
        return PAPER_PROTOCOL if self.paper_protocol else OWN_PROTOCOL

    @property
    def folder(self) -> Path:
        """Where the results of these settings are, and of no others."""
        given = [self.recipe.settings(), self.paper_protocol, self.original_model, self.retrain_model]
        given += [self.arguments.bf16, self.arguments.fp16]
        # Only where there are any, so that what was made without them is found again.
        given += [[*self.retrain_models]] if self.retrain_models else []
        digest = hashlib.sha256(json.dumps(given, sort_keys=True, default=str).encode()).hexdigest()
        return Path(self.output_dir) / f"{self.recipe.name}-{digest[:8]}"

    def run(self, seeds: Sequence[int], contenders: Mapping[str, Contender]) -> list[UnlearningResult]:
        """One result a seed; each is in `folder` as soon as it is there, and what is there already is taken.

        Args:
            seeds: seeds of the splits and the methods and, unless these have their own, of the models.
            contenders: row → method.

        Raises:
            ValueError: if the given retrained model cannot be that of every seed, or the data set lacks a part.
        """
        fixed = self.paper_protocol or self.recipe.is_class_wise or "first" in self.recipe.forget
        if self._given_retrained and len(seeds) > 1 and not fixed:
            raise ValueError(
                f"retrain_model is a model trained without one forget set, and each of the {len(seeds)} seeds has its "
                "own. Give one seed, or paper_protocol, or let the models be trained."
            )
        if self.recipe.training is not None:
            self._training(0)  # before the data is loaded: its options may be wrong
        trainings: Sequence[int | None] = self.training_seeds or [None]
        return [self._run_seed(seed, contenders, training) for training in trainings for seed in seeds]

    @property
    def _given_retrained(self) -> list[str]:
        return all_retrained(self.retrain_model, self.retrain_models)

    def _run_seed(
        self, seed: int, contenders: Mapping[str, Contender], training: int | None = None
    ) -> UnlearningResult:
        folder = self.folder / (f"seed-{seed}" if training is None else f"training-{training}-seed-{seed}")
        data = load_benchmark_data(self.recipe, seed, paper_split=self.paper_protocol)
        columns = {name: self.recipe.dataset.get(name) for name in ("image_column", "label_column")}
        processor = image_processor(self.recipe)
        original, retrained = self._models(data, processor, seed if training is None else training, columns)
        model, capped = original.model, self._capped(contenders, original.model)
        comparison = Comparison(
            model,
            self.arguments.changed(output_dir=str(folder), seed=seed),
            forget_dataset=data.split.forget,
            retain_dataset=data.split.retain,
            unseen_dataset=require_split(data, "unseen"),
            eval_dataset=require_split(data, "test"),
            retrain_models=[each.model for each in retrained],
            retrain_seconds=[each.seconds for each in retrained],
            training_seed=training,
            evaluation_seeds=self.evaluation_seeds,
            measure_relearning=self.measure_relearning,
            paper_protocol=self.paper_protocol,
            processing_class=processor,
            on_measured=lambda row: self.say(progress_line(seed, row)),
            image_column=columns["image_column"],
            label_column=columns["label_column"],
            ready_images_dir=self.recipe.dataset.get("ready_images_dir"),
        )
        about: dict[str, Any] = {
            "recipe": self.recipe.settings(),
            "title": self.recipe.title,
            "protocol": self.protocol,
        }
        about |= {"dataset": self.recipe.dataset["dataset_name"], "model": _described(model)}
        result = comparison.run(capped, **about, original_seconds=original.seconds, **data.provenance())
        result.to_json(folder / "results.json")
        return result

    def _models(
        self, data: LoadedData, processor: BaseImageProcessor, seed: int, columns: Mapping[str, str | None]
    ) -> tuple[TrainedModel, list[TrainedModel]]:
        """The original and, where there are any, the retrained models of a training seed."""
        names = class_names(data.split.dataset, columns["label_column"])

        def train(dataset: Dataset, what: str, seed: int) -> TrainedModel:
            return trained_model(
                initial_model(self.recipe, names, seed),
                dataset,
                processor,
                self._training(seed),
                Path(self.output_dir) / "models",
                lambda text: self.say(f"seed {seed} · {what}: {text}"),
                ready_images_dir=self.recipe.dataset.get("ready_images_dir"),
                **columns,
            )

        retrained = [TrainedModel(load_model(name)) for name in self._given_retrained]
        if self.original_model:
            original = TrainedModel(load_model(self.original_model))
        elif self.recipe.training is None:
            original = TrainedModel(initial_model(self.recipe, names, seed))
        else:
            original = train(_training_rows(data), "original", seed)
        if not retrained and self.recipe.training is not None:
            seeds = [seed, *(again_seed(seed, number) for number in range(1, self.retrain_again + 1))]
            retrained = [train(data.split.retain, retrained_row(place), own) for place, own in enumerate(seeds)]
        return original, retrained

    def _training(self, seed: int) -> UnlearningArguments:
        """The training arguments of the original and the retrained model, none of them left open."""
        assert self.recipe.training is not None
        # A recipe's values are read as those of a method are.
        _, given = read_entry("training", {"method": "finetune", **self.recipe.training})
        if (limit := self.recipe.max_training_rounds) is not None:
            given["num_train_epochs"] = min(float(given.get("num_train_epochs", _ROUNDS)), float(limit))
        return self.arguments.changed(seed=seed, **given)

    def _capped(self, contenders: Mapping[str, Contender], model: PreTrainedModel) -> dict[str, Contender]:
        """The contenders, none of which takes more rounds than the recipe allows."""
        limit = self.recipe.max_rounds
        if limit is None:
            return dict(contenders)
        task = Task(model, self.recipe.is_class_wise, model.config.num_labels)
        capped = {}
        for name, contender in contenders.items():
            settled: dict[str, Any] = {**contender.method.default_arguments(task), **contender.arguments}
            rounds = min(float(settled.get("num_train_epochs", _ROUNDS)), float(limit))
            capped[name] = replace(contender, arguments={**contender.arguments, "num_train_epochs": rounds})
        return capped


def _training_rows(data: LoadedData) -> Dataset:
    """What the original is trained on: all rows but those left out of both sides."""
    split = data.split
    if len(split.forget_rows) + len(split.retain_rows) == len(split.dataset):
        return split.dataset
    return split.dataset.select(sorted([*split.forget_rows, *split.retain_rows]))


def _described(model: PreTrainedModel) -> dict[str, object]:
    kind = model.config.model_type
    return {"model_type": kind, "parameters": sum(weight.numel() for weight in model.parameters())}
