"""The forget-set record: what it tells, what it never tells, and what its reader refuses."""

import hashlib
import json
import os
import re
from dataclasses import fields, replace

import jsonschema
import pytest
from datasets import concatenate_datasets, load_dataset

from hf_lotus import ForgetRetainSplit, ForgetSetRecord, Salt
from hf_lotus.evaluation.results import Controls, ModelResult, UnlearningResult
from hf_lotus.publishing.digests import merkle_root, salted_digests, sample_contents
from hf_lotus.publishing.manifest import listed_digests
from hf_lotus.publishing.record import RECORD, owner_path, salt_path, schema
from hf_lotus.publishing.sources import dataset_source, inherited_license, source

SALT = Salt(bytes(range(32)))


@pytest.fixture
def split(digits):
    return ForgetRetainSplit.from_column(digits, "user_id", ["u7", "u13"])


@pytest.fixture
def record(split):
    return ForgetSetRecord.of_split(split, SALT, name="someone/digits", revision="v1")


def written(record, folder):
    record.to_json(folder / RECORD)
    return json.loads((folder / RECORD).read_text(encoding="utf-8"))


class TestContent:
    def test_what_is_recorded(self, record, split, digits):
        assert record.rows == 40 and record.row_numbers is None
        assert record.selector == {"by": "column", "column": "user_id", "num_values": 2}
        assert sum(entry["rows"] for entry in record.class_histogram) == 40
        assert {entry["name"] for entry in record.class_histogram} <= {f"digit {n}" for n in range(10)}
        assert {"name": "someone/digits", "id": "someone/digits", "revision": "v1"}.items() <= record.dataset.items()
        _, contents = sample_contents(digits)
        listed = [salted_digests(contents, digits["label"], SALT)[row] for row in split.forget_rows]
        assert record.digests["samples"] == sorted(listed)
        assert record.digests["merkle_root"] == merkle_root(listed)

    def test_nobody_is_in_it(self, record, split, tmp_path):
        """Neither the values of the column, nor rows, nor the salt, nor any digest that could be tried out."""
        text = json.dumps(written(record, tmp_path))
        assert not re.search(r"\bu7\b|\bu13\b", text)
        assert SALT.value.hex() not in text and split.digest not in text
        assert split.forget._fingerprint not in text
        _, contents = sample_contents(split.forget)
        assert not any(content.tobytes().hex() in text for content in contents)

    @pytest.mark.parametrize(
        ("selector", "told"),
        [
            ({"by": "file", "file": "alice_smith.json"}, {"by": "file"}),
            ({"by": "user", "user": "u7", "users": ["u7"]}, {"by": "user"}),
            ({"by": "class", "classes": ["cat"], "duplicates": "move"},
             {"by": "class", "classes": ["cat"], "duplicates": "move"}),
            (None, {"by": "not recorded"}),
        ],
    )  # fmt: skip
    def test_the_selector_and_not_the_people(self, selector, told):
        assert ForgetSetRecord.of([{"x": 1, "label": 0}], [0], SALT, selector=selector).selector == told

    def test_rows_and_classes_are_the_owners_choice(self, split):
        record = ForgetSetRecord.of_split(split, SALT, open_rows=True, class_histogram=False)
        assert record.row_numbers == split.forget_rows.tolist() and record.class_histogram is None

    def test_an_order_of_rows_is_not_told(self, split, digits):
        backwards = digits.select(split.forget_rows[::-1])
        labels = backwards["label"]
        assert (
            ForgetSetRecord.of(backwards, labels, SALT).digests
            == ForgetSetRecord.of(split.forget, split.forget["label"], SALT).digests
        )

    def test_without_a_salt_there_are_no_digests(self, split):
        assert ForgetSetRecord.of_split(split, None).digests is None

    def test_a_chain(self, record, tmp_path):
        following = replace(record, previous=record.digest, requests=("2026-001", "2026-002"))
        document = written(following, tmp_path)
        assert document["previous"] == record.digest and document["requests"] == ["2026-001", "2026-002"]
        assert ForgetSetRecord.from_json(tmp_path / RECORD).digest == following.digest != record.digest


class TestFile:
    def test_comes_back_whole(self, record, tmp_path):
        models = (ModelResult("original", 0.9, 0.9), ModelResult("lotus", 0.8, 0.9, seconds=1.5))
        result = UnlearningResult(models, Controls(jsd_floor=0.1), ("A note.",), {"samples": {"forget": 40}})
        complete = replace(
            record.measured(result, "lotus"),
            files={"config.json": "cd" * 32, "model.safetensors": "ab" * 32},
            method={"name": "bad_teacher", "betas": (0.9, 0.999)},
            seeds={"seed": 3},
            created="2026-01-01T00:00:00+00:00",
        )
        document = written(complete, tmp_path)
        jsonschema.Draft202012Validator(schema()).validate(document)
        again = ForgetSetRecord.from_json(tmp_path / RECORD)
        assert again.digest == complete.digest and again.weights == {"model.safetensors": "ab" * 32}
        assert again.result == UnlearningResult(models, result.controls, result.notes)
        assert os.listdir(tmp_path) == [RECORD]

    def test_the_schema_knows_every_field(self):
        names = {field.name for field in fields(ForgetSetRecord)} | {"format", "format_version"}
        assert set(schema()["properties"]) == names
        assert names - set(schema()["required"]) == {"base_weights", "unchanged", "audit"}

    def test_what_earlier_versions_did_not_have_is_there_only_where_it_says_something(self, record, tmp_path):
        """Or their cards, which call a record by its digest, would no longer agree with it."""
        assert not {"base_weights", "unchanged"} & written(record, tmp_path).keys()
        more = replace(record, base_weights="a" * 64, unchanged=True)
        assert {"base_weights", "unchanged"} <= written(more, tmp_path).keys()
        assert ForgetSetRecord.from_json(tmp_path / RECORD).digest == more.digest != record.digest

    def test_a_record_of_version_1_is_read_and_keeps_its_digest(self, record, tmp_path):
        """As version 1 wrote it: with its weights, no other files, and a digest over just that."""
        document = written(record, tmp_path)
        del document["files"], document["card"]
        document |= {"format_version": 1, "weights": {"model.safetensors": "ab" * 32}}
        jsonschema.Draft202012Validator(schema(1)).validate(document)
        (tmp_path / RECORD).write_text(json.dumps(document))
        old = ForgetSetRecord.from_json(tmp_path / RECORD)
        assert old.format_version == 1 and old.weights == old.files == document["weights"]
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        assert old.digest == hashlib.sha256(text.encode()).hexdigest()
        assert written(old, tmp_path) == document

    @pytest.mark.parametrize("name", ["../model.safetensors", "a/b.json", "a\\b", ""])
    def test_a_listed_file_is_one_of_the_folder(self, record, tmp_path, name):
        document = {**written(record, tmp_path), "files": {name: "ab" * 32}}
        (tmp_path / RECORD).write_text(json.dumps(document))
        with pytest.raises(ValueError, match="files: .* does not match"):
            ForgetSetRecord.from_json(tmp_path / RECORD)

    def test_the_layout_of_the_file_does_not_matter_to_the_digest(self, record, tmp_path):
        document = written(record, tmp_path)
        (tmp_path / RECORD).write_text(json.dumps(dict(reversed(document.items()))))
        assert ForgetSetRecord.from_json(tmp_path / RECORD).digest == record.digest

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": None}, "is not a forget-set record of hf-lotus"),
            ({"format_version": 3}, "format version 3, and this version of hf-lotus reads versions 1, 2"),
            ({"format_version": True}, "format version True, and this version of hf-lotus reads versions 1, 2"),
            ({"who": ["u7"]}, "the document: Additional properties are not allowed ('who' was unexpected)"),
            ({"rows": -1}, "rows: -1 is less than the minimum of 1"),
            ({"status": "done"}, "status: 'done' is not one of"),
            ({"results": {"name": "x", "models": [{"name": "x", "forget_accuracy": 1, "retain_accuracy": 1, "f1": 1}],
                          "controls": {}, "notes": [], "samples": {}}}, "has results that this version does not"),
        ],
    )  # fmt: skip
    def test_the_reader_refuses_what_it_does_not_understand(self, record, tmp_path, change, message):
        document = {**written(record, tmp_path), **change}
        (tmp_path / RECORD).write_text(json.dumps(document))
        with pytest.raises(ValueError, match=re.escape(message)):
            ForgetSetRecord.from_json(tmp_path / RECORD)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b'"x"'])
    def test_another_file(self, tmp_path, content):
        (tmp_path / RECORD).write_bytes(content)
        with pytest.raises(ValueError, match="not valid JSON|not a forget-set record"):
            ForgetSetRecord.from_json(tmp_path / RECORD)

    @pytest.mark.parametrize("change", [{"method": {"x": object()}}, {"seconds": float("nan")}, {"status": "done"}])
    def test_what_cannot_be_written_leaves_the_last_good_record(self, record, tmp_path, change):
        before = written(record, tmp_path)
        with pytest.raises(ValueError, match="was not written"):
            replace(record, **change).to_json(tmp_path / RECORD)
        assert json.loads((tmp_path / RECORD).read_text()) == before and os.listdir(tmp_path) == [RECORD]


class TestSources:
    def test_a_place_on_one_machine_is_not_told(self, tmp_path):
        (tmp_path / "photos").mkdir()
        assert source(str(tmp_path / "photos")) == {"name": "photos", "id": None, "revision": None}
        assert source(None) == {"name": None, "id": None, "revision": None}

    def test_a_data_set_of_folders_tells_its_config_and_split(self, digits, tmp_path, monkeypatch):
        digits.select(range(20)).to_parquet(tmp_path / "train-00000.parquet")
        data = load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"), split="train")
        told = dataset_source(data, str(tmp_path))
        assert (told["config"], told["split"], told["id"]) == ("default", "train", None)
        assert dataset_source([1, 2]) == dict.fromkeys(told)

    def test_the_license_of_a_folders_card(self, tmp_path):
        assert inherited_license(str(tmp_path)) == {} == inherited_license(None) == inherited_license("../no where")
        header = "license: other\nlicense_name: own\nlicense_link: https://example.org\n"
        (tmp_path / "README.md").write_text(f"---\n{header}---\n# A model\n")
        told = {"license": "other", "license_name": "own", "license_link": "https://example.org"}
        assert inherited_license(str(tmp_path)) == told
        (tmp_path / "README.md").write_text("---\n: [\n---\n")
        assert inherited_license(str(tmp_path)) == {}


def test_digests_of_files_and_the_places_of_what_is_the_owners(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "optimizer.pt", "config.json"):
        (folder / name).write_text(name)
    weights = ["model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    assert list(listed_digests(folder)) == ["config.json", *weights]
    assert salt_path(folder) == tmp_path / "out.forget_set.salt"
    # That of a run in a queue, whose folder is called so until the model is finished.
    assert owner_path(tmp_path / "model.part") == owner_path(tmp_path / "model")
    assert owner_path(folder) == tmp_path / "out.forget_set.owner.json"


class TestFollowing:
    def records(self, digits, **second):
        salt = Salt(bytes(32))
        classes = dict(enumerate(digits.features["label"].names))
        parts = digits.select(range(0, 60, 3)), digits.select(range(1, 60, 3))
        first, then = (
            ForgetSetRecord.of(part, part["label"], salt, class_names=classes, requests=[name], **what)
            for part, name, what in zip(parts, ("one", "two"), ({}, second), strict=True)
        )
        both = concatenate_datasets(list(parts))
        return first, then, ForgetSetRecord.of(both, both["label"], salt, class_names=classes)

    def test_it_is_the_record_of_all_samples_at_once(self, digits):
        first, then, both = self.records(digits)
        merged = then.following(first)
        assert (merged.rows, merged.digests, merged.class_histogram) == (both.rows, both.digests, both.class_histogram)
        assert merged.requests == ["one", "two"] and merged.previous == first.digest

    def test_classes_that_one_keeps_back_are_told_by_neither(self, digits):
        first, then, _ = self.records(digits, class_histogram=False)
        assert then.following(first).class_histogram is None and first.following(then).class_histogram is None

    @pytest.mark.parametrize("salt", [None, Salt(bytes([1]) * 32)])
    def test_of_another_salt_it_cannot_be(self, digits, salt):
        first, _, _ = self.records(digits)
        other = ForgetSetRecord.of(digits.select([0]), [0], salt)
        with pytest.raises(ValueError, match="made with the same salt"):
            other.following(first)
