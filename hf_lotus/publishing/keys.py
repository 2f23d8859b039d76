"""Bare elliptic-curve keys to sign a model with: PEM files, no certificate, no service that vouches for anybody."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hf_lotus.utils.files import write_private, write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

_CURVES = ("secp256r1", "secp384r1", "secp521r1")  # those of the model-signing format
_NEEDED = ("model_signing", "cryptography", "OpenSSL")


def require_signing() -> None:
    """Raise a ValueError that says what to install, where the packages that sign are absent."""
    if any(importlib.util.find_spec(package) is None for package in _NEEDED):
        raise ValueError("Signatures need the package model-signing. Install it: pip install 'hf-lotus[signing]'.")


def new_key(path: str | Path, password: str | None = None) -> Path:
    """Make a key pair: the private key in `path`, for its owner's eyes alone, the public one in `path` + ".pub".

    Args:
        path: of the private key.
        password: to encrypt the private key with.

    Returns:
        the path of the public key.

    Raises:
        ValueError: if a file is there already, as whoever trusts that key would trust this one no more.
    """
    require_signing()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path, public = Path(path), Path(f"{path}.pub")
    for taken in (path, public):
        if taken.exists():
            raise ValueError(f"{taken} is there already and was kept. Sign with that key, or give another path.")
    key = ec.generate_private_key(ec.SECP256R1())
    hidden = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden).decode()
    try:
        write_private(path, text, new=True)
    except FileExistsError as error:
        raise ValueError(f"{path} is there already and was kept.") from error
    write_whole(public, public_pem(key.public_key()).decode())
    return public


def read_private_key(path: str | Path, password: str | None = None) -> ec.EllipticCurvePrivateKey:
    """The private key in a PEM file.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not a private key of a curve that may sign models, or the password is not its own.
    """
    require_signing()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    content = Path(path).read_bytes()
    try:
        key = serialization.load_pem_private_key(content, password.encode() if password else None)
    except TypeError as error:  # encrypted and no password, or the other way round
        raise ValueError(f"The private key {path} cannot be read: {error}.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(
            f"{path} is not a private key in PEM, or the password is not its own. Make a key with hf-lotus sign "
            "--new_key."
        ) from error
    _require_curve(key, path)
    return cast("ec.EllipticCurvePrivateKey", key)  # no other kind of key has a curve of these names


def read_public_key(path: str | Path) -> ec.EllipticCurvePublicKey:
    """The public key in a PEM file.

    Raises:
        OSError: if there is no such file.
        ValueError: if it is not a public key of a curve that may sign models.
    """
    require_signing()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    content = Path(path).read_bytes()
    if b"PRIVATE KEY" in content:
        raise ValueError(f"{path} is a private key: a signature is checked with the public one, mostly {path}.pub.")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} is not a public key in PEM.") from error
    _require_curve(key, path)
    return cast("ec.EllipticCurvePublicKey", key)  # no other kind of key has a curve of these names


def _require_curve(key: object, path: str | Path) -> None:
    curve = getattr(getattr(key, "curve", None), "name", None)
    if curve not in _CURVES:
        raise ValueError(
            f"{path} is a key of {curve or type(key).__name__}; models are signed on {', '.join(_CURVES)}."
        )


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as PEM."""
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def hash_of(key: ec.EllipticCurvePublicKey) -> HashAlgorithm:
    """The hash that goes with a key's curve, as the model-signing format has it."""
    from cryptography.hazmat.primitives import hashes

    return {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.curve.key_size]
