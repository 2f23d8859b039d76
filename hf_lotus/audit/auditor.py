"""An audit of a model, unlearned by anything: every tier that can be measured with what is given."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from hf_lotus.audit.evidence import FORGET, UNSEEN, Ensemble, Evidence, Outputs, References
from hf_lotus.audit.from_pool import PoolEvidence, pool_evidence
from hf_lotus.audit.judgement import judge
from hf_lotus.audit.pool import Pool
from hf_lotus.data.batches import read_dataset_labels
from hf_lotus.data.columns import InputOptions, SampleColumns
from hf_lotus.data.prepared import num_samples, ready_splits
from hf_lotus.data.samples import kind_of
from hf_lotus.evaluation.features import classifier_head, predicted_with_features
from hf_lotus.evaluation.findings import AuditReport
from hf_lotus.evaluation.predictions import predict
from hf_lotus.evaluation.provenance import provenance
from hf_lotus.evaluation.results import ORIGINAL, is_control_row, retrained_row
from hf_lotus.models.checks import check_same_classes, require_single_label
from hf_lotus.publishing.digests import sample_contents, weights_digest
from hf_lotus.trainer.arguments import UnlearningArguments
from hf_lotus.trainer.given import required
from hf_lotus.trainer.relearning import Outcome, Relearning

if TYPE_CHECKING:
    from typing_extensions import Unpack

MOST_REFERENCES = 4


def audit(
    model: nn.Module,
    original: nn.Module,
    *,
    forget_dataset: Dataset,
    retain_dataset: Dataset,
    unseen_dataset: Dataset | None = None,
    retrain_models: Sequence[nn.Module] = (),
    reference_models: Sequence[nn.Module] = (),
    unlearned_models: Sequence[nn.Module] = (),
    pool: Pool | str | Path | None = None,
    pool_method: str | None = None,
    relearn_rows: int | None = None,
    processing_class: object | None = None,
    name: str = "unlearned",
    seed: int = 42,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    asked: Mapping[str, Any] | None = None,
    **inputs: Unpack[InputOptions],
) -> AuditReport:
    """Ask by every tier that can be measured whether a model still knows what it was made to forget.

        report = audit(unlearned, original, forget_dataset=split.forget, retain_dataset=split.retain,
                       unseen_dataset=unseen, retrain_models=[retrained], processing_class=processor)
        report["relative_test"].verdict, report.in_words()

    The models are not changed, and nothing is written. Tiers whose needs are not met say what is missing. Progress is
    shown.

    Args:
        model: the audited model, unlearned by anything.
        original: the model before that.
        forget_dataset: what was to be forgotten.
        retain_dataset: what was to be kept; one round of relearning trains on it.
        unseen_dataset: data of the same kind that no model was trained on. Most tiers need it.
        retrain_models: trained without the forget set, of different seeds; the second is the row "retrain again".
        reference_models: one to four that never saw the forget set, for RMIA, over the retrained ones.
        unlearned_models: others that the same method unlearned, of other originals: with the retrained models, for
            U-LiRA, KLOM and ε.
        pool: a pool of reference models, or its folder (`hf-lotus pool`), for tiers 4 to 6.
        pool_method: what the pool calls the method that made the audited model; `name` if None.
        relearn_rows: how many rows of the retain set, drawn once for all models, the round of relearning trains on;
            all of them if None. Fewer make a quicker and a weaker test.
        processing_class: the models' image processor, tokenizer or feature extractor.
        name: what to call the audited model.
        seed: of every draw, and of the order of relearning.
        batch_size: samples per forward pass.
        device: where to measure; where each model is, if None.
        asked: what the report says was asked beside the numbers of samples, JSON values.
        **inputs: columns and lengths, where they cannot be told from the features.

    Raises:
        ValueError: for empty sets or ones that share rows, no rows to relearn on, models of other classes, a retrained
            or reference model that is the original or the audited one, more than four references, or a pool that does
            not suit (`Pool.check`).
        TypeError: for a streamed set, or raw images on one side and model inputs on the other.
        FloatingPointError: if a model's outputs are not finite.
    """
    if is_control_row(name):
        raise ValueError(f"name={name!r} is the name of another row; call the audited model something else.")
    given = {"forget": forget_dataset, "retain": retain_dataset, "unseen": unseen_dataset}
    splits, class_wise = ready_splits(given, getattr(model, "config", None), processing_class, **inputs)
    samples = {split: num_samples(data) for split, data in splits.items() if data is not None}
    rows = {name: model, ORIGINAL: original}
    rows |= {retrained_row(number): each for number, each in enumerate(retrain_models)}
    further = {f"reference {n}": each for n, each in enumerate(reference_models, start=1)}
    others = {f"unlearned model {n}": each for n, each in enumerate(unlearned_models, start=2)}
    digests = _checked(rows, further, others, name)
    pool = Pool.open(pool) if isinstance(pool, str | Path) else pool
    from_pool = _from_pool(pool, given, inputs, model, name, pool_method, list(digests.values()))
    splits = {**splits, "retain": _some(splits["retain"], relearn_rows, seed)}
    models = _Models({**rows, **further, **others}, splits, batch_size, device)
    with tqdm(total=models.steps(rows) + 1, desc="Audit", unit="step") as bar:
        outputs = {each: models.outputs(each, bar) for each in rows}
        evidence = Evidence(
            name,
            models.labels,
            outputs,
            digests,
            class_wise,
            relearned=models.relearned(rows, class_wise, seed, bar),
            features=models.features,
            seed=seed,
            **_reference_models(models, from_pool, rows, further, others, name, digests, outputs, bar),
        )
        bar.set_description("Audit: judging")
        about = {
            "class_wise": class_wise,
            "kind": kind_of(splits["forget"]),
            "samples": samples,
            "relearn_rows": num_samples(required(splits, "retain")),
            "seed": seed,
            **(asked or {}),
        }
        report = judge(evidence, about, digests[name], _notes(digests, name, from_pool), provenance())
        bar.update()
    return report


def _some(dataset: Dataset | None, count: int | None, seed: int) -> Dataset | None:
    """Some rows of a set made ready, drawn by the seed."""
    if count is None or dataset is None or count >= num_samples(dataset):
        return dataset
    if count < 1:
        raise ValueError(f"relearn_rows must be at least 1, got {count}. Leave it out to train on all retained rows.")
    if not hasattr(dataset, "select"):
        raise TypeError(f"Rows of a {type(dataset).__name__} cannot be selected: leave relearn_rows out.")
    rows = np.random.default_rng(seed).permutation(num_samples(dataset))[:count]
    return dataset.select(np.sort(rows).tolist())


def _checked(
    rows: Mapping[str, nn.Module], further: Mapping[str, nn.Module], others: Mapping[str, nn.Module], name: str
) -> dict[str, str]:
    """The digests of all models' weights, after what must hold of them has been checked."""
    if len(further) > MOST_REFERENCES:
        raise ValueError(
            f"RMIA is made for 1 to {MOST_REFERENCES} reference models, and {len(further)} are given. Give fewer, or "
            f"a pool."
        )
    require_single_label(rows[name])
    for row, model in {**rows, **further, **others}.items():
        check_same_classes(rows[name], model, f"model {row!r}")
    digests = {row: weights_digest(model) for row, model in {**rows, **further, **others}.items()}
    for row, digest in digests.items():
        if row in (name, ORIGINAL):
            continue
        if digest == digests[ORIGINAL]:
            raise ValueError(
                f"The weights of {row!r} are, bit for bit, those of the original, which was trained on the forget "
                "set. Give another model."
            )
        if digest == digests[name] and (row in further or row in others):
            raise ValueError(
                f"The weights of {row!r} are, bit for bit, those of the audited model. Give another model."
            )
    twins = [(a, b) for a, b in itertools.combinations(digests, 2) if digests[a] == digests[b] and a not in (name,)]
    for first, second in twins:
        if first in further and second in further or first not in further and second not in further:
            raise ValueError(f"{first!r} and {second!r} are the same model, bit for bit. Give one of them.")
    return digests


def _from_pool(
    pool: Pool | None,
    given: Mapping[str, Dataset | None],
    inputs: InputOptions,
    model: nn.Module,
    name: str,
    method: str | None,
    own: Sequence[str],
) -> PoolEvidence | None:
    if pool is None:
        return None
    columns = cast(SampleColumns, {key: name for key, name in inputs.items() if key in SampleColumns.__annotations__})
    digests = {
        split: sample_contents(data, **columns)[1]
        for split, data in given.items()
        if data is not None and split in (FORGET, UNSEEN)
    }
    pool.check(model, held_out={split: found for split, found in digests.items() if split != FORGET})
    return pool_evidence(pool, digests, name, method, own)


def _notes(digests: Mapping[str, str], name: str, from_pool: PoolEvidence | None) -> list[str]:
    notes = list(from_pool.notes) if from_pool is not None else []
    if digests[name] == digests[ORIGINAL]:
        notes.insert(0, "The audited model is the original, bit for bit: nothing was unlearned.")
    twins = [row for row in digests if row != name and digests[row] == digests[name] and row != ORIGINAL]
    if twins:
        notes.append(f"The audited model is {twins[0]!r}, bit for bit.")
    return notes


@dataclass
class _Models:
    """All models, and what a pass of each over the sets gives."""

    models: Mapping[str, nn.Module]
    splits: Mapping[str, Dataset | None]
    batch_size: int
    device: str | torch.device | None

    def __post_init__(self) -> None:
        self.features: dict[str, dict[str, np.ndarray]] = {}
        self.no_features = _no_features(self.models)
        self._judged = {split: data for split in (FORGET, UNSEEN) if (data := self.splits.get(split)) is not None}
        self.labels = {split: read_dataset_labels(data).numpy() for split, data in self._judged.items()}

    def steps(self, rows: Mapping[str, nn.Module]) -> int:
        """Steps of the progress bar: a pass of each model over each set, and a round of relearning of each row."""
        return len(self.models) * len(self._judged) + len(rows)

    def outputs(self, row: str, bar: tqdm) -> dict[str, Outputs]:
        """What a model says of the forget and the unseen set; its features are kept where it has a linear head."""
        bar.set_description(f"Audit: {row}")
        return {split: self._pass(row, split, bar) for split in self._judged}

    def _pass(self, row: str, split: str, bar: tqdm) -> Outputs:
        model, data = self.models[row], self._judged[split]
        device = torch.device(self.device) if self.device is not None else None
        options: dict[str, Any] = {"batch_size": self.batch_size, "description": f"{row} on {split}", "device": device}
        classes = getattr(getattr(model, "config", None), "num_labels", None)
        if classes is not None and not self.no_features:
            predictions, features = predicted_with_features(model, data, classes, **options)
            self.features.setdefault(row, {})[split] = features
        else:
            predictions = predict(model, data, **options)
        bar.update()
        return Outputs.of_logits(predictions.kept_logits, predictions.labels)

    def relearned(self, rows: Mapping[str, nn.Module], class_wise: bool, seed: int, bar: tqdm) -> dict[str, Outcome]:
        """What one round on the retain set brings back, of each row; nothing where no unseen data stands for D_f."""
        use_cpu = torch.device(self.device).type == "cpu" if self.device is not None else not torch.cuda.is_available()
        # The folder is only a name: each round works in one of its own, which is gone after it.
        args = UnlearningArguments("audit", seed=seed, per_device_eval_batch_size=self.batch_size, use_cpu=use_cpu)
        relearning = Relearning(args, self.splits, class_wise)
        if not relearning.is_possible:
            bar.update(len(rows))
            return {}
        return {row: self._relearned(relearning, row, bar) for row in rows}

    def _relearned(self, relearning: Relearning, row: str, bar: tqdm) -> Outcome:
        bar.set_description(f"Audit: {row} relearns")
        outcome = relearning.outcome(self.models[row])
        bar.update()
        return outcome


def _no_features(models: Mapping[str, nn.Module]) -> str:
    """Why the features of the models cannot be found; "" where they can."""
    for model in models.values():
        try:
            classifier_head(model, getattr(getattr(model, "config", None), "num_labels", 0))
        except ValueError as error:
            return str(error)
    return ""


def _reference_models(
    models: _Models,
    from_pool: PoolEvidence | None,
    rows: Mapping[str, nn.Module],
    further: Mapping[str, nn.Module],
    others: Mapping[str, nn.Module],
    name: str,
    digests: Mapping[str, str],
    outputs: Mapping[str, Mapping[str, Outputs]],
    bar: tqdm,
) -> dict[str, Any]:
    """The evidence that rests on further models: those given first, then the pool's, then the retrained rows."""
    retrained = [row for row in rows if row not in (name, ORIGINAL)]
    passed: dict[str, Mapping[str, Outputs]] = {row: models.outputs(row, bar) for row in further}
    found: dict[str, Any] = {"missing": {}}
    if from_pool is not None:
        fields = ("references", "unlearned", "retrained", "originals", "missing")
        found = {field: getattr(from_pool, field) for field in fields}
    # A sample in both: the model given for it is the nearer one.
    serving = passed or ({} if from_pool is not None else {row: outputs[row] for row in retrained[:MOST_REFERENCES]})
    if serving and UNSEEN in models.labels:
        chances = [np.stack([each[split].probability for each in serving.values()]) for split in (FORGET, UNSEEN)]
        found["references"] = References(chances[0], chances[1], [digests[row] for row in serving])
        found["missing"] = {tier: reason for tier, reason in found["missing"].items() if tier != "rmia"}
    if others:
        unlearned = [outputs[name][FORGET], *(models.outputs(row, bar)[FORGET] for row in others)]
        found["unlearned"] = Ensemble(name, np.stack([each.confidence for each in unlearned]))
        found["missing"] = {tier: reason for tier, reason in found["missing"].items() if tier == "rmia"}
        if retrained and found.get("retrained") is None:
            found["retrained"] = Ensemble("retrain", np.stack([outputs[row][FORGET].confidence for row in retrained]))
    if models.no_features:
        found["missing"] = {**found["missing"], "linear_probe": models.no_features}
    return found
