"""JSON documents: read, checked by their schema, and written whole or not at all."""

import json
import os
import stat

import pytest

from hf_lotus.utils.documents import first_problem, read_document, read_schema, write_document
from hf_lotus.utils.files import write_private, write_whole
from hf_lotus.utils.mappings import flat

REQUEST = "hf_lotus.requests/deletion_request"


def test_what_is_written_is_read_and_a_refusal_leaves_the_last_good_file(tmp_path):
    path = tmp_path / "a.json"
    write_document(path, {"a": (1, None), "é": 0.1}, indent=2)
    assert read_document(path) == {"a": [1, None], "é": 0.1} and path.read_text().endswith("}\n")
    good = path.read_bytes()
    for document, message in {
        "nan": (float("nan"), r"was not written, as a figure is not finite"),
        "set": ({1}, r"was not written, as JSON cannot hold it"),
    }.values():
        with pytest.raises(ValueError, match=message):
            write_document(path, document, why="a figure is not finite")
    with pytest.raises(ValueError, match=r"a\.json was not written: the document: 'format' is a required property"):
        write_document(path, {"id": "a", "date": "2024-01-01", "selector": {}, "received": ""}, schema=REQUEST)
    assert path.read_bytes() == good and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe"])
def test_what_is_not_json_is_told_with_its_file_and_what_to_do(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON: .*\. Restore it\.$"):
        read_document(tmp_path / "a.json", "Restore it.")
    with pytest.raises(FileNotFoundError):
        read_document(tmp_path / "b.json")


@pytest.mark.parametrize("schema", [REQUEST, "hf_lotus.publishing/forget_set"])
def test_a_problem_says_where_and_what(schema):
    whole = read_schema(schema)
    name = whole["required"][0]
    assert first_problem({}, schema, "the request").startswith("the request: ")
    assert len(first_problem([0] * 1000, schema)) < 350
    assert json.dumps(whole) and name in whole["properties"]


@pytest.mark.parametrize("write", [write_private, write_whole])
def test_a_file_appears_whole_in_place_of_the_last_one(tmp_path, write):
    path, before = tmp_path / "a.txt", os.umask(0o022)
    try:
        path.write_text("old")
        write(path, "new\n")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new\n" and os.listdir(tmp_path) == ["a.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == (0o600 if write is write_private else 0o644)
    with pytest.raises(UnicodeEncodeError):
        write(path, "\ud800")
    assert path.read_bytes() == b"new\n" and os.listdir(tmp_path) == ["a.txt"]


def test_bytes_are_written_as_they_are(tmp_path):
    write_whole(tmp_path / "a.bin", b"\xff\r\n\x00")
    assert (tmp_path / "a.bin").read_bytes() == b"\xff\r\n\x00" and os.listdir(tmp_path) == ["a.bin"]


def test_a_new_private_file_replaces_none(tmp_path):
    write_private(tmp_path / "deep" / "a.txt", "first", new=True)
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "deep" / "a.txt", "second", new=True)
    assert (tmp_path / "deep" / "a.txt").read_text() == "first" and os.listdir(tmp_path / "deep") == ["a.txt"]


def test_mappings_are_laid_flat():
    nested = {"a": {"b": 1, "c": {"d": None}}, "e": [2], "f": {}}
    assert flat(nested, ".") == {"a.b": 1, "a.c.d": None, "e": [2]}
    assert flat({"name": "lotus"}, " ", "method") == {"method name": "lotus"}
