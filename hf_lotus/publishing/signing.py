"""Sign all that is published of a model, and check it: the OpenSSF model-signing format, with a bare key.

`model.sig` is what `model_signing verify key` reads: the SHA-256 of every published file, signed. Beside it stands the
statement of unlearning (`attestation`), signed by the same key and one of the signed files. No service is asked, so a
signature tells that the key's owner published these bytes, and not who that is nor when it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from hf_lotus.publishing.attestation import (
    ATTESTATION,
    SIGNATURE,
    check_attestation,
    envelope_of,
    write_attestation,
)
from hf_lotus.publishing.digests import file_digest
from hf_lotus.publishing.keys import read_private_key, read_public_key
from hf_lotus.publishing.manifest import WEIGHTS, published_files
from hf_lotus.publishing.record import RECORD, ForgetSetRecord
from hf_lotus.publishing.verification import Check, require_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from model_signing.hashing import PathLike
    from model_signing.manifest import Manifest

# What a library may load or run from a model's folder, beside what is published.
_LOADED = (*WEIGHTS, "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.py", "adapter_*", "*.jinja", "*config.json")
# Work of the trainer: not published, not signed, and nothing that `from_pretrained` reads.
_WORK = ("training_args.bin", "checkpoint-*", "best_round", "teacher_logits", "runs", "*.part")
# Of git and of the Hub's client.
_FOREIGN = (".git", ".gitattributes", ".gitignore", ".github", ".cache")


def sign(folder: str | Path, key: str | Path, password: str | None = None) -> list[str]:
    """Sign a model's folder: write `unlearning.intoto.json`, then `model.sig` over all that is published with it.

    Args:
        folder: in which record, weights and card belong together.
        key: the PEM file of the private key.
        password: of the private key, where it has one.

    Returns:
        the names of the files that were signed.

    Raises:
        OSError: if a file cannot be read or written.
        ValueError: if the folder is not whole, has links or files that would be loaded and are not published, the key
            is none, or the package that signs is not installed.
    """
    folder = Path(folder)
    private = read_private_key(key, password)
    from model_signing import hashing, signing

    record = require_whole(folder)
    files = _to_sign(folder)
    if linked := [path.name for path in files if path.is_symlink()]:
        raise ValueError(f"{folder} was not signed: {', '.join(linked)} only point elsewhere. Copy the files there.")
    others = [name for name in _unsigned(folder, [path.name for path in files]) if not _matches(name, _WORK)]
    if loaded := [name for name in others if _matches(name, _LOADED)]:
        raise ValueError(
            f"{folder} was not signed: {', '.join(loaded)} could be loaded and would not be published. Move them away."
        )
    write_attestation(folder / ATTESTATION, record, _digests(files), private)
    chosen = [*files, folder / ATTESTATION]

    class Chosen(hashing.Config):
        """The files that are published and no others."""

        def hash(self, model_path: PathLike, *, files_to_hash: Iterable[PathLike] | None = None) -> Manifest:
            return super().hash(model_path, files_to_hash=chosen)

    unfinished = folder / f"{SIGNATURE}.part"
    config = signing.Config().set_hashing_config(Chosen())
    # The package hands the password on as it is, and what it hands it to takes bytes.
    config.use_elliptic_key_signer(private_key=key, password=password and password.encode())  # type: ignore[arg-type]
    try:
        config.sign(folder, unfinished)
        os.replace(unfinished, folder / SIGNATURE)
    finally:
        unfinished.unlink(missing_ok=True)
    return sorted(path.name for path in chosen)


def require_fresh(folder: str | Path, files: Iterable[str]) -> None:
    """Raise a ValueError if a model's signature is of other files than these; not if there is none.

    Args:
        folder: the model's.
        files: the names of all that is to be published.
    """
    folder = Path(folder)
    if not (folder / SIGNATURE).is_file():
        return
    stale = _stale(folder)
    wrong = [] if stale.holds else [stale.detail]
    if stale.holds and (new := sorted(set(files) - {SIGNATURE, *_listed(folder)})):
        wrong.append(f"{', '.join(new)} came after it")
    if wrong:
        raise ValueError(
            f"{folder} is not published, as {SIGNATURE} is of other files: {wrong[0]}. Sign the folder again with "
            f"hf-lotus sign, or publish it unsigned: delete {SIGNATURE} and {ATTESTATION}."
        )


def check_signature(folder: str | Path, key: str | Path | None) -> list[Check]:
    """Check a model's signature, or say that there is none.

    Args:
        folder: the model's.
        key: the PEM file of the public key, from its owner by another way than the model; None tells only whether the
            model is signed, and whether by its own account the signature is of these files.

    Raises:
        OSError: if there is no such key.
        ValueError: if the key is none, or the package that checks is not installed.
    """
    folder = Path(folder)
    name = "the model is signed"
    if not (folder / SIGNATURE).is_file():
        stray = f", though {ATTESTATION} is there" if (folder / ATTESTATION).exists() else ""
        detail = f"UNSIGNED{stray}: nothing tells who published it"
        return [Check(name, None if key is None else False, detail)]
    if key is None:
        detail = "by whom is not checked: that needs the owner's public key"
        return [Check(name, None, detail), _stale(folder)]
    public = read_public_key(key)
    signed = _signature(folder, key)
    checks = [signed]
    if signed.holds:
        checks += [_complete(folder), _attested(folder, public)]
    return checks


def _signature(folder: Path, key: str | Path) -> Check:
    """Whether `model.sig` is of this key, and every file that it lists as it was."""
    from cryptography.exceptions import InvalidSignature
    from model_signing import hashing, verifying

    name = "the signature is of this key and of these files"
    try:
        method = _signed(folder)["predicate"]["serialization"]
        if (method["method"], method["hash_type"]) != ("files", "sha256"):
            return Check(name, False, f"its digests are {method}; check it with model_signing verify key")
        # What the Hub's client downloads are links into its cache: the bytes count.
        config = verifying.Config().set_hashing_config(hashing.Config().set_allow_symlinks(True))
        config.set_ignore_unsigned_files(True).use_elliptic_key_verifier(public_key=key)
        config.verify(folder, folder / SIGNATURE)
    except InvalidSignature:
        return Check(name, False, "its signature is not of this key")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:  # a file that is no bundle
        return Check(name, False, " ".join(str(error).split()) or type(error).__name__)
    return Check(name, True)


def _complete(folder: Path) -> Check:
    """Whether there is nothing in the folder that was not signed."""
    name = "no file is unsigned"
    unsigned = _unsigned(folder, _listed(folder))
    work = [file for file in unsigned if _matches(file, _WORK)]
    wrong = [file for file in unsigned if file not in work]
    if wrong:
        return Check(name, False, f"{', '.join(wrong)} came after the signature")
    return Check(name, True, f"but for work of the trainer, which nothing loads: {', '.join(work)}" if work else "")


def _attested(folder: Path, key: ec.EllipticCurvePublicKey) -> Check:
    name = "the statement of unlearning is of this key, these files and this record"
    if not (folder / ATTESTATION).is_file():
        return Check(name, None, f"there is no {ATTESTATION}")
    try:
        record = ForgetSetRecord.from_json(folder / RECORD)
    except (OSError, ValueError) as error:
        return Check(name, False, str(error))
    wrong = check_attestation(folder / ATTESTATION, record, _digests(_to_sign(folder)), key)
    return Check(name, not wrong, "; ".join(wrong))


def _stale(folder: Path) -> Check:
    """Whether the files are those that the signature lists: no proof, as anybody may have made it, but a disproof."""
    name = f"{SIGNATURE} lists these files"
    try:
        signed = {entry["name"]: entry["digest"] for entry in _signed(folder)["predicate"]["resources"]}
        inside = [file for file in signed if not PurePosixPath(file).is_absolute() and ".." not in file.split("/")]
        found = {file: file_digest(folder / file) for file in inside if (folder / file).is_file()}
        wrong = sorted(file for file in signed if found.get(file) != signed[file])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Check(name, False, " ".join(str(error).split()))
    return Check(name, not wrong, f"{', '.join(wrong)} changed since: sign it again" if wrong else "")


def _to_sign(folder: Path) -> list[Path]:
    """What is published, but for the signature and the statement."""
    return [path for path in published_files(folder) if path.name not in (SIGNATURE, ATTESTATION)]


def _signed(folder: Path) -> dict[str, Any]:
    """The statement in `model.sig`, checked or not."""
    statement = json.loads(envelope_of(folder / SIGNATURE)[0])
    if not isinstance(statement, dict):
        raise ValueError(f"{SIGNATURE} has no statement")
    return statement


def _listed(folder: Path) -> list[str]:
    return [entry["name"] for entry in _signed(folder)["predicate"]["resources"]]


def _unsigned(folder: Path, signed: Iterable[str]) -> list[str]:
    """What is in a folder and not among the signed: files by name, folders by theirs unless they hold signed files."""
    known = {*signed, SIGNATURE, ATTESTATION, *_FOREIGN}
    roots = {name.split("/")[0] for name in known if "/" in name}
    found = []
    for path in folder.iterdir():
        if path.name in roots:
            files = [file.relative_to(folder).as_posix() for file in path.rglob("*") if not file.is_dir()]
            found += [file for file in files if file not in known]
        elif path.name not in known:
            found.append(path.name)
    return sorted(found)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _digests(files: Iterable[Path]) -> dict[str, str]:
    return {path.name: file_digest(path) for path in files}
