"""Sealing: a personal fact is encrypted under its subject's own key; the log gets a commitment and nothing else.

    box         nonce (24 bytes) || XChaCha20-Poly1305(key, plaintext, associated data)
    plaintext   canonical {"salt": base64 of 32 random bytes, "value": the fact}
    associated  canonical ["assay/sealed/v1", tenant, subject, entry id, path]

The salt opens the commitment in the entry (app.ledger.entry.commitment). It lives in the box alone: with the key
destroyed, the commitment can be neither opened nor guessed. A box moved to another field, entry, subject or tenant
does not open, and a fact that is not the one logged is not returned.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from nacl.exceptions import CryptoError
from nacl.secret import Aead

from app.errors import Broken, Rejected
from app.ledger.canonical import canonical, parse_json
from app.ledger.entry import (
    ENTRY_LIMIT_BYTES,
    SALT_BYTES,
    Opening,
    commitment,
    format_entry_id,
    verify_commitment,
)

KEY_BYTES: Final = Aead.KEY_SIZE
NONCE_BYTES: Final = Aead.NONCE_SIZE
_CONTEXT: Final = "assay/sealed/v1"

RandomBytes = Callable[[int], bytes]


class SealBrokenError(Broken):
    """A sealed field cannot be opened, or is not what was logged: it was altered, or belongs elsewhere."""

    code = "seal_broken"


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """The key of one subject (32 bytes). Destroying it erases everything sealed under it."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse another length."""
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a subject's key has {KEY_BYTES} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedField:
    """One sealed fact: `path` is its name in the entry's `sealed`."""

    tenant: str
    subject: str
    entry_id: UUID
    path: str
    box: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sealing:
    """What sealing gives: `commitments` for the entry, and `fields` to store in the same transaction."""

    commitments: Mapping[str, str]
    fields: Sequence[SealedField]


def seal_fields(
    values: Mapping[str, Any],
    *,
    key: SubjectKey,
    tenant: str,
    subject: str,
    entry_id: UUID,
    random_bytes: RandomBytes,
) -> Sealing:
    """Seal `values` (path to fact) for the entry `entry_id`. Raises Rejected for what entries may not hold."""
    commitments, fields = {}, []
    for path, value in values.items():
        salt = random_bytes(SALT_BYTES)
        plaintext = canonical({"salt": base64.b64encode(salt).decode(), "value": value})
        bound = _bind(tenant, subject, entry_id, path)
        box = bytes(Aead(key.secret).encrypt(plaintext, bound, random_bytes(NONCE_BYTES)))
        commitments[path] = commitment(salt, path, value)
        fields.append(SealedField(tenant=tenant, subject=subject, entry_id=entry_id, path=path, box=box))
    return Sealing(commitments, tuple(fields))


def open_field(sealed: SealedField, *, key: SubjectKey, expected: str) -> Any:
    """Return the fact in `sealed`. Raises SealBrokenError unless it is the one `expected`, the logged commitment."""
    return open_with_salt(sealed, key=key, expected=expected).value


def open_with_salt(sealed: SealedField, *, key: SubjectKey, expected: str) -> Opening:
    """Return the fact with its salt, which lets others check it; otherwise as `open_field`."""
    bound = _bind(sealed.tenant, sealed.subject, sealed.entry_id, sealed.path)
    try:
        plaintext = parse_json(Aead(key.secret).decrypt(sealed.box, bound), limit_bytes=2 * ENTRY_LIMIT_BYTES)
        salt, value = base64.b64decode(plaintext["salt"], validate=True), plaintext["value"]
        verify_commitment(expected, salt=salt, path=sealed.path, value=value, plain=True)
    except (CryptoError, Rejected, ValueError, TypeError, KeyError) as error:
        where = f"{sealed.path} of {format_entry_id(sealed.entry_id)}"
        raise SealBrokenError(f"{where} is not what was sealed and logged ({type(error).__name__})") from None
    return Opening(value=value, salt=salt)


def _bind(tenant: str, subject: str, entry_id: UUID, path: str) -> bytes:
    return canonical([_CONTEXT, tenant, subject, format_entry_id(entry_id), path])
