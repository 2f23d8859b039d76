"""Which published models still derive from an original: deletion does not end with one model.

The Hub makes a tag `base_model:ID` of what a model's card names as its base. Cards name the nearest base alone, so the
search goes on from every model that is found. It finds what says so itself and may be seen with the token at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hf_lotus.publishing.hub import explain
from hf_lotus.publishing.sources import HTTP_ERROR, hub_id
from hf_lotus.version import __version__

UNLEARNED = "machine-unlearning"
_RELATIONS = ("adapter", "finetune", "merge", "quantized")


@dataclass(frozen=True)
class DerivedModel:
    """A published model whose card names another as its base.

    Attributes:
        id: on the Hub.
        base: what it was made from.
        relation: "finetune", "adapter", "merge" or "quantized"; None where the Hub does not say.
        depth: 1 for a model made from the original, 2 for one made from that, …
        unlearned: whether its card says that it was made to forget. Of what, its record says.
        commit: of its newest version.
    """

    id: str
    base: str
    relation: str | None
    depth: int
    unlearned: bool
    commit: str | None


def derived_models(repo_id: str, *, token: str | None = None) -> list[DerivedModel]:
    """The models that derive from one, depth first; each once, by the first way that leads to it.

    Args:
        repo_id: of the original on the Hub.
        token: of the Hub; by default that of `hf auth login` or HF_TOKEN. Private models are found where it sees them.

    Raises:
        ValueError: if `repo_id` is no repository's.
        OSError: if the Hub refuses, or cannot be reached.
    """
    if hub_id(repo_id) is None:
        raise ValueError(f"{repo_id} is not the id of a model on the Hub (namespace/name).")
    api = HfApi(token=token, library_name="hf-lotus", library_version=__version__)
    try:
        api.model_info(repo_id)  # a mistyped name has no descendants either
        return list(_below(api, repo_id, 1, {repo_id}))
    except (HTTP_ERROR, HfHubHTTPError) as error:
        raise OSError(f"The models that derive from {repo_id} were not listed: {explain(error)}.") from error


def _below(api: HfApi, base: str, depth: int, seen: set[str]) -> Iterator[DerivedModel]:
    found = [model for model in api.list_models(filter=f"base_model:{base}", full=True) if model.id not in seen]
    seen.update(model.id for model in found)  # a card may name what was made from it
    for model in sorted(found, key=lambda model: model.id):
        tags = set(model.tags or ())
        relation = next((r for r in _RELATIONS if f"base_model:{r}:{base}" in tags), None)
        yield DerivedModel(model.id, base, relation, depth, UNLEARNED in tags, model.sha)
        yield from _below(api, model.id, depth + 1, seen)
