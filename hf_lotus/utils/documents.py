"""JSON documents with a schema: read, checked and written whole."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lotus.utils.files import write_whole

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
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # also of a file that is not text, and of brackets without end
        raise ValueError(f"{path} is not valid JSON: {error}.{advice and ' '}{advice}") from error


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
