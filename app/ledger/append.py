"""Appending: a checked draft becomes an immutable row, in the transaction of the change that it records."""

from __future__ import annotations

from uuid import UUID

from app.ledger.action import Registry
from app.ledger.card import refuse_card_numbers
from app.ledger.entry import Draft, check_draft, format_entry
from app.ledger.ports import AppendResult, EntryRow, EntryWriter


def prepare(
    registry: Registry, tenant: str, draft: Draft, *, entry_id: UUID, fingerprint: bytes | None = None
) -> EntryRow:
    """Return the row for `draft`, checked against its action's schema.

    `entry_id` is a new UUIDv7 and sets the entry's time. `fingerprint` (32 bytes) goes with `draft.idem`: it tells a
    repeated request from another one under the same key. Raises Rejected; a card number anywhere is refused.
    """
    check_draft(draft)
    registry.check(draft)
    body = format_entry(draft, entry_id=entry_id)
    refuse_card_numbers({"actor": draft.actor, "subject": draft.subject, "ref": draft.ref, "data": draft.data})
    return EntryRow(
        tenant=tenant,
        id=entry_id,
        body=body,
        action=draft.action,
        subject=draft.subject,
        refs=tuple(dict.fromkeys(draft.ref.values())),
        idem=draft.idem,
        fingerprint=fingerprint,
    )


def append(
    tx: EntryWriter, registry: Registry, tenant: str, draft: Draft, *, entry_id: UUID, fingerprint: bytes | None = None
) -> AppendResult:
    """Append one entry in the caller's transaction: no change without an entry, no entry without the change."""
    return tx.append_entries([prepare(registry, tenant, draft, entry_id=entry_id, fingerprint=fingerprint)])[0]
