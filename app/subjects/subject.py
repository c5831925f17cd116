"""A subject: the person an entry is about, and the personal facts of them that Assay keeps, sealed.

A subject's id is opaque: it says nothing about the person, and stays in the log after their data is erased.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from app.errors import Rejected, TooLarge
from app.subjects.seal import SubjectKey

ID_PREFIX: Final = "sub_"
NAME_LIMIT_CHARS: Final = 200
EMAIL_LIMIT_CHARS: Final = 254
"""RFC 5321, 4.5.3.1.3: a path has 256 octets, two of them angle brackets."""

_ID: Final = re.compile(r"sub_[A-Za-z0-9]{1,60}")
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,253}")
_NOT_TEXT: Final = frozenset({"Cc", "Cs", "Cn", "Zl", "Zp"})
"""Unicode categories that no name holds: controls, lone surrogates, unassigned, line and paragraph separators."""
_TURNS_TEXT: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Bidirectional overrides: they make a name read as another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A subject as it is stored. After erasure the row stays, without a key, so that nothing is sealed to it again."""

    tenant: str
    id: str
    key: SubjectKey | None
    erased_at_ms: int | None = None

    @property
    def is_erased(self) -> bool:
        """Whether it was erased and is still so: a restored backup can bring the key back."""
        return self.erased_at_ms is not None and self.key is None


def format_subject_id(subject_id: UUID) -> str:
    """Return the public form of a new subject's id (a UUIDv7)."""
    return ID_PREFIX + subject_id.hex


def parse_subject_id(text: str) -> str:
    """Return `text` if it can be a subject's id: ours, or one that a customer's system made. Raises Rejected."""
    if not _ID.fullmatch(text):
        raise Rejected("subject is sub_ and at most 60 letters or digits", code="subject_invalid", pointer="/subject")
    return text


def parse_personal(fields: Mapping[str, object]) -> dict[str, str]:
    """Return the personal facts in Unicode form NFC, checked. Errors name the field and never repeat its value.

    Raises Rejected for an unknown field or a value that is not one, TooLarge over the limits above.
    """
    unknown = fields.keys() - _PARSERS.keys()
    if unknown:
        name = min(unknown)[:64]
        raise Rejected(f"{name!r} is no personal field", code="field_unknown", pointer=f"/personal/{name}")
    return {name: _PARSERS[name](value) for name, value in fields.items()}


def _parse_name(value: object) -> str:
    return _parse_text(value, "name", NAME_LIMIT_CHARS)


def _parse_email(value: object) -> str:
    text = _parse_text(value, "email", EMAIL_LIMIT_CHARS)
    if not _EMAIL.fullmatch(text):
        raise Rejected("email is not an e-mail address", code="personal_invalid", pointer="/personal/email")
    return text


def _parse_text(value: object, field: str, limit_chars: int) -> str:
    pointer = f"/personal/{field}"
    if not isinstance(value, str) or not value.strip():
        raise Rejected(f"{field} is a text that is not empty", code="personal_invalid", pointer=pointer)
    if len(value) > limit_chars:
        raise TooLarge(f"{field} has at most {limit_chars} characters", code="personal_too_large", pointer=pointer)
    text = unicodedata.normalize("NFC", value)
    if len(text) > limit_chars:  # a few characters grow under NFC
        raise TooLarge(f"{field} has at most {limit_chars} characters", code="personal_too_large", pointer=pointer)
    if any(char in _TURNS_TEXT or unicodedata.category(char) in _NOT_TEXT for char in text):
        raise Rejected(f"{field} holds characters that are no text", code="personal_invalid", pointer=pointer)
    return text


_PARSERS: Final[Mapping[str, Callable[[object], str]]] = {"name": _parse_name, "email": _parse_email}
