"""The pepper: the key under which tokens are hashed. A 0600 file made at init, never in the database or its backups.

Whoever reads the database alone cannot tell, test or make a token. Losing the pepper makes every token invalid.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.errors import Broken, Conflict, Unavailable

PEPPER_BYTES: Final = 32
FILE_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Pepper:
    """32 random bytes."""

    secret: bytes = field(repr=False)
    _keyed: hmac.HMAC = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse another length."""
        if len(self.secret) != PEPPER_BYTES:
            raise ValueError(f"the pepper has {PEPPER_BYTES} bytes")
        object.__setattr__(self, "_keyed", hmac.new(self.secret, digestmod=hashlib.sha256))

    def digest(self, token: str) -> bytes:
        """Return the 32 bytes by which a token is stored and looked up: HMAC-SHA256.

        By a copy of the keyed state: unlike `hmac.digest` that never lets go of the interpreter's lock, which under
        load would hand the turn to another thread in the middle of every request.
        """
        keyed = self._keyed.copy()
        keyed.update(token.encode())
        return keyed.digest()


def create_pepper(path: Path, secret: bytes) -> Pepper:
    """Write a new pepper file (0600), durably. Raises Conflict if there is one: replacing it kills every token."""
    pepper = Pepper(secret)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        raise Conflict(f"{path} exists; a new pepper would make every token invalid", code="pepper_exists") from None
    except OSError as error:
        raise Unavailable(f"the token pepper {path} cannot be made ({error.strerror})") from error
    with os.fdopen(file, "wb") as opened:
        opened.write(pepper.secret.hex().encode() + b"\n")
        opened.flush()
        os.fsync(opened.fileno())
    return pepper


def read_pepper(path: Path) -> Pepper:
    """Return the pepper in `path`. Raises Broken if others may read the file or it holds something else."""
    try:
        with path.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            text = opened.read(2 * PEPPER_BYTES + 2)
    except OSError as error:
        raise Unavailable(
            f"the token pepper {path} cannot be read ({error.strerror})", code="pepper_unavailable"
        ) from error
    if mode & 0o077:
        raise Broken(f"others may read the token pepper {path}: chmod 600 it, and issue new tokens", code="pepper_open")
    try:
        return Pepper(bytes.fromhex(text.decode("ascii")))
    except ValueError:
        raise Broken(f"{path} is not a token pepper: 64 hex digits", code="pepper_malformed") from None
