"""What a record may tell without telling whose data it is about.

Whoever holds the data set can list candidates, such as every pair of its users, compute of each what the record tells
of the forgotten samples, and see which fit. Three things single them out, and each has its remedy here:

- figures at full precision: `rounded_result` rounds each to the finest power of ten that is not below its standard
  error, as digits beyond it tell nothing of the model and much of the samples;
- the class histogram: `publishes_histogram` keeps it back unless enough groups of people fit it;
- the seed of a random selection, with which anyone draws the same samples again: `without_seeds` leaves it out.

The number of samples stays, as the list of digests shows it. Where that alone fits one candidate only, nothing here
helps: serve several requests together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hf_lotus.evaluation.results import Controls, ModelResult, UnlearningResult
from hf_lotus.publishing.record import ForgetSetRecord
from hf_lotus.utils.documents import read_document
from hf_lotus.utils.files import write_private

OWNERS = "hf-lotus owner's record"
# Of a result's provenance, what tells nothing of the samples but their number.
_PROVENANCE = (
    *("model", "dataset", "samples", "method", "arguments", "passes", "processes"),
    *("versions", "hardware", "command"),
)

# Samples from which a histogram is published where nobody says how many people there are; `publishes_histogram`.
SMALLEST = 1000
# By how many bits the groups that could have been chosen must outnumber the histograms that there could be.
MARGIN = 10.0
_LN2 = math.log(2.0)
# Figure → the set whose samples it is a mean over, and its least and largest value.
_MEANS = {
    "forget_accuracy": ("forget", 0.0, 1.0),
    "retain_accuracy": ("retain", 0.0, 1.0),
    "unseen_accuracy": ("unseen", 0.0, 1.0),
    "test_accuracy": ("test", 0.0, 1.0),
    "mia_member_rate": ("forget", 0.0, 1.0),
    "unseen_member_rate": ("unseen", 0.0, 1.0),
    "mia_efficacy": ("forget", 0.0, 1.0),
    "jsd": ("forget", 0.0, _LN2),
    "rf_jsd": ("forget", 0.0, _LN2),
    "rf_jsd_null_mean": ("forget", 0.0, _LN2),
    "rf_jsd_null_std": ("forget", 0.0, _LN2),
    "jsd_floor": ("test", 0.0, _LN2),
    "zrf": ("forget", 0.0, 1.0),
    "avg_gap": ("forget", 0.0, 1.0),
    "retrain_free_gap": ("forget", 0.0, 1.0),
    "relearning_excess": ("forget", -2.0, 2.0),
    # Beside a retrained model's row, which may be known in full, a difference tells the figure itself.
    "member_rate_difference": ("forget", -1.0, 1.0),
    "forget_difference": ("forget", -1.0, 1.0),
    "retain_difference": ("retain", -1.0, 1.0),
    "test_difference": ("test", -1.0, 1.0),
    "avg_gap_floor": ("forget", 0.0, 1.0),
    "mia_member_rate_std": ("forget", 0.0, 1.0),
    "forget_accuracy_std": ("forget", 0.0, 1.0),
    "retain_accuracy_std": ("retain", 0.0, 1.0),
    "test_accuracy_std": ("test", 0.0, 1.0),
}


def standard_error(mean: float, samples: int, low: float = 0.0, high: float = 1.0) -> float:
    """The largest standard error that a mean of values within two bounds can have.

    It is √((mean − low)(high − mean) / samples) (Bhatia and Davis 2000), for an accuracy the binomial one. The mean is
    first drawn towards the middle as if two more samples had each bound's value (Agresti and Coull 1998): an accuracy
    of 1 over ten samples is not free of error.

    Args:
        mean: the figure.
        samples: how many it is of.
        low: the least value that a sample can have.
        high: the largest.

    Raises:
        ValueError: for no samples, or a mean that is not within the bounds.
    """
    if samples < 1:
        raise ValueError(f"A figure is of at least one sample, got {samples}.")
    slack = 1e-6 * (high - low)
    if not low - slack <= mean <= high + slack:  # also where it is NaN
        raise ValueError(f"A mean of values in {low:g} to {high:g} lies there too, got {mean}.")
    drawn = (mean * samples + 2 * (low + high)) / (samples + 4)
    return math.sqrt((drawn - low) * (high - drawn) / samples)


def justified_decimals(error: float) -> int:
    """The decimals of a figure with this standard error: of the finest power of ten that is not below it, at least 0.

    Raises:
        ValueError: if the error is not above zero.
    """
    if not error > 0 or math.isinf(error):
        raise ValueError(f"A standard error is a number above zero, got {error}.")
    return max(0, math.floor(-math.log10(error) + 1e-12))


def figure_decimals(name: str, value: float, samples: Mapping[str, int], null_std: float | None = None) -> int | None:
    """The decimals that a figure's noise justifies; None for one that is not about samples, such as `seconds`.

    Args:
        name: a field of `ModelResult` or `Controls`, or a metric of a plugin.
        value: the figure.
        samples: name of a set → its size.
        null_std: the measured deviation of RF-JSD over resamples, where it is known; closer than the bound.

    Raises:
        ValueError: if the size of the figure's set is not given.
    """
    if name in ("rf_jsd_z", "gap_deviations"):
        return 0  # in deviations, so its own is 1
    if name == "seconds":
        return None
    if name not in _MEANS:  # of a plugin: nothing is known of it but the set that it is about
        return justified_decimals(max(0.5, abs(value)) / math.sqrt(samples["forget"]))
    if name in ("rf_jsd", "rf_jsd_null_mean") and null_std:
        return justified_decimals(null_std)
    of, low, high = _MEANS[name]
    if of not in samples:
        raise ValueError(f"{name} is over the {of} set, whose size is not among {', '.join(samples) or 'none'}.")
    return justified_decimals(standard_error(value, samples[of], low, high))


def rounded_result(result: UnlearningResult, samples: Mapping[str, int]) -> UnlearningResult:
    """A result with every figure rounded to what its noise justifies, rows and controls alike.

    Args:
        result: the comparison, in full.
        samples: name of a set (forget, retain, unseen, test) → its size.

    Raises:
        ValueError: if the size of a figure's set is not given.
    """
    deviation = result.controls.rf_jsd_null_std

    def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(values)
        for name, value in values.items():
            if not isinstance(value, float | int) or isinstance(value, bool):
                continue
            decimals = figure_decimals(name, value, samples, deviation)
            if decimals is not None:
                found[name] = round(float(value), decimals) + 0.0  # no −0.0
        return found

    models = tuple(ModelResult(model.name, values=rounded(model.values)) for model in result.models)
    return replace(result, models=models, controls=Controls(**rounded(asdict(result.controls))))


def agrees(
    name: str,
    recorded: float,
    again: float,
    samples: Mapping[str, int],
    tolerance: float,
    null_std: float | None = None,
) -> bool:
    """Whether a figure that was measured again may be the one that a record has in rounded form.

    Args:
        name: a field of `ModelResult`.
        recorded: the rounded figure.
        again: the figure in full.
        samples: name of a set → its size.
        tolerance: how far two measurements may lie from each other.
        null_std: as in `figure_decimals`; the recorded, rounded one will do.
    """
    decimals = figure_decimals(name, again, samples, null_std)
    step = 0.0 if decimals is None else 0.5 * 10.0**-decimals
    return abs(recorded - again) <= step + tolerance * max(1.0, abs(again)) + 1e-12


def histogram_bits(rows: int, classes: int) -> float:
    """How much a class histogram tells at most, about: the entropy of a multinomial of equal classes, in bits.

    Args:
        rows: samples.
        classes: of the model.
    """
    if rows < 1 or classes < 2:
        return 0.0
    exact = math.lgamma(rows + classes) - math.lgamma(rows + 1) - math.lgamma(classes)  # all histograms alike
    normal = (classes - 1) / 2 * math.log(2 * math.pi * math.e * rows / classes) - math.log(classes) / 2
    return max(0.0, min(exact, normal) if rows >= classes else exact) / _LN2


def group_bits(people: int, chosen: int) -> float:
    """How much it takes to single out a group: log2 of the number of groups of that many among all people."""
    if not 0 < chosen <= people:
        raise ValueError(f"Of {people} people 1 to {people} can be chosen, got {chosen}.")
    return (math.lgamma(people + 1) - math.lgamma(chosen + 1) - math.lgamma(people - chosen + 1)) / _LN2


def publishes_histogram(
    rows: int,
    classes: int,
    *,
    people: int | None = None,
    chosen: int | None = None,
    smallest: int = SMALLEST,
) -> bool:
    """Whether a class histogram may be published: whether many groups of people have the same.

    Where it is known among how many people the choice was, there must be 2^`MARGIN`, a thousand, times more groups of
    that many than there are histograms. Two of 50 users are one of 1,225 pairs (10 bits), and 70 samples of ten
    classes have 29 bits of histograms: it names them. Where it is not known, `smallest` stands in for it: half of 50
    users of 35 samples (47 bits) reach the 46 bits of their histogram of ten classes at about 900 samples, hence
    1,000. It is a convention, not a proof: of fewer or larger users more samples are needed.

    Args:
        rows: samples that were forgotten.
        classes: of the model.
        people: among whom the samples were chosen, where that is known.
        chosen: how many of them.
        smallest: rows from which it is published where `people` is not known.
    """
    if people is None or chosen is None:
        return rows >= smallest
    return group_bits(people, chosen) >= histogram_bits(rows, classes) + MARGIN


def without_seeds(record: ForgetSetRecord) -> ForgetSetRecord:
    """The record without the seed of a random selection, in whatever place it stands.

    A fraction and a seed are the selection: whoever has the data set draws it again. A seed of a few digits is found
    by trying, so it should be drawn from the system's randomness and kept beside the salt.
    """
    if record.selector.get("by") != "fraction":
        return record
    secret = {record.selector.get("seed"), record.loading.get("split_seed")} - {None}
    return replace(
        record,
        selector={key: value for key, value in record.selector.items() if key != "seed"},
        loading={key: None if key == "split_seed" else value for key, value in record.loading.items()},
        seeds={key: value for key, value in record.seeds.items() if value not in secret},
    )


def publishable(
    record: ForgetSetRecord, *, people: int | None = None, chosen: int | None = None, smallest: int = SMALLEST
) -> ForgetSetRecord:
    """The record as it may be published: no seed of the selection, rounded figures, a histogram only where many fit.

    What is public anyway is no secret: the histogram stays where classes were chosen as such, or the owner publishes
    the row numbers.

    Args:
        record: in full.
        people: as in `publishes_histogram`.
        chosen: as in `publishes_histogram`.
        smallest: as in `publishes_histogram`.
    """
    record = without_seeds(record)
    told = record.selector.get("by") == "class" or record.row_numbers is not None
    if record.class_histogram is not None and not told:
        classes = max(2, *(entry["label"] + 1 for entry in record.class_histogram))
        if not publishes_histogram(record.rows, classes, people=people, chosen=chosen, smallest=smallest):
            record = replace(record, class_histogram=None)
    result = record.result
    if record.results is None or result is None:
        return record
    values = rounded_result(result, {"forget": record.rows, **record.results["samples"]}).to_dict()
    return replace(record, results={**record.results, **{key: values[key] for key in ("models", "controls")}})


def publishable_result(result: UnlearningResult, record: ForgetSetRecord) -> UnlearningResult:
    """A result as it may be published beside a record: its figures are the record's, its provenance names no one.

    Of the provenance only what is named in `_PROVENANCE` stays: the rounds' figures, duplicates that were found
    and the digest of the split tell of the samples, and so does a command with a seed.

    Args:
        result: in full.
        record: as it may be published, with what was measured.
    """
    recorded, about = record.result, result.provenance
    assert recorded is not None
    kept = {key: about[key] for key in _PROVENANCE if key in about} | {"selector": dict(record.selector)}
    if record.selector.get("by") == "fraction":
        kept.pop("command", None)
    if about.get("seed") in record.seeds.values():
        kept["seed"] = about["seed"]
    return replace(recorded, provenance=kept)


def write_owners_record(path: str | Path, record: ForgetSetRecord, result: UnlearningResult | None) -> None:
    """Write the full record, and what was measured in full, for the owner alone; whole or not at all."""
    document = {
        "format": OWNERS,
        "format_version": 1,
        "record": record.to_document(),
        "results": None if result is None else result.to_dict(),
    }
    write_private(path, json.dumps(document, indent=1) + "\n")


def read_owners_record(path: str | Path, published: ForgetSetRecord) -> ForgetSetRecord:
    """The full record of which a published one is what may be told.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is none, or of another record.
    """
    document = read_document(path)
    if not isinstance(document, dict) or document.get("format") != OWNERS:
        raise ValueError(f"{path} is not the full record that hf-lotus keeps for a model's owner.")
    full = ForgetSetRecord.from_document(document.get("record"), str(path))
    told = replace(publishable(full), files=published.files, card=published.card)
    if told.digest != published.digest:
        raise ValueError(f"{path} is the full record of another model, or of this one before it was saved anew.")
    return replace(full, files=published.files, card=published.card)
