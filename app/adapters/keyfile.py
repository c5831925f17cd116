"""Ed25519 keys in local files, for development: the seed lies on the disk as it is (publish.KeyRing, ports.Signer).

Each origin has a folder of its own, so that one tenant's broken key stops nobody else:

    <folder>/<hex SHA-256 of the origin>/<key id>.key        active: verifier key and seed
    <folder>/<hex SHA-256 of the origin>/<key id>.retired    retired: verifier key alone

Retiring writes the second file before it destroys the first. A crash between the two leaves both: the key counts as
retired, and retiring it again finishes. Seeds never appear in a repr, an error or a pickle.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from nacl.signing import SigningKey

from app.errors import Broken, NotFound, Rejected, Unavailable
from app.ledger.durable import sync_folder
from app.ledger.ports import Tenant
from app.tlog.encoding import format_base64, parse_base64
from app.tlog.note import ED25519, VerifierKey, format_vkey, parse_vkey

FILE_MODE = 0o600
FOLDER_MODE = 0o700
FORBIDDEN_MODE = 0o077  # anything for group or others
SEED_BYTES = 32
MAX_FILE_BYTES = 4_096
MAX_KEYS_PER_ORIGIN = 64  # active and retired
MAX_READS = 10  # of a folder that changes while it is read
READ_PAUSE_S = 0.005  # longer each time
ACTIVE = ".key"
RETIRED = ".retired"
WARNING = """\
# DEVELOPMENT KEY: an Ed25519 seed, not encrypted. Who can read this file can sign as the name below.
# Do not use it in production: keep that key in Vault or an HSM. Do not copy it, mail it or commit it.
"""
RETIRED_COMMENT = "# Retired: the seed was destroyed. Kept so that old signatures can be recognised.\n"

_ACTIVE_FILE = re.compile(r"\A(?:#[^\n]*\n)*vkey (?P<vkey>[^\n]+)\nseed (?P<seed>[^\n]+)\n\Z")
_RETIRED_FILE = re.compile(r"\A(?:#[^\n]*\n)*vkey (?P<vkey>[^\n]+)\n\Z")


class KeyFileError(Broken):
    """A key file that is damaged, or that others can read: a person must look before it signs anything."""

    code = "key_file"


class FileSigner:
    """One key of a file (ports.Signer)."""

    __slots__ = ("_key", "_seed")

    def __init__(self, key: VerifierKey, seed: bytes) -> None:
        """Raises KeyFileError unless the 32-byte seed is that of the key."""
        self._key = key
        self._seed = SigningKey(seed)
        if bytes(self._seed.verify_key) != key.public_key:
            raise KeyFileError(f"the seed of {key.name} is not that of its verifier key")

    @property
    def key(self) -> VerifierKey:
        """The verifier key."""
        return self._key

    @property
    def vkey(self) -> str:
        """The verifier key as text."""
        return format_vkey(self._key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature."""
        return self._seed.sign(message).signature

    def __repr__(self) -> str:
        return f"FileSigner({self.vkey})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signing key is not pickled or copied")


@dataclass(frozen=True, slots=True)
class _Keys:
    """What an origin's folder held when its listing was `seen`."""

    seen: frozenset[tuple[object, ...]]
    active: tuple[FileSigner, ...]
    known: tuple[str, ...]


class FileKeyRing:
    """The keys of all origins in one folder (publish.KeyRing).

    Every call looks at the origin's folder and reads it anew if a file came, went or changed: a running sequencer
    sees a rotation at its next checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        self._folder = folder
        self._loaded: dict[str, _Keys] = {}

    def active(self, tenant: Tenant) -> Sequence[FileSigner]:
        """Return the keys that sign, by key id. Raises Unavailable if there is none, KeyFileError if one is unfit."""
        keys = self._load(tenant.origin)
        if not keys.active:
            raise Unavailable(f"no key of {tenant.origin} is active; run `assay init`", code="key_missing")
        return keys.active

    def known(self, tenant: Tenant) -> Sequence[str]:
        """Return the verifier keys of all that ever signed, retired ones too."""
        return self._load(tenant.origin).known

    def _load(self, origin: str) -> _Keys:
        folder = origin_folder(self._folder, origin)
        seen = _list_folder(folder)
        loaded = self._loaded.get(origin)
        if loaded is None or loaded.seen != seen:
            loaded = self._loaded[origin] = _read_while_it_changes(folder, origin, seen)
        return loaded


def origin_folder(folder: Path, name: str) -> Path:
    """Return the folder of the keys of this origin, or of this witness."""
    return folder / sha256(name.encode()).hexdigest()


def create_key_file(folder: Path, origin: str, *, algorithm: int = ED25519) -> str:
    """Make a new key from the system's randomness, durable when this returns; return its verifier key.

    A log's key signs from the next checkpoint on. For a witness `origin` is its name, `algorithm` COSIGNATURE_V1.
    """
    seed = os.urandom(SEED_BYTES)
    key = VerifierKey(name=origin, algorithm=algorithm, public_key=bytes(SigningKey(seed).verify_key))
    place = origin_folder(folder, origin)
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    place.mkdir(mode=FOLDER_MODE, exist_ok=True)
    sync_folder(folder)
    if len(_list_folder(place)) >= MAX_KEYS_PER_ORIGIN:
        raise Rejected(f"{origin} has {MAX_KEYS_PER_ORIGIN} keys already", code="key_limit")
    vkey = format_vkey(key)
    _write_file(place / (key.key_id.hex() + ACTIVE), f"{WARNING}vkey {vkey}\nseed {format_base64(seed)}\n")
    return vkey


def retire_key_file(folder: Path, vkey: str) -> None:
    """Destroy the seed of this key for good, and keep its verifier key. Idempotent.

    Call it only when `key.retired` is published. The bytes are overwritten, then unlinked; a file system that copies
    on write, or a backup, may keep them: one more reason why this is for development. Raises NotFound without the key.
    """
    key = parse_vkey(vkey)
    place = origin_folder(folder, key.name)
    active, retired = (place / (key.key_id.hex() + suffix) for suffix in (ACTIVE, RETIRED))
    if not retired.exists():
        if not active.exists():
            raise NotFound(f"no key file of {vkey}", code="key_missing")
        _write_file(retired, f"{RETIRED_COMMENT}vkey {vkey}\n")
    if active.exists():
        _destroy_file(active)


def read_signer(folder: Path, name: str, *, algorithm: int = ED25519) -> FileSigner:
    """Return the one active key of this name and kind: a witness's. Raises NotFound unless there is exactly one."""
    place = origin_folder(folder, name)
    keys = _read_folder(place, name, _list_folder(place), algorithm)
    if len(keys.active) != 1:
        raise NotFound(f"{name} has {len(keys.active)} active keys where one is needed", code="key_missing")
    return keys.active[0]


def load_key_file(path: Path) -> FileSigner:
    """Return the key of an active key file. Raises KeyFileError if it is damaged or others may read it."""
    found = _ACTIVE_FILE.match(_read_text(path, secret=True))
    if found is None:
        raise KeyFileError(f"{path} is not a key file")
    try:
        key, seed = parse_vkey(found["vkey"]), parse_base64(found["seed"])
    except Rejected:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise KeyFileError(f"{path} is damaged")
    return FileSigner(key, seed)


def _list_folder(folder: Path) -> frozenset[tuple[object, ...]]:
    """Return what is in the folder, such that any change of a file changes the value; nothing if it is missing."""
    try:
        paths = [path for path in folder.iterdir() if path.name.endswith((ACTIVE, RETIRED))]
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise Unavailable(f"{folder} cannot be read ({error.strerror})", code="key_missing") from error
    seen = []
    for path in paths:
        with suppress(FileNotFoundError):  # retired since it was listed
            status = path.lstat()
            seen.append((path.name, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
    return frozenset(seen)


def _read_while_it_changes(folder: Path, name: str, seen: frozenset[tuple[object, ...]]) -> _Keys:
    """Read the folder, and again if a file was retired just while it was read; not at once, or the next one may be."""
    for read in range(MAX_READS - 1):
        try:
            return _read_folder(folder, name, seen)
        except (KeyFileError, Unavailable):
            time.sleep(READ_PAUSE_S * read)
            before, seen = seen, _list_folder(folder)
            if before == seen:
                raise
    return _read_folder(folder, name, seen)


def _read_folder(folder: Path, name: str, seen: frozenset[tuple[object, ...]], algorithm: int = ED25519) -> _Keys:
    """Read the files that were `seen`; refuse them all if one of them is unfit or another name's."""
    files = sorted(str(entry[0]) for entry in seen)
    retired = {file.removesuffix(RETIRED): _read_retired(folder / file) for file in files if file.endswith(RETIRED)}
    signers = {
        file.removesuffix(ACTIVE): load_key_file(folder / file)
        for file in files
        if file.endswith(ACTIVE) and file.removesuffix(ACTIVE) not in retired
    }
    keys = retired | {stem: signer.key for stem, signer in signers.items()}
    for stem, key in keys.items():
        if (key.name, key.algorithm, key.key_id.hex()) != (name, algorithm, stem):
            raise KeyFileError(f"{folder / stem} is not the key that its place says")
    return _Keys(seen, tuple(signers.values()), tuple(format_vkey(key) for key in keys.values()))


def _read_retired(path: Path) -> VerifierKey:
    found = _RETIRED_FILE.match(_read_text(path, secret=False))
    try:
        return parse_vkey(found["vkey"] if found else "")
    except Rejected as error:
        raise KeyFileError(f"{path} is damaged") from error


def _read_text(path: Path, *, secret: bool) -> str:
    """Return a small text file; of a secret one, refuse what group or others have any right to."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(file, "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read ({error.strerror})", code="key_missing") from error
    if secret and (not stat.S_ISREG(mode) or mode & FORBIDDEN_MODE):
        raise KeyFileError(f"{path} can be read by others than its owner; chmod 600 it, and consider the key as known")
    if len(data) > MAX_FILE_BYTES:
        raise KeyFileError(f"{path} is too long for a key file")
    return data.decode(errors="replace")


def _write_file(path: Path, text: str) -> None:
    """Write a new file, 0600, that appears complete and durable or not at all."""
    fresh = path.with_suffix(f".{os.getpid()}.new")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(file, "wb") as opened:
        opened.write(text.encode())
        opened.flush()
        os.fsync(opened.fileno())
    fresh.rename(path)
    sync_folder(path.parent)


def _destroy_file(path: Path) -> None:
    with path.open("r+b") as opened:
        opened.write(b"\n" * path.stat().st_size)
        opened.flush()
        os.fsync(opened.fileno())
    path.unlink()
    sync_folder(path.parent)
