"""Where a model and its data come from, as far as that may be published: ids and commits on the Hub, no places."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import cast

import yaml
from datasets import Dataset
from huggingface_hub import ModelCard, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

# What the Hub's client raises where there was no reply at all: the common ancestor of its own errors in its library.
HTTP_ERROR = cast(type[Exception], next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError"))
_LICENSE = ("license", "license_name", "license_link")


def hub_id(name: str | None) -> str | None:
    """The name if it can be a repository's on the Hub; None for anything else, which must not become a link to one."""
    if not name or os.path.exists(name):
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def source(name: str | None, revision: str | None = None) -> dict[str, str | None]:
    """A repository's name, id and revision; of a local folder the last part of its name alone, and no id."""
    found = hub_id(name)
    return {"name": found or (Path(name).name if name else None), "id": found, "revision": revision}


def model_source(name: str | None, revision: str | None = None) -> dict[str, object]:
    """What a record says of the model before unlearning: name, id, commit and license.

    Args:
        name: the id or folder that it was loaded by.
        revision: the branch, tag or commit that was asked for.
    """
    found = source(name, revision)
    if found["id"] is not None:
        # The cache of the Hub's client knows which commit a branch was when the model was loaded.
        file = try_to_load_from_cache(found["id"], "config.json", revision=revision)
        if isinstance(file, str) and re.fullmatch("[0-9a-f]{40}", Path(file).parent.name):
            found["revision"] = Path(file).parent.name
    return {**found, "license": inherited_license(name, found["revision"])}


def dataset_source(dataset: object, name: str | None = None, revision: str | None = None) -> dict[str, str | None]:
    """What a `datasets.Dataset` tells of its own origin, as the record has it.

    The commit is read off the cache's folder, which is named after it where the data set was loaded from the Hub.

    Args:
        dataset: the data set, or a part of it.
        name: the id or folder that it was loaded by, where that is known.
        revision: the revision that was asked for, where no commit can be found.
    """
    told = dict.fromkeys(("name", "id", "config", "split", "revision", "fingerprint"))
    if not isinstance(dataset, Dataset):
        return {**told, **source(name, revision)}
    found = _hub_cache(dataset)
    if name is None and found is not None:
        name = found[0]
    known = source(name or dataset.info.dataset_name, revision)
    if known["id"] is not None and found is not None and found[0] == known["id"]:
        known["revision"] = found[1]
    if name is None:
        known["id"] = None  # a data set's own name, without a namespace, is no id
    split = None if dataset.split is None else str(dataset.split)
    return {**told, **known, "config": dataset.config_name, "split": split}


def _hub_cache(dataset: Dataset) -> tuple[str, str] | None:
    """Id and commit, from a cache file's path …/namespace___name/config/version/commit/file.arrow."""
    for file in dataset.cache_files:
        parts = Path(file["filename"]).parts[-5:]
        if len(parts) == 5 and "___" in parts[0] and re.fullmatch("[0-9a-f]{40}", parts[3]):
            return parts[0].replace("___", "/", 1), parts[3]
    return None


def inherited_license(name: str | None, revision: str | None = None) -> dict[str, str]:
    """The license of a model's card on the Hub or in its folder: `license`, `license_name`, `license_link`.

    Empty where there is no card, it says nothing, or it cannot be reached: a license is carried over, never guessed.
    """
    if not name:
        return {}
    try:
        if os.path.isdir(name):
            data = ModelCard.load(Path(name) / "README.md", ignore_metadata_errors=True).data
        elif hub_id(name):
            data = _card_of(name, revision).data
        else:
            return {}
    except (HTTP_ERROR, OSError, ValueError, yaml.YAMLError):  # absent, offline, refused; not a card
        return {}
    return {key: str(data.get(key)) for key in _LICENSE if data.get(key)}


def _card_of(name: str, revision: str | None) -> ModelCard:
    return ModelCard.load(hf_hub_download(name, "README.md", revision=revision), ignore_metadata_errors=True)
