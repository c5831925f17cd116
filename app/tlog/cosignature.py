"""Cosignatures: a witness saw this checkpoint, consistent with all before, at this time (C2SP tlog-cosignature).

Only the Ed25519 form, `cosignature/v1`. It does not name the cosigner: one key must never serve two cosigners.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.errors import Malformed
from app.tlog.checkpoint import Sign
from app.tlog.note import (
    COSIGNATURE_V1,
    SIGNATURE_BYTES,
    SignatureError,
    SignatureLine,
    SignedNote,
    VerifierKey,
    find_known,
)

MAX_TIMESTAMP_S = 2**63 - 1
_TIMESTAMP_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosignature:
    """A verified cosignature: `key` cosigned at `timestamp_s`, POSIX seconds by the witness's clock."""

    key: VerifierKey
    timestamp_s: int


def cosigned_message(text: bytes, timestamp_s: int) -> bytes:
    """Return what a witness signs for the checkpoint `text`. Requires `0 <= timestamp_s < 2**63`."""
    if not 0 <= timestamp_s <= MAX_TIMESTAMP_S:
        raise Malformed("a timestamp out of range")
    return f"cosignature/v1\ntime {timestamp_s}\n".encode() + text


def sign_cosignature(text: bytes, key: VerifierKey, timestamp_s: int, sign: Sign) -> SignatureLine:
    """Return the cosignature of the checkpoint `text`, verified before it leaves.

    `sign` gives the Ed25519 signature by `key`, which is for cosignatures alone.
    """
    if key.algorithm != COSIGNATURE_V1:
        raise Malformed("not a cosigner's key")
    signature = sign(cosigned_message(text, timestamp_s))
    blob = timestamp_s.to_bytes(_TIMESTAMP_BYTES, "big") + signature
    line = SignatureLine(name=key.name, key_id=key.key_id, signature=blob)
    _verify(text, key, line)
    return line


def verify_cosignatures(note: SignedNote, keys: Iterable[VerifierKey]) -> tuple[Cosignature, ...]:
    """Return the cosignatures by `keys`, the first of each; empty if there are none: a quorum is a policy's matter.

    A false signature of a known key rejects the note. Whether a time is in the future is the caller's to judge.
    """
    cosigners = [key for key in keys if key.algorithm == COSIGNATURE_V1]
    found: dict[VerifierKey, Cosignature] = {}
    for key, line in find_known(note, cosigners):
        cosignature = _verify(note.text, key, line)
        found.setdefault(key, cosignature)
    return tuple(found.values())


def _verify(text: bytes, key: VerifierKey, line: SignatureLine) -> Cosignature:
    if len(line.signature) != _TIMESTAMP_BYTES + SIGNATURE_BYTES:
        raise SignatureError("a cosignature of the wrong length")
    timestamp_s = int.from_bytes(line.signature[:_TIMESTAMP_BYTES], "big")
    if timestamp_s > MAX_TIMESTAMP_S:
        raise SignatureError("a cosignature whose timestamp is out of range")
    key.verify(cosigned_message(text, timestamp_s), line.signature[_TIMESTAMP_BYTES:])
    return Cosignature(key=key, timestamp_s=timestamp_s)
