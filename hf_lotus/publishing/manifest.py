"""Which files of a model's folder are published, by what each is bound, and what else may lie beside them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path

from hf_lotus.publishing.digests import file_digest

# Published, and listed in the record with its SHA-256. Named one by one: a folder may also hold checkpoints, optimizer
# states, the training arguments with a token in them, or a salt that somebody put there.
LISTED = (
    "*.safetensors",
    "*.safetensors.index.json",
    *("config.json", "adapter_config.json"),
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model"),
    "results.json",
    "entropy.png",
    "audit.json",
    "audit.html",
)
# Published, and bound in another way, as each of them names the record's digest or is made after the record.
BOUND = {
    "README.md": "made again from the record, and compared whole",
    "forget_set.json": "the record: the card, the signature and the next record name its digest",
    "bom.cdx.json": "made again from the record, and compared whole",
    "model.sig": "the signature, checked with its owner's key",
    "unlearning.intoto.json": "signed, checked with its owner's key",
}
PUBLISHED = (*LISTED, *BOUND)
# Written by the Hub when it makes a repository: which files git keeps in another place. Nothing loads it.
OF_THE_HUB = (".gitattributes",)
# Of git, and of the Hub's client where it downloads into a folder.
_OF_COPIES = (".git", ".cache", ".gitignore")
# Work of the trainer: never published, and nothing that `from_pretrained` reads.
_WORK = (
    *("training_args.bin", "checkpoint-*", "best_round", "teacher_logits", "runs", "*.part", "choice.json"),
    *("trainer_state.json", "all_results.json", "train_results.json", "eval_results.json"),
)
# Files that `from_pretrained` takes weights from.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*", "*.h5", "*.msgpack")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a file's name is one of those."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def published_files(folder: str | Path) -> list[Path]:
    """The files of a model's folder that are published, by name."""
    return sorted(path for path in Path(folder).iterdir() if path.is_file() and matches(path.name, PUBLISHED))


def listed_digests(folder: str | Path) -> dict[str, str]:
    """File name → SHA-256 of every file that a record lists."""
    return {path.name: file_digest(path) for path in published_files(folder) if matches(path.name, LISTED)}


def changed_files(folder: str | Path, files: Mapping[str, str]) -> list[str]:
    """What is wrong with a folder's files: "a is missing", "b is another"; nothing if all have the digests given."""
    wrong = []
    for name, digest in sorted(files.items()):
        path = Path(folder) / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif file_digest(path) != digest:
            wrong.append(f"{name} is another")
    return wrong


def names_in(folder: str | Path) -> list[str]:
    """All that lies in a folder, links too, as names relative to it; of the trainer's and git's folders the name."""
    names = []
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        if inside == Path("."):
            names += [name for name in folders if matches(name, (*_WORK, *_OF_COPIES))]
            folders[:] = [name for name in folders if name not in names]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        names += [(inside / name).as_posix() for name in (*files, *links)]
    return sorted(names)


def strays(names: Collection[str], listed: Collection[str]) -> tuple[list[str], list[str]]:
    """What is neither published nor the Hub's: what may be loaded or read as if it were, and work of the trainer.

    Args:
        names: all that is there (`names_in`, or a repository's listing).
        listed: what the record lists.
    """
    others = sorted(set(names) - {*listed, *BOUND, *OF_THE_HUB, *_OF_COPIES})
    work = [name for name in others if matches(name, _WORK)]
    return [name for name in others if name not in work], work
