"""Find the forgotten samples of a record in its data set, and measure the published model on them again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from hf_lotus.data.checks import check_label_names
from hf_lotus.data.columns import read_labels
from hf_lotus.data.loading import DatasetArguments, LoadedData, load_splits
from hf_lotus.data.prepared import ready_splits
from hf_lotus.data.sized import sized
from hf_lotus.data.splits import ForgetRetainSplit
from hf_lotus.evaluation.evaluator import Evaluator
from hf_lotus.evaluation.metrics import METRICS, ORIGINAL, RETRAIN
from hf_lotus.evaluation.results import ModelResult, is_retrained_row
from hf_lotus.models.adapters import is_adapted, weights_below
from hf_lotus.models.loading import load_model, load_processor, on_device
from hf_lotus.publishing.digests import Salt, find_rows, salted_digests, sample_contents, weights_digest
from hf_lotus.publishing.disclosure import agrees
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.publishing.verification import Check

# Models that a metric may be measured against, and that it is not measured without.
_AGAINST = (ORIGINAL, RETRAIN)


@dataclass(frozen=True)
class Found:
    """What became of the search: whether all samples were found, and then the data."""

    check: Check
    data: LoadedData | None


class _Missing(Exception):
    """Samples of the record that the data set does not have."""


def find_forget_rows(folder: Path, record: ForgetSetRecord, salt: Salt | None, arguments: DatasetArguments) -> Found:
    """Load the data set and cut it as it was cut for unlearning.

    Args:
        folder: of the model.
        record: its record.
        salt: its salt; None to trust the record's row numbers.
        arguments: which data set, and how it was cut.
    """
    name = "the data set has every forgotten sample"

    def select(train: Dataset, _: DatasetArguments, label_column: str) -> ForgetRetainSplit:
        if salt is None:
            assert record.row_numbers is not None
            return ForgetRetainSplit(train, np.asarray(record.row_numbers))
        assert record.digests is not None
        contents = sample_contents(train, **arguments.columns)[1]
        digests = salted_digests(contents, read_labels(train, label_column), salt)
        rows, missing = find_rows(digests, record.digests["samples"])
        if missing:
            raise _Missing(f"{missing} of {record.rows} are not in the split {arguments.train_split!r}")
        if record.row_numbers is not None:
            told = sorted(digests[row] for row in record.row_numbers if row < len(digests))
            if told != sorted(record.digests["samples"]):
                raise _Missing("the row numbers of the record are of other samples than its digests")
        return ForgetRetainSplit(train, rows)

    try:
        data = load_splits(arguments, load_model(str(folder)).config.num_labels, select)
    except _Missing as missing:
        return Found(Check(name, False, str(missing)), None)
    return Found(Check(name, True, f"{record.rows} of {len(data.split.dataset)}"), data)


def measure_again(
    folder: Path,
    record: ForgetSetRecord,
    data: LoadedData,
    models: Mapping[str, tuple[str | None, str | None]],
    arguments: DatasetArguments,
    device: str,
    *,
    batch_size: int,
    tolerance: float,
    exactly: bool = False,
    decoding_workers: int = 0,
) -> Iterator[Check]:
    """Measure the published model, and compare each figure with the recorded one.

    Args:
        folder: of the model.
        record: its record.
        data: the data set, cut as it was for unlearning.
        models: "original", "retrain", "retrain again", … → id or folder and revision, or (None, None).
        arguments: how its rows become model inputs.
        device: where to measure.
        batch_size: samples a forward pass.
        tolerance: how far a figure may lie from the recorded one; for figures above 1, relative.
        exactly: whether the record is the full one, whose figures are not rounded.
        decoding_workers: as in `InputOptions`.
    """
    recorded = record.result
    if recorded is None:
        yield Check("the figures, measured again", None, "the record has none")
        return
    assert record.results is not None
    model = on_device(load_model(str(folder)), device)
    given = {role: load_model(name, revision) for role, (name, revision) in models.items() if name is not None}
    loaded = {role: on_device(other, device) for role, other in given.items()}
    if "original" in loaded:
        yield from _weights(record, model, loaded["original"])
    labels = _labels(data, model.config, arguments.label_column)
    yield labels
    if not labels.holds:
        return
    inputs = arguments.inputs_by(decoding_workers)
    splits, class_wise = ready_splits(data.sets, model.config, load_processor(str(folder)), **inputs)
    sizes = {name: len(sized(split)) for name, split in splits.items() if split is not None}
    expected = dict(record.results["samples"])
    samples = {"forget": record.rows, **expected}
    yield Check("the sets are as large as recorded", sizes == expected, _differences(sizes, expected))
    expected_retrained = [row.name for row in recorded.models if is_retrained_row(row.name)]
    # Gaps are from the mean of all retrained models: with some of them, none is measured.
    known = set(loaded) if all(name in loaded for name in expected_retrained) else set(loaded) - {RETRAIN}
    exact = record.format_version == 1 or exactly
    evaluator = Evaluator(
        splits,
        loaded.get("original", model),  # what is measured against the original is then left out
        further_retrained=[loaded[name] for name in expected_retrained] if RETRAIN in known else (),
        class_wise=class_wise,
        seed=record.seeds.get("evaluation_seed", record.seeds.get("seed", 0)),
        batch_size=batch_size,
    )
    retrained = {row.name: row for row in evaluator.yardstick.measure_retrained()}
    rows = {record.results["name"]: model, **loaded}
    for name, measured in rows.items():
        if not any(row.name == name for row in recorded.models):
            continue
        again = retrained.get(name) or evaluator.yardstick.measure(name, evaluator.predict_all(measured, name))
        rounding = None if exact else (samples, evaluator.yardstick.controls.rf_jsd_null_std)
        yield from _compare(recorded[name], again, known, tolerance, rounding)


def _labels(data: LoadedData, config: object, label_column: str | None) -> Check:
    """Whether model and data set number their classes alike; labels that a publisher swapped are found here."""
    name = "the model numbers its classes as the data set does"
    try:
        check_label_names(data.split.dataset, label_column, config)
    except ValueError as error:
        return Check(name, False, f"{error} The data set is not to blame: the published config.json says so.")
    return Check(name, True)


def _weights(record: ForgetSetRecord, model: nn.Module, original: nn.Module) -> Iterator[Check]:
    """Whether anything was unlearned, from the models themselves: the record's word for it is its publisher's."""
    digest, before = weights_digest(model), weights_digest(original)
    yield Check("the weights are not the original's", digest != before, "" if digest != before else "bit for bit")
    if record.base_weights is None or record.previous is not None:  # it began from the last run's model
        return
    name, same, detail = "the original is the one that the record began from", record.base_weights == before, ""
    if not same and is_adapted(model) and not is_adapted(original):
        # It began from the original with an adapter that changed nothing: what is below it must be the original.
        below, whole = weights_below(model), original.state_dict()
        same = below.keys() == whole.keys() and all(torch.equal(below[key], whole[key]) for key in whole)
        detail = "below the adapter"
    yield Check(name, same, detail if same else "it is another")


def _compare(
    recorded: ModelResult,
    again: ModelResult,
    known: Collection[str],
    tolerance: float,
    rounding: tuple[Mapping[str, int], float | None] | None = None,
) -> Iterator[Check]:
    """Compare a model's figures; `rounding` is by what the recorded ones were rounded, None where they were not."""
    for metric, value in recorded.metrics().items():
        entry, found = METRICS[metric], again.values.get(metric)
        name = f"{recorded.name}: {entry.words}"
        missing = [role for role in _AGAINST if role in entry.needs and role not in known]
        if not entry.on_card:
            continue
        if missing:
            yield Check(name, None, f"recorded as {value:.4f}; needs {missing[0]}_model")
        elif entry.compute is None:
            yield Check(name, None, f"recorded as {value:.4f}; it is not computed from predictions")
        elif found is None:
            yield Check(name, False, f"recorded as {value:.4f}, and this data set does not give it")
        else:
            if rounding is None:
                close = bool(np.isclose(found, value, rtol=tolerance, atol=tolerance))
            else:
                close = agrees(metric, value, found, rounding[0], tolerance, rounding[1])
            yield Check(name, close, f"{found:.4f}, recorded {value:{'.4f' if rounding is None else 'g'}}")


def _differences(found: Mapping[str, int], expected: Mapping[str, int]) -> str:
    names = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
    return "; ".join(f"{name}: {found.get(name, 'none')}, recorded {expected.get(name, 'none')}" for name in names)
