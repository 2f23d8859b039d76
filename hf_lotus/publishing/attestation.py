"""What its publisher says of an unlearned model, signed: an in-toto statement with a predicate of unlearning.

The statement's subjects are the published files, its predicate says what was to be forgotten, by commitments. It
stands in a DSSE envelope (github.com/secure-systems-lab/dsse, protocol 1.0.0) within a Sigstore bundle 0.3, as the
signature of the model-signing format does, signed by the same bare key. `docs/signing.md` documents the predicate.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hf_lotus.publishing.keys import hash_of, public_pem
from hf_lotus.publishing.record import RECORD, ForgetSetRecord
from hf_lotus.utils.documents import first_problem
from hf_lotus.utils.files import write_whole
from hf_lotus.version import __version__

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

# Evidence beside a record: the signature of all files, this statement, and the bill of materials.
SIGNATURE, ATTESTATION, BOM = "model.sig", "unlearning.intoto.json", "bom.cdx.json"
_SCHEMA = "hf_lotus.publishing/unlearning_predicate"
PREDICATE_TYPE = "https://hf-lotus/unlearning/v1"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def predicate_of(record: ForgetSetRecord) -> dict[str, object]:
    """The predicate of unlearning, read off a record."""
    digests: Mapping[str, object] = record.digests or {}
    return {
        "record": {"name": RECORD, "canonicalDigest": {"sha256": record.digest}},
        "status": record.status,
        "forgotten": {
            "samples": record.rows,
            "merkleRoot": digests.get("merkle_root"),
            "saltCommitment": digests.get("salt_commitment"),
        },
        "method": record.method.get("name"),
        "baseModel": {key: record.base_model[key] for key in ("name", "id", "revision")},
        "dataset": {key: record.dataset[key] for key in ("name", "id", "revision")},
        "previous": None if record.previous is None else {"sha256": record.previous},
        "created": record.created,
        "tool": {"name": "hf-lotus", "version": __version__},
    }


def write_attestation(
    path: str | Path, record: ForgetSetRecord, files: Mapping[str, str], key: ec.EllipticCurvePrivateKey
) -> None:
    """Sign and write the statement; the file appears whole or not at all.

    Args:
        path: of the bundle.
        record: what was forgotten.
        files: name of every published file → its SHA-256.
        key: the publisher's.
    """
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate_of(record),
    }
    write_whole(path, json.dumps(_bundle(json.dumps(statement).encode(), key), indent=1) + "\n")


def _bundle(payload: bytes, key: ec.EllipticCurvePrivateKey) -> dict[str, object]:
    from cryptography.hazmat.primitives.asymmetric import ec

    signature = key.sign(_encoded(payload), ec.ECDSA(hash_of(key.public_key())))
    hint = hashlib.sha256(public_pem(key.public_key())).hexdigest()
    return {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


def _encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed, so that no payload passes for one of another type."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def envelope_of(path: str | Path) -> tuple[bytes, list[bytes]]:
    """The payload and the signatures of a bundle's envelope, which nobody has checked yet.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not a bundle with an in-toto statement.
    """
    try:
        envelope = json.loads(Path(path).read_text(encoding="utf-8"))["dsseEnvelope"]
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError(f"its payload is of type {envelope['payloadType']!r}")
        signatures = [base64.b64decode(entry["sig"], validate=True) for entry in envelope["signatures"]]
        return base64.b64decode(envelope["payload"], validate=True), signatures
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise ValueError(f"{Path(path).name} is not a Sigstore bundle with an in-toto statement: {error}") from error


def check_attestation(
    path: str | Path, record: ForgetSetRecord, files: Mapping[str, str], key: ec.EllipticCurvePublicKey
) -> list[str]:
    """What is wrong with a statement; nothing if it is this key's, of these files and of this record.

    Args:
        path: of the bundle.
        record: what the folder's record says.
        files: name of every published file → its SHA-256.
        key: the publisher's.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        payload, signatures = envelope_of(path)
    except (OSError, ValueError) as error:
        return [str(error)]
    for signature in signatures:
        try:
            key.verify(signature, _encoded(payload), ec.ECDSA(hash_of(key)))
            break
        except InvalidSignature:
            continue
    else:
        return ["no signature of it is of this key"]
    # From here on the key's owner has said it: what is wrong is theirs.
    try:
        statement = json.loads(payload)
        types = statement["_type"], statement["predicateType"]
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
        predicate = statement["predicate"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return [f"its statement is none: {error}"]
    if types != (STATEMENT_TYPE, PREDICATE_TYPE):
        return [f"its statement is of the types {', '.join(map(str, types))}"]
    if problem := first_problem(predicate, _SCHEMA, "the predicate"):
        return [f"its predicate is not as the schema says: {problem}"]
    wrong = []
    if subjects != dict(files):
        wrong.append(f"its files are others: {', '.join(_differing(subjects, files))}")
    expected = {**predicate_of(record), "tool": predicate["tool"]}  # another version may have written it
    if predicate != expected:
        wrong.append(f"it differs from the record in {', '.join(_differing(predicate, expected))}")
    return wrong


def _differing(found: Mapping[str, object], expected: Mapping[str, object]) -> list[str]:
    return sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
