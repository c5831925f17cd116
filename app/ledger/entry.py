"""Entries: the canonical bytes that are logged (docs/adr/0003-entry-format.md).

An entry is an RFC 8785 JSON object:

    v        1, the version of this format
    id       "ent_" + 32 hex digits of a UUIDv7 whose timestamp equals `time`
    time     when it was logged, milliseconds since 1970-01-01T00:00Z; true facts about other times are in `data`
    action   what happened, one of the registry's (app.ledger.action)
    actor    who did it, "kind:name"
    subject  the person it is about, "sub_…"; absent when nobody
    ref      identifiers of other things, by kind, for look-up
    data     the facts of the action, by its schema; never personal
    sealed   {path: base64 commitment} for personal facts that are kept outside the log
    idem     hex SHA-256 of the caller's idempotency key; absent when none
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from app.errors import Malformed, Rejected, TooLarge
from app.ledger.canonical import canonical, parse_json

FORMAT_VERSION = 1
ENTRY_LIMIT_BYTES = 16 * 1024
SALT_BYTES = 32
IDEM_BYTES = 32
REFS_LIMIT = 8

ID_PREFIX = "ent_"
_TIME_SHIFT = 80  # bits of a UUIDv7 after its time
_ID = re.compile(r"ent_[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}")
ACTOR = re.compile(r"[a-z]{1,16}:[A-Za-z0-9_.@-]{1,96}")
SUBJECT = re.compile(r"sub_[A-Za-z0-9]{1,60}")
REF_KIND = re.compile(r"[a-z][a-z_]{0,31}")
REF_VALUE = re.compile(r"[!-~]{1,128}")
_ACTION = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_COMMITMENT = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
_IDEM = re.compile(r"[0-9a-f]{64}")
_FIELDS = frozenset({"v", "id", "time", "action", "actor", "subject", "ref", "data", "sealed", "idem"})
_JOINED = f'%b%b,"id":"{ID_PREFIX}%032x"%b,"ref":%b,"sealed":{{}}%b,"time":%d,"v":{FORMAT_VERSION}}}'.encode()
_REQUIRED = frozenset({"v", "id", "time", "action", "actor", "ref", "data", "sealed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An entry before it has an id and a time. `idem` is the SHA-256 (32 bytes) of the idempotency key.

    `plain` vouches that everything in it came from `parse_json` or is text.
    """

    action: str
    actor: str
    subject: str | None = None
    ref: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    sealed: Mapping[str, str] = field(default_factory=dict)
    idem: bytes | None = None
    plain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A parsed entry; `body` is exactly what was logged."""

    id: str
    time_ms: int
    action: str
    actor: str
    subject: str | None
    ref: Mapping[str, str]
    data: Mapping[str, Any]
    sealed: Mapping[str, str]
    idem: str | None
    body: bytes


def format_entry_id(entry_id: UUID) -> str:
    """Return the public form of an entry's id."""
    return ID_PREFIX + entry_id.hex


def parse_entry_id(text: str) -> UUID:
    """Return the UUIDv7 in an `ent_…` id. Raises Malformed."""
    if not _ID.fullmatch(text):
        raise Malformed("an entry id is ent_ and the 32 hex digits of a UUIDv7", code="entry_id_malformed")
    return UUID(hex=text[len(ID_PREFIX) :])


def time_of_id(entry_id: UUID) -> int:
    """Return the time in a UUIDv7, in ms (RFC 9562, section 5.7)."""
    return entry_id.int >> _TIME_SHIFT


def check_draft(draft: Draft) -> None:
    """Refuse an envelope that breaks the format above; `data` is checked by the action's schema. Raises Rejected."""
    if not ACTOR.fullmatch(draft.actor):
        raise Rejected("actor is kind:name, at most 16 and 96 characters", code="actor_invalid", pointer="/actor")
    if draft.subject is not None and not SUBJECT.fullmatch(draft.subject):
        raise Rejected("subject is sub_ and at most 60 letters or digits", code="subject_invalid", pointer="/subject")
    if len(draft.ref) > REFS_LIMIT:
        raise TooLarge(f"at most {REFS_LIMIT} references", code="ref_too_many", pointer="/ref")
    for kind, value in draft.ref.items():
        if not REF_KIND.fullmatch(kind) or not REF_VALUE.fullmatch(value):
            raise Rejected(
                "a reference is {kind: value}: kind in lower case, value 1 to 128 printable ASCII characters",
                code="ref_invalid",
                pointer="/ref",
            )
    if draft.idem is not None and len(draft.idem) != IDEM_BYTES:
        raise Rejected(f"idem is the {IDEM_BYTES} bytes of a SHA-256", code="idem_invalid", pointer="/idem")
    if not all(_COMMITMENT.fullmatch(value) for value in draft.sealed.values()):
        raise Rejected("a sealed fact is a commitment in base64", code="sealed_invalid", pointer="/sealed")


def format_entry(draft: Draft, *, entry_id: UUID) -> bytes:
    """Return the canonical bytes of `draft` under this UUIDv7, whose timestamp becomes the entry's time.

    Raises Rejected for values that entries may not hold, and TooLarge over `ENTRY_LIMIT_BYTES`.
    """
    document: dict[str, Any] = {
        "v": FORMAT_VERSION,
        "id": format_entry_id(entry_id),
        "time": time_of_id(entry_id),
        "action": draft.action,
        "actor": draft.actor,
        "ref": draft.ref,
        "data": draft.data,
        "sealed": draft.sealed,
    }
    if draft.subject is not None:
        document["subject"] = draft.subject
    if draft.idem is not None:
        document["idem"] = draft.idem.hex()
    body = canonical(document, plain=draft.plain)
    if len(body) > ENTRY_LIMIT_BYTES:
        raise TooLarge(
            f"the entry has {len(body):,} bytes; at most {ENTRY_LIMIT_BYTES:,} are logged", code="entry_too_large"
        )
    return body


def join_entry(
    action: str, actor: str, said: tuple[str | None, bytes, bytes], *, entry_id: UUID, idem: bytes | None
) -> bytes:
    """Return what `format_entry` writes of a draft that nothing is wrong with and nothing sealed in, of any length.

    `said` is the subject, and the canonical bytes of `ref` and of `data`.
    """
    subject, ref, data = said
    number = entry_id.int
    return _JOINED % (
        _begin(action, actor),
        data,
        number,
        b"" if idem is None else b',"idem":"%b"' % idem.hex().encode(),
        ref,
        b"" if subject is None else b',"subject":"%b"' % subject.encode(),
        number >> _TIME_SHIFT,
    )


@lru_cache(maxsize=4096)
def _begin(action: str, actor: str) -> bytes:
    return f'{{"action":"{action}","actor":"{actor}","data":'.encode()


def parse_entry(body: bytes) -> Entry:
    """Return the entry in `body`, which must be exactly what `format_entry` writes. Raises Malformed.

    What `data` and `sealed` may hold is the business of the action's schema, which is not looked at.
    """
    document = parse_json(body, limit_bytes=ENTRY_LIMIT_BYTES)
    if not isinstance(document, dict) or not (_REQUIRED <= document.keys() <= _FIELDS):
        raise _malformed("an entry is an object with the fields of entry format 1")
    if type(document["v"]) is bool or document["v"] != FORMAT_VERSION or not _is_canonical(document, body):
        raise _malformed("the entry is not in canonical form, or of another format version")
    _check_fields(document)
    return Entry(
        id=document["id"],
        time_ms=document["time"],
        action=document["action"],
        actor=document["actor"],
        subject=document.get("subject"),
        ref=document["ref"],
        data=document["data"],
        sealed=document["sealed"],
        idem=document.get("idem"),
        body=body,
    )


def _malformed(message: str) -> Malformed:
    return Malformed(message, code="entry_malformed")


def _is_canonical(document: dict[str, Any], body: bytes) -> bool:
    try:
        return canonical(document, plain=True) == body
    except Rejected:
        return False


def _check_fields(document: dict[str, Any]) -> None:
    """Refuse an envelope whose fields are not of the types and spellings that `format_entry` writes."""
    entry_id = parse_entry_id(str(document["id"]))
    if type(document["time"]) is not int or document["time"] != time_of_id(entry_id):
        raise _malformed("the entry's time is not that of its id")
    if not all(isinstance(document[name], dict) for name in ("ref", "data", "sealed")):
        raise _malformed("ref, data and sealed are objects")
    texts = [(_ACTION, document["action"]), (ACTOR, document["actor"])]
    texts += [(SUBJECT, document["subject"])] if "subject" in document else []
    texts += [(_IDEM, document["idem"])] if "idem" in document else []
    texts += [(REF_KIND, kind) for kind in document["ref"]] + [(REF_VALUE, v) for v in document["ref"].values()]
    texts += [(_COMMITMENT, value) for value in document["sealed"].values()]
    if len(document["ref"]) > REFS_LIMIT or not all(isinstance(t, str) and form.fullmatch(t) for form, t in texts):
        raise _malformed("a field of the entry is not spelled as entry format 1 says")


def commitment(salt: bytes, path: str, value: Any, *, plain: bool = False) -> str:
    """Return the base64 commitment to a personal `value`: HMAC-SHA256(salt, path || 0x00 || canonical value).

    `plain` vouches that `value` came from `parse_json`.

    The salt is 32 random bytes, kept and destroyed with the value: without it not even a yes-or-no fact can be guessed.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"the salt has {SALT_BYTES} bytes")
    digest = hmac.digest(salt, path.encode() + b"\x00" + canonical(value, plain=plain), hashlib.sha256)
    return base64.b64encode(digest).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A sealed value and its salt, as whoever keeps them says; the commitment in the entry decides."""

    value: Any = field(repr=False)
    salt: bytes = field(repr=False)


def verify_commitment(expected: str, *, salt: bytes, path: str, value: Any, plain: bool = False) -> None:
    """Raise Rejected unless `expected` commits to `value` at `path` under `salt`; anybody may have sent any of them."""
    fits = len(salt) == SALT_BYTES and hmac.compare_digest(
        expected.encode(errors="replace"), commitment(salt, path, value, plain=plain).encode()
    )
    if not fits:
        raise Rejected(f"the value at {path} is not the one that was logged", code="commitment_mismatch")
