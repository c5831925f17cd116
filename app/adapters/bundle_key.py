"""The key that signs policy archives: ES256 in local files, for development (app.policy.signing.BundleSigner).

OPA takes RSA, ECDSA and HMAC keys from its configuration, not Ed25519; hence a key of its own, apart from the logs'.

    <folder>/signing.pem        the private key, PKCS #8, not encrypted, 0600
    <folder>/<key id>.pub.pem   a public key that is believed: ours, and any that the operator puts there

A key's id is the first 16 hex digits of the SHA-256 of its SubjectPublicKeyInfo. Signatures are deterministic
(RFC 6979): the same bundle under the same key is the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from jwt.algorithms import ECAlgorithm
from jwt.utils import der_to_raw_signature

from app.errors import Broken, Refused, Unavailable

ALGORITHM: Final = "ES256"
SIGNING_FILE: Final = "signing.pem"
PUBLIC_SUFFIX: Final = ".pub.pem"
MAX_KEY_BYTES: Final = 4_096
MAX_PUBLIC_KEYS: Final = 64
FILE_MODE: Final = 0o600
FORBIDDEN_MODE: Final = 0o077


class _Deterministic(ECAlgorithm):
    """ES256 whose nonce follows from key and message, where the library's own draws it."""

    def sign(self, msg: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
        """Return r and s, 32 bytes each."""
        return der_to_raw_signature(key.sign(msg, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)), key.curve)


_JWS: Final = jwt.PyJWS(algorithms=[])
_JWS.register_algorithm(ALGORITHM, _Deterministic(ECAlgorithm.SHA256, ec.SECP256R1))


class FileBundleSigner:
    """The key of a folder."""

    def __init__(self, folder: Path) -> None:
        """Read the keys. Raises Unavailable without a key, Broken if it is damaged or others may read it."""
        self._key = _read_private(folder / SIGNING_FILE)
        self._believed = _read_public(folder)
        self.key_id = name_key(self._key.public_key())

    @property
    def public_pem(self) -> str:
        """The public half, for OPA's configuration."""
        return _to_pem(self._key.public_key()).decode()

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return the JWT."""
        payload = json.dumps(dict(claims), separators=(",", ":"), sort_keys=True).encode()
        return _JWS.encode(payload, self._key, algorithm=ALGORITHM, headers={"kid": self.key_id})

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims."""
        try:
            key_id = _JWS.get_unverified_header(token).get("kid")
            key = self._believed.get(key_id) if isinstance(key_id, str) else None
            if key is None:
                raise _refuse("by a key that is not believed here")
            claims = json.loads(_JWS.decode(token, key, algorithms=[ALGORITHM]))
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refuse("not by the key that it names") from None
        if not isinstance(claims, dict):
            raise _refuse("of no claims")
        return claims

    def __repr__(self) -> str:
        return f"FileBundleSigner({self.key_id})"


def create_bundle_key(folder: Path) -> Path | None:
    """Make a new signing key, durable when this returns; return its file, or None if there is one already."""
    path = folder / SIGNING_FILE
    if path.exists():
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    public = folder / (name_key(key.public_key()) + PUBLIC_SUFFIX)
    _write(public, _to_pem(key.public_key()))  # first: a crash before the next line leaves a key that signed nothing
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def name_key(key: ec.EllipticCurvePublicKey) -> str:
    """Return a key's id."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]


def _read_private(path: Path) -> ec.EllipticCurvePrivateKey:
    data, mode = _read(path)
    if mode & FORBIDDEN_MODE:
        raise Broken(f"{path} can be read by others than its owner: chmod 600 it, and make a new one", code="key_file")
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Broken(f"{path} is not a private key for {ALGORITHM}", code="key_file")
    return key


def _read_public(folder: Path) -> dict[str, ec.EllipticCurvePublicKey]:
    keys: dict[str, ec.EllipticCurvePublicKey] = {}
    for path in sorted(folder.glob(f"*{PUBLIC_SUFFIX}"))[:MAX_PUBLIC_KEYS]:
        try:
            key = load_pem_public_key(_read(path)[0])
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, ec.EllipticCurvePublicKey) or name_key(key) + PUBLIC_SUFFIX != path.name:
            raise Broken(f"{path} is not the public key that its name says", code="key_file")
        keys[name_key(key)] = key
    return keys


def _read(path: Path) -> tuple[bytes, int]:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as opened:
            return opened.read(MAX_KEY_BYTES), stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be read ({error.strerror}); run `assay init`", code="bundle_key_missing"
        ) from error


def _write(path: Path, data: bytes) -> None:
    """Write a file, 0600, that appears complete and durable or not at all."""
    fresh = path.with_suffix(f".{os.getpid()}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    fresh.rename(path)


def _to_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _refuse(problem: str) -> Refused:
    return Refused(f"the archive's signature does not hold: {problem}", code="bundle_signature_invalid")
