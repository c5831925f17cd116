"""The key that signs policy archives: ES256 in local files, for development (app.policy.signing.BundleSigner).

OPA takes RSA, ECDSA and HMAC keys from its configuration, not Ed25519; hence a key of its own, apart from the logs'.

    <folder>/signing.pem        the private key, PKCS #8, not encrypted, 0600
    <folder>/next.pem           the one that takes its place when it is retired; signs nothing until then
    <folder>/<key id>.pub.pem   a public key that is believed: ours, and any that the operator puts there

A rotation makes the next key, so that its public half can be handed to OPA servers first; retiring the key that signs
is one rename. A crash leaves the old state or the new one. Public halves stay: what a key signed is kept for ever.

A key's id is the first 16 hex digits of the SHA-256 of its SubjectPublicKeyInfo. Signatures are deterministic
(RFC 6979): the same bundle under the same key is the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

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

from app.errors import Broken, Conflict, NotFound, Refused, Unavailable
from app.ledger.durable import sync_folder

ALGORITHM: Final = "ES256"
SIGNING_FILE: Final = "signing.pem"
NEXT_FILE: Final = "next.pem"
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


@dataclass(frozen=True, slots=True)
class _Keys:
    """What the folder held when its listing was `seen`."""

    seen: frozenset[tuple[object, ...]]
    signing: ec.EllipticCurvePrivateKey
    believed: Mapping[str, ec.EllipticCurvePublicKey]


class FileBundleSigner:
    """The keys of a folder. Each use looks at it, and reads it anew if it changed: a running server sees a rotation."""

    def __init__(self, folder: Path) -> None:
        """Read the keys. Raises Unavailable without a key, Broken if it is damaged or others may read it."""
        self._folder = folder
        self._keys = _read_folder(folder)

    @property
    def key_id(self) -> str:
        """The name of the signing key."""
        return name_key(self._load().signing.public_key())

    @property
    def public_pem(self) -> str:
        """The public half, for OPA's configuration."""
        return _to_pem(self._load().signing.public_key()).decode()

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return the JWT."""
        payload = json.dumps(dict(claims), separators=(",", ":"), sort_keys=True).encode()
        key = self._load().signing
        return _JWS.encode(payload, key, algorithm=ALGORITHM, headers={"kid": name_key(key.public_key())})

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims."""
        try:
            key_id = _JWS.get_unverified_header(token).get("kid")
            key = self._load().believed.get(key_id) if isinstance(key_id, str) else None
            if key is None:
                raise _refuse("by a key that is not believed here")
            claims = json.loads(_JWS.decode(token, key, algorithms=[ALGORITHM]))
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refuse("not by the key that it names") from None
        if not isinstance(claims, dict):
            raise _refuse("of no claims")
        return claims

    def _load(self) -> _Keys:
        if _list_folder(self._folder) != self._keys.seen:
            self._keys = _read_folder(self._folder)
        return self._keys

    def __repr__(self) -> str:
        return f"FileBundleSigner({self.key_id})"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleKey:
    """A key of the folder: it signs, is to sign next, or is believed and signs nothing here."""

    key_id: str
    state: Literal["signs", "next", "believed"]
    public_pem: str


def create_bundle_key(folder: Path) -> Path | None:
    """Make a new signing key, durable when this returns; return its file, or None if there is one already."""
    path = folder / SIGNING_FILE
    if path.exists():
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _create_key(path)
    return path


def list_bundle_keys(folder: Path) -> list[BundleKey]:
    """Return all keys, the one that signs and the next one first. Raises as `FileBundleSigner` does."""
    keys, path = _read_folder(folder), folder / NEXT_FILE
    found = [_describe("signs", keys.signing.public_key())]
    found += [_describe("next", _read_private(path).public_key())] if path.exists() else []
    found += [_describe("believed", key) for _, key in sorted(keys.believed.items())]
    ordered: dict[str, BundleKey] = {}
    for key in found:
        ordered.setdefault(key.key_id, key)
    return list(ordered.values())


def rotate_bundle_key(folder: Path) -> BundleKey:
    """Make the key that is to sign next, and return it; it signs nothing yet. Repeated, it is the same key.

    Raises as `FileBundleSigner` does, and Conflict (`key_limit`) beyond `MAX_PUBLIC_KEYS`.
    """
    found = _find_state(list_bundle_keys(folder), "next")
    if found is not None:
        return found
    if len(_read_folder(folder).believed) >= MAX_PUBLIC_KEYS:
        raise Conflict(f"{folder} has {MAX_PUBLIC_KEYS} keys; that is all", code="key_limit")
    public = _create_key(folder / NEXT_FILE)
    return _describe("next", public)


def retire_bundle_key(folder: Path, key_id: str) -> str:
    """Have the next key sign, and destroy this private one; durable when this returns. Return the id that signs.

    Repeated, it changes nothing. Raises NotFound (`key_missing`) for a key that is not believed here, Conflict
    (`key_successor_missing`) if there is no next one, and as `FileBundleSigner` does.
    """
    keys = list_bundle_keys(folder)
    states = {key.key_id: key.state for key in keys}
    if states.get(key_id, "next") == "next":
        raise NotFound(f"{key_id[:16]!r} is no key that signed here: `assay policy key list`", code="key_missing")
    following = _find_state(keys, "next")
    if states[key_id] == "signs":
        if following is None:
            raise Conflict("no key is there to sign next: `assay policy key rotate`", code="key_successor_missing")
        _write(folder / (following.key_id + PUBLIC_SUFFIX), following.public_pem.encode())  # whoever signs is believed
        with (folder / SIGNING_FILE).open("r+b") as old:
            (folder / NEXT_FILE).rename(folder / SIGNING_FILE)  # a crash until here leaves the old state
            sync_folder(folder)
            old.write(b"\n" * MAX_KEY_BYTES)
            old.flush()
            os.fsync(old.fileno())
        return following.key_id
    return keys[0].key_id


def name_key(key: ec.EllipticCurvePublicKey) -> str:
    """Return a key's id."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]


def _describe(state: Literal["signs", "next", "believed"], key: ec.EllipticCurvePublicKey) -> BundleKey:
    return BundleKey(key_id=name_key(key), state=state, public_pem=_to_pem(key).decode())


def _find_state(keys: Sequence[BundleKey], state: str) -> BundleKey | None:
    return next((key for key in keys if key.state == state), None)


def _create_key(path: Path) -> ec.EllipticCurvePublicKey:
    key = ec.generate_private_key(ec.SECP256R1())
    public = path.with_name(name_key(key.public_key()) + PUBLIC_SUFFIX)
    _write(public, _to_pem(key.public_key()))  # first: a crash before the next line leaves a key that signed nothing
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key.public_key()


def _list_folder(folder: Path) -> frozenset[tuple[object, ...]]:
    """Return what is in the folder, such that any change of a key changes the value."""
    seen = []
    for path in (folder / SIGNING_FILE, *folder.glob(f"*{PUBLIC_SUFFIX}")):
        with suppress(FileNotFoundError):
            status = path.lstat()
            seen.append((path.name, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
    return frozenset(seen)


def _read_folder(folder: Path) -> _Keys:
    seen = _list_folder(folder)  # first: what changes while it is read is read again at the next use
    return _Keys(seen, _read_private(folder / SIGNING_FILE), _read_public(folder))


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
    fresh.unlink(missing_ok=True)  # of a process of this number that was killed
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE), "wb") as opened:
        opened.write(data)
        opened.flush()
        os.fsync(opened.fileno())
    fresh.rename(path)
    sync_folder(path.parent)


def _to_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _refuse(problem: str) -> Refused:
    return Refused(f"the archive's signature does not hold: {problem}", code="bundle_signature_invalid")
