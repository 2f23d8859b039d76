"""JSON documents with a schema, and YAML: read, checked and written whole."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lotus.utils.files import write_whole
from hf_lotus.utils.text import one_line

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

# A message that quotes a whole list is cut here.
_MOST_LETTERS = 300


def read_document(path: str | Path, advice: str = "") -> Any:
    """What a JSON file holds.

    Args:
        path: of the file.
        advice: what to do about one that is not JSON, for the error.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not JSON, or not text.
    """
    return parse_document(Path(path).read_bytes(), str(path), advice)


def parse_document(text: str | bytes, where: str, advice: str = "") -> Any:
    """What JSON says; `where` it stands and what to do are for the error.

    Raises:
        ValueError: if it is not JSON, not text, or nested more deeply than any document of ours.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also of a file that is not text
        raise ValueError(f"{where} is not valid JSON: {error}.{advice and ' '}{advice}") from error


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds: plain values, no objects.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not YAML, not text, or nested more deeply than any file of ours.
    """
    import yaml

    text = read_text(path)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:  # ValueError: a date that is none
        raise ValueError(f"{path} is not valid YAML: {one_line(error)}.") from error


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """A text file.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not text.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder, and a file is needed.")
    try:
        return Path(path).read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error.reason} at byte {error.start}.") from error


def write_document(
    path: str | Path, document: object, *, schema: str = "", indent: int = 1, why: str = "JSON cannot hold it"
) -> None:
    """Write a JSON file that appears whole or not at all.

    Args:
        path: of the file.
        document: JSON values.
        schema: what it must be like, as `first_problem` takes it; "" for anything.
        indent: of the file's lines.
        why: what it means that a value of JSON's kinds cannot be written, for the error.

    Raises:
        ValueError: if something in it is none of JSON's values, or not what the schema says.
    """
    try:
        text = json.dumps(document, indent=indent, allow_nan=False)
    except (TypeError, ValueError) as error:
        reason = why if isinstance(error, ValueError) else "JSON cannot hold it"
        raise ValueError(f"{path} was not written, as {reason}: {error}.") from error
    if schema and (problem := first_problem(json.loads(text), schema)):
        raise ValueError(f"{path} was not written: {problem}.")
    write_whole(path, text + "\n")


def read_schema(schema: str) -> dict[str, object]:
    """A JSON Schema that is a file of a package.

    Args:
        schema: "package/name": its file is `schemas/name.schema.json` in the package, by its dotted name.
    """
    package, _, name = schema.partition("/")
    return json.loads(resources.files(package).joinpath(f"schemas/{name}.schema.json").read_text(encoding="utf-8"))


def first_problem(document: object, schema: str, whole: str = "the document") -> str | None:
    """What is wrong with a document, as "where: what"; None where it is as the schema says.

    Args:
        document: JSON values.
        schema: as `read_schema` takes it.
        whole: what to call the document, where it is the document itself that is wrong.
    """
    from jsonschema.exceptions import best_match

    error = best_match(_validator(schema).iter_errors(document))
    if error is None:
        return None
    where = "/".join(map(str, error.absolute_path)) or whole
    return f"{where}: {error.message[:_MOST_LETTERS]}"


@cache
def _validator(schema: str) -> Draft202012Validator:
    # Here, as its checks of formats take seconds to import where they are installed.
    from jsonschema import Draft202012Validator

    return Draft202012Validator(read_schema(schema))
