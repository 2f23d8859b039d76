"""The papers behind the methods, as a card cites them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from hf_lotus.methods import METHODS, LoTUS, Paper
from hf_lotus.utils.plugins import PluginError


def citations(method: Mapping[str, object]) -> str:
    """BibTeX of a method's paper, of those within it, and of LoTUS, whose metrics are used throughout.

    Args:
        method: name and fields, as `hf_lotus.methods.describe` gives them.
    """
    papers = dict.fromkeys(paper for name in (*_names(method), LoTUS.name) if (paper := _paper(name)) is not None)
    return "\n\n".join(map(bibtex, papers))


def _names(method: Mapping[str, object]) -> Iterator[object]:
    """The name of a method, and of each that it holds."""
    yield method.get("name")
    for value in method.values():
        if isinstance(value, Mapping):
            yield from _names(value)


def _paper(name: object) -> Paper | None:
    """What a method is cited by; None for one that has no paper, or is not installed here."""
    try:
        return METHODS[cast(str, name)].paper  # what is no name is not there either
    except (KeyError, PluginError):
        return None


def bibtex(paper: Paper) -> str:
    """A paper's BibTeX entry."""
    kind, where = ("article", "journal") if "Transactions" in paper.venue else ("inproceedings", "booktitle")
    entries = {"title": paper.title, "author": paper.authors, where: paper.venue, "year": paper.year}
    entries |= {"eprint": paper.arxiv, "archivePrefix": "arXiv"}
    return "\n".join([f"@{kind}{{{paper.key},", *(f"  {name:<13} = {{{v}}}," for name, v in entries.items()), "}"])
