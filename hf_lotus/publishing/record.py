"""The forget-set record: what a model was made to forget, how, and what was measured. It names nobody.

`forget_set.json` stands beside the weights and is published with them. Its owner keeps the salt (`Salt`) in another
place. With the salt, the record proves of any sample that it was in the request or that it was not: its salted digest
is in the list or is not, the list has as many digests as there were samples, and the Merkle root fixes the list. The
record commits to the salt, so that no other salt can be brought forward later.

It binds all that is published with it: every file but itself, the card and what is signed or made from it
(`manifest.BOUND`) is listed with its digest, and the card is what `model_card.recorded_card` makes of it.

What the record tells someone WITHOUT the salt: the data set, by what kind of selector the samples were chosen and by
how many of its values, their number, which of them were exactly identical to each other, and what was measured. Not
which samples: digests cannot be tried out without the salt. But whoever holds the data set AND a short list of
candidates (every user of a public data set) can compare what each candidate would make it tell. So a trainer keeps
the full record for its owner (`owner_path`) and publishes what `disclosure.publishable` leaves of it. Someone WITH the
salt can try out any sample they have: give it to an auditor, not to the public. One salt used for several records
shows which of their samples are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from datasets import ClassLabel
from torch.utils.data import Dataset

from hf_lotus.data.columns import SampleColumns, find_label_column, read_labels
from hf_lotus.data.splits import ForgetRetainSplit
from hf_lotus.evaluation.results import Controls, ModelResult, UnlearningResult
from hf_lotus.publishing.digests import Salt, SampleDigests, digest_samples, merkle_root
from hf_lotus.publishing.manifest import WEIGHTS, listed_digests, matches
from hf_lotus.publishing.sources import dataset_source, source
from hf_lotus.utils.documents import first_problem, read_document, read_schema, write_document

RECORD = "forget_set.json"
# Version 1 listed the weights alone, and its card was any that had the record's figures.
FORMAT, FORMAT_VERSION = "hf-lotus forget set", 2
_SCHEMAS = {1: "hf_lotus.publishing/forget_set_v1", FORMAT_VERSION: "hf_lotus.publishing/forget_set"}
FINISHED, IN_PROGRESS = "finished", "in progress"
# Entries that records of earlier versions do not have.
_LATER = ("base_weights", "unchanged", "audit")
# With a fraction and a seed anyone who has the data set draws the same samples: the owner's record alone has the seed.
_PUBLIC_SELECTOR = ("by", "column", "num_values", "classes", "fraction", "duplicates", "proxy")
_OWNERS_SELECTOR = (*_PUBLIC_SELECTOR, "seed")


class ClassCount(TypedDict):
    """An entry of a class histogram, as JSON values.

    Attributes:
        label: the class number.
        name: of the class, where it has one.
        rows: how many samples it has.
    """

    label: int
    name: str | None
    rows: int


@dataclass(frozen=True)
class ForgetSetRecord:
    """What a model was made to forget (`of`, `of_split`), and how (filled in by the trainer).

    Attributes:
        rows: how many samples were to be forgotten.
        selector: by what they were chosen, never by whom.
        digests: the algorithm, the commitment to the salt, the Merkle root and every sample's salted digest; None
            where the samples have no content that a digest could tell.
        class_histogram: label, name and number of samples of each class; None to keep it back.
        row_numbers: the samples' places in the data set, where the owner chose to publish them.
        dataset: name, id on the Hub, config, split, revision and fingerprint of what they were chosen from.
        loading: how the data set was cut into its parts, as values of hf-lotus's flags.
        base_model: name, id on the Hub, commit and license of the model before unlearning.
        task: the Hub's name of its task.
        method: the method's name and fields.
        arguments: the training arguments that matter.
        seeds: name → seed.
        versions: library → version.
        hardware: what it ran on.
        seconds: wall time of the unlearning.
        results: name of the model, the rows of the table, controls, notes and sizes of the sets; None if unmeasured.
        files: name of every published file that the record binds → SHA-256; of version 1 the weights alone.
        card: `model_name`, `language`, `license` and `tags` of the card, which the rest does not tell.
        base_weights: digest of the model's parameters and buffers before unlearning (`weights_digest`); None in
            records of earlier versions.
        unchanged: whether they are, bit for bit, the same after it: then nothing was unlearned.
        status: "finished", or "in progress" for weights that are pushed during training.
        requests: ids of the deletion requests that were served, all since the first. They are published.
        previous: `digest` of the record before this one, where the model had been made to forget before.
        created: when it was written: UTC, ISO 8601.
        audit: what an audit found, and the digest of its document (`publishing.audited`); None where there was none.
        format_version: of the record; 1 for one that was read and binds less.
    """

    rows: int
    selector: Mapping[str, Any]
    digests: SampleDigests | None
    class_histogram: Sequence[ClassCount] | None = None
    row_numbers: Sequence[int] | None = None
    dataset: Mapping[str, str | None] = field(default_factory=lambda: dataset_source(None))
    loading: Mapping[str, Any] = field(default_factory=dict)
    base_model: Mapping[str, Any] = field(default_factory=lambda: {**source(None), "license": {}})
    task: str | None = None
    method: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    results: Mapping[str, Any] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)
    base_weights: str | None = None
    unchanged: bool = False
    status: str = FINISHED
    requests: Sequence[str] = ()
    previous: str | None = None
    created: str = ""
    audit: Mapping[str, Any] | None = None
    format_version: int = FORMAT_VERSION

    @classmethod
    def of(
        cls,
        samples: Dataset,
        labels: Sequence[int] | np.ndarray,
        salt: Salt | None,
        *,
        image_column: str | None = None,
        text_column: str | Sequence[str] | None = None,
        audio_column: str | None = None,
        class_names: Mapping[int, str] | None = None,
        selector: Mapping[str, Any] | None = None,
        class_histogram: bool = True,
        **what: Any,
    ) -> ForgetSetRecord:
        """The record of samples to forget, before they are forgotten: one pass of hashing over them.

        Args:
            samples: a `datasets.Dataset`, or any data set of mappings.
            labels: their classes, shape (samples,).
            salt: the owner's; None records no digests.
            image_column: name of the image column, where it cannot be told from the features.
            text_column: name of the text column or columns, likewise.
            audio_column: name of the column of clips, likewise.
            class_names: class number → name.
            selector: by what they were chosen; only what tells of no one is recorded.
            class_histogram: whether to record how many samples each class had.
            **what: further attributes of the record (`dataset`, `row_numbers`, `loading`, `requests`, `previous`).

        Raises:
            ValueError: if the samples have no content that a digest could tell.
        """
        names = {int(number): str(name) for number, name in (class_names or {}).items()}
        columns: SampleColumns = {
            "image_column": image_column, "text_column": text_column, "audio_column": audio_column
        }  # fmt: skip
        counts = sorted(Counter(np.asarray(labels).tolist()).items())
        histogram: list[ClassCount] = [
            {"label": number, "name": names.get(number), "rows": count} for number, count in counts
        ]
        return cls(
            rows=len(labels),
            selector={"by": "not recorded", **_chosen(selector or {}, _OWNERS_SELECTOR)},
            digests=None if salt is None else digest_samples(samples, labels, salt, **columns),
            class_histogram=histogram if class_histogram else None,
            **what,
        )

    @classmethod
    def of_split(
        cls,
        split: ForgetRetainSplit,
        salt: Salt | None,
        *,
        name: str | None = None,
        revision: str | None = None,
        image_column: str | None = None,
        text_column: str | Sequence[str] | None = None,
        audio_column: str | None = None,
        label_column: str | None = None,
        num_labels: int | None = None,
        open_rows: bool = False,
        **what: Any,
    ) -> ForgetSetRecord:
        """The record of a split's forget set, which knows more: the whole data set, and the selector.

        Args:
            split: what is to be forgotten.
            salt: the owner's; None records no digests.
            name: the id or folder that the data set was loaded by.
            revision: the revision that was asked for.
            image_column: name of the image column, where it cannot be told from the features.
            text_column: name of the text column or columns, likewise.
            audio_column: name of the column of clips, likewise.
            label_column: name of the label column, where it cannot be told from the features.
            num_labels: the model's number of classes; chooses between several label columns.
            open_rows: also record the row numbers, for everyone to read.
            **what: as in `of`.

        Raises:
            ValueError: if a column cannot be found.
        """
        column = find_label_column(split.dataset, label_column, num_labels)
        feature = split.dataset.features[column]
        origin = dataset_source(split.dataset, name, revision)
        if origin["revision"] is None:  # of the whole split: a part's would tell which rows are in it
            origin["fingerprint"] = split.dataset._fingerprint
        return cls.of(
            split.forget,
            read_labels(split.forget, column),
            salt,
            image_column=image_column,
            text_column=text_column,
            audio_column=audio_column,
            class_names=dict(enumerate(feature.names)) if isinstance(feature, ClassLabel) else None,
            selector=split.selector,
            dataset=origin,
            row_numbers=split.forget_rows.tolist() if open_rows else None,
            **what,
        )

    def following(self, previous: ForgetSetRecord) -> ForgetSetRecord:
        """The record of a model that forgot more, after another record's: of all that it was ever made to forget.

        Whoever asked earlier finds their samples in the record of every later model too.

        Args:
            previous: the record of the model that this one was made from.

        Raises:
            ValueError: if the two do not tell of their samples by the same salt and in the same way.
        """
        ways = [d and (d["algorithm"], d["content"], d["salt_commitment"]) for d in (self.digests, previous.digests)]
        if None in ways or ways[0] != ways[1]:
            raise ValueError("A record can only follow one whose digests were made with the same salt.")
        assert self.digests is not None and previous.digests is not None
        listed = sorted([*previous.digests["samples"], *self.digests["samples"]])
        counts: Counter[int] = Counter()
        names: dict[int, str | None] = {}
        for entry in [*(previous.class_histogram or ()), *(self.class_histogram or ())]:
            counts[entry["label"]] += entry["rows"]
            names[entry["label"]] = entry["name"]
        told = previous.class_histogram is not None and self.class_histogram is not None
        histogram: list[ClassCount] = [
            {"label": label, "name": names[label], "rows": rows} for label, rows in sorted(counts.items())
        ]
        return replace(
            self,
            rows=previous.rows + self.rows,
            digests={**self.digests, "merkle_root": merkle_root(listed), "samples": listed},
            class_histogram=histogram if told else None,
            row_numbers=None,  # the data set may have changed since
            requests=[*previous.requests, *self.requests],
            previous=previous.digest,
        )

    @property
    def weights(self) -> dict[str, str]:
        """Those of the listed files that weights are loaded from: name → SHA-256."""
        return {name: digest for name, digest in self.files.items() if matches(name, WEIGHTS)}

    def listing(self, folder: str | Path, **card: Any) -> ForgetSetRecord:
        """The record of what lies in a folder: with the digests of its files, and what its card needs.

        Args:
            folder: with all that is published but the card.
            **card: `model_name`, `language`, `license` and `tags` of the card; by default the folder's name, and none.
        """
        tags = card.get("tags") or []
        told = {
            "model_name": card.get("model_name") or Path(folder).resolve().name,
            "language": card.get("language"),
            "license": card.get("license"),
            "tags": [tags] if isinstance(tags, str) else list(tags),
        }
        return replace(self, files=listed_digests(folder), card=told, format_version=FORMAT_VERSION)

    @property
    def digest(self) -> str:
        """SHA-256 of the record, whatever its file's layout: what the card and a following record call it by."""
        text = json.dumps(self.to_document(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def result(self) -> UnlearningResult | None:
        """What was measured, to make the table from; None if nothing was."""
        if self.results is None:
            return None
        found = self.results
        models = tuple(ModelResult(**model) for model in found["models"])
        return UnlearningResult(models, Controls(**found["controls"]), tuple(found["notes"]), audit=self.audit)

    def measured(self, result: UnlearningResult, name: str) -> ForgetSetRecord:
        """The record with what was measured, and where.

        Args:
            result: the comparison.
            name: the unlearned model's name in it.
        """
        about, values = result.provenance, result.to_dict()
        return replace(
            self,
            results={"name": name, "samples": about.get("samples", {})}
            | {key: values[key] for key in ("models", "controls", "notes")},
            versions=about.get("versions", {}),
            hardware=about.get("hardware", {}),
        )

    def to_json(self, path: str | Path) -> None:
        """Write the record; the file appears whole or not at all.

        Raises:
            ValueError: if something in it is none of JSON's values, or not what the schema says.
        """
        write_document(path, self.to_document(), schema=_SCHEMAS[self.format_version])

    @classmethod
    def from_json(cls, path: str | Path) -> ForgetSetRecord:
        """Read what `to_json` wrote.

        Raises:
            OSError: if there is no such file.
            ValueError: if the file is not a record, is of another format version, or has anything in it that this
                version does not know or that is not as it must be; the message says what and where.
        """
        return cls.from_document(read_document(path), str(path))

    @classmethod
    def from_document(cls, document: Any, path: str) -> ForgetSetRecord:
        """The record in JSON values; `path` is where they stand, for the error.

        Raises:
            ValueError: as `from_json`.
        """
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ValueError(f"{path} is not a forget-set record of hf-lotus.")
        version = document.get("format_version")
        if type(version) is not int or version not in _SCHEMAS:
            raise ValueError(
                f"{path} is of format version {version!r}, and this version of hf-lotus reads versions "
                f"{', '.join(map(str, _SCHEMAS))}. Read it with the version that wrote it, or a newer one."
            )
        if problem := first_problem(document, _SCHEMAS[version]):
            raise ValueError(f"{path} is not a record that this version understands: {problem}.")
        values = {key: value for key, value in document.items() if key != "format"}
        if version == 1:
            values["files"] = values.pop("weights")
        record = cls(**values)
        try:
            if record.result is not None:
                record.result.to_markdown()  # the card is made with it
        except (TypeError, ValueError, OverflowError) as error:  # a whole number may be larger than any figure
            raise ValueError(f"{path} has results that this version does not understand: {error}.") from error
        return record

    def to_document(self) -> dict[str, Any]:
        """The record as JSON values."""
        document = {"format": FORMAT, "format_version": self.format_version, **asdict(self)}
        if self.format_version == 1:
            document["weights"] = document.pop("files")
            del document["card"]
        # Left out where they say nothing, so that the records of earlier versions keep their digests.
        return {key: value for key, value in document.items() if key not in _LATER or value}


def public_selector(selector: Mapping[str, Any]) -> dict[str, Any]:
    """What may be told of how samples were chosen; anything else may be people, a file named after one, or a seed."""
    return _chosen(selector, _PUBLIC_SELECTOR)


def _chosen(selector: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in selector.items() if key in names}


def schema(version: int = FORMAT_VERSION) -> dict[str, object]:
    """The JSON Schema of `forget_set.json`."""
    return read_schema(_SCHEMAS[version])


def salt_path(folder: str | Path) -> Path:
    """Where the salt of a model's folder is kept by default: beside the folder, as nothing beside it is published."""
    folder = Path(folder).resolve()
    return folder.with_name(f"{folder.name}.forget_set.salt")


def owner_path(folder: str | Path) -> Path:
    """Where the full record of a model's folder is kept for its owner: beside the folder, as the salt is."""
    folder = Path(folder).resolve()
    return folder.with_name(f"{folder.name.removesuffix('.part')}.forget_set.owner.json")
