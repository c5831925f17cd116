"""The short way of entries that come by the thousand: one that is plainly right becomes its row in a few looks.

A schema for each action says at once all that `append.prepare` and the API ask of an entry from outside. What does not
pass it, is not ASCII, or may hold a card number goes the long way, which alone refuses and says why: so the short way
may only be narrower, never wider. tests/property/test_plain.py holds the two together: the same row, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

import jsonschema_rs
import orjson

from app.ledger.action import Action, Registry
from app.ledger.canonical import canonical
from app.ledger.card import is_surely_clean
from app.ledger.entry import ACTOR, ENTRY_LIMIT_BYTES, REF_KIND, REF_VALUE, REFS_LIMIT, SUBJECT, join_entry
from app.ledger.ports import EntryRow

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER


class PlainEntries:
    """Makes rows of what the external actions of a registry allow."""

    def __init__(self, registry: Registry) -> None:
        """Compile the schemas."""
        self._accepts: dict[str, Callable[[Any], bool]] = {
            action.name: jsonschema_rs.validator_for(_entry_schema(action)).is_valid
            for action in registry
            if action.external
        }

    def prepare(
        self,
        values: Sequence[Any],
        *,
        tenant: str,
        actor: str,
        idems: Iterable[bytes | None],
        new_id: Callable[[], UUID],
    ) -> list[EntryRow | None]:
        """Return the row of each value that `parse_json` gave; None for one that must go the long way.

        `idems` has the SHA-256 (32 bytes) of each value's idempotency key, or None.
        """
        if not ACTOR.fullmatch(actor) or not is_surely_clean(actor.encode()):
            return [None] * len(values)
        return [self._prepare(tenant, actor, value, idem, new_id) for value, idem in zip(values, idems, strict=False)]

    def _prepare(
        self, tenant: str, actor: str, value: Any, idem: bytes | None, new_id: Callable[[], UUID]
    ) -> EntryRow | None:
        action: Any = value.get("action") if type(value) is dict else None
        accepts = self._accepts.get(action) if type(action) is str else None
        try:
            if accepts is None or not accepts(value):
                return None
            data = orjson.dumps(value["data"], option=_CANONICAL)
        except (TypeError, ValueError):  # of the bindings to Rust: a fraction, or an integer that is too large
            return None
        subject, ref = value.get("subject"), value.get("ref")
        named = orjson.dumps(ref, option=_CANONICAL) if ref else b"{}"
        if not is_surely_clean(data) or ((ref or subject) and not is_surely_clean(b"%b%a" % (named, subject))):
            return None

        entry_id = new_id()
        body = join_entry(action, actor, (subject, named, data), entry_id=entry_id, idem=idem)
        if len(body) > ENTRY_LIMIT_BYTES:
            return None
        if not (ref or idem):
            return EntryRow(tenant, entry_id, body, action, subject)
        refs = tuple(dict.fromkeys(ref.values())) if ref else ()
        said = [action, subject, ref or {}, value["data"]]
        fingerprint = sha256(canonical(said, plain=True)).digest() if idem else None
        return EntryRow(tenant, entry_id, body, action, subject, refs, idem, fingerprint)


def _entry_schema(action: Action) -> dict[str, Any]:
    """Return the JSON Schema of an entry of this action, as it comes from outside."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "action": {"const": action.name},
            "subject": {"type": ["string", "null"], "pattern": _whole(SUBJECT.pattern)},
            "ref": {
                "type": "object",
                "maxProperties": REFS_LIMIT,
                "propertyNames": {"pattern": _whole(REF_KIND.pattern)},
                "additionalProperties": {"type": "string", "pattern": _whole(REF_VALUE.pattern)},
            },
            "data": action.schema,
            "personal": {"type": "object", "maxProperties": 0},
        },
        "required": ["action", "data"],
        "additionalProperties": False,
    }


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"
