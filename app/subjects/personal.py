"""Personal facts into and out of the store: the entry and what is sealed for it, together or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from app.errors import Broken, Refused
from app.ledger.entry import Draft, Entry, parse_entry_id
from app.ledger.ports import AppendResult, EntryRow
from app.subjects.ports import Append, Newcomer, Prepare, SubjectStore, SubjectTransaction
from app.subjects.seal import (
    KEY_BYTES,
    RandomBytes,
    SealBrokenError,
    SealedField,
    SubjectKey,
    open_field,
    seal_fields,
)
from app.subjects.subject import Subject


class SubjectErasedError(Refused):
    """The subject was erased: nothing is sealed to it again."""

    code = "subject_erased"


@dataclass(frozen=True, slots=True)
class Opened:
    """The personal facts of an entry, each checked against its commitment in the log."""

    values: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ErasedByPolicy:
    """The personal facts of an entry were erased; the commitments stay and say nothing."""

    at_ms: int


def append_personal(
    tx: SubjectTransaction,
    tenant: str,
    draft: Draft,
    personal: Mapping[str, Any],
    *,
    entry_id: UUID,
    append: Append,
    random_bytes: RandomBytes,
) -> AppendResult:
    """Append `draft` with commitments to `personal`, and store the sealed facts, in the caller's transaction.

    Requires `draft.subject`. Makes the subject's key at its first use. When the idempotency key was used before, the
    earlier entry stands and nothing is sealed. Raises SubjectErasedError, also when the erasure is racing with this:
    whoever has the subject's lock first decides.
    """
    if draft.subject is None:
        raise ValueError("personal facts are about a subject")
    key = _hold_key(tx, tenant, draft.subject, random_bytes)
    sealing = seal_fields(
        personal, key=key, tenant=tenant, subject=draft.subject, entry_id=entry_id, random_bytes=random_bytes
    )
    result = append(tx, tenant, replace(draft, sealed=sealing.commitments), entry_id)
    if not result.replayed:
        tx.add_sealed(sealing.fields)
    return result


def prepare_newcomer(
    tenant: str,
    draft: Draft,
    personal: Mapping[str, Any],
    *,
    entry_id: UUID,
    prepare: Prepare,
    random_bytes: RandomBytes,
) -> tuple[EntryRow, Newcomer]:
    """Return the row of `draft` with commitments to `personal`, and what commits with it.

    `draft.subject` is a new, random id: whoever commits the two needs no look at what there is. Raises Rejected.
    """
    if draft.subject is None:
        raise ValueError("personal facts are about a subject")
    key = SubjectKey(random_bytes(KEY_BYTES))
    sealing = seal_fields(
        personal, key=key, tenant=tenant, subject=draft.subject, entry_id=entry_id, random_bytes=random_bytes
    )
    row = prepare(tenant, replace(draft, sealed=sealing.commitments), entry_id)
    return row, Newcomer(tenant=tenant, subject=draft.subject, key=key, fields=sealing.fields)


def open_personal(store: SubjectStore, tenant: str, entry: Entry) -> Opened | ErasedByPolicy:
    """Return the personal facts that `entry` commits to. Raises SealBrokenError for one that is not what was logged."""
    if entry.subject is None or not entry.sealed:
        return Opened({})
    fields = store.list_sealed(tenant, parse_entry_id(entry.id))
    subject = store.find_subject(tenant, entry.subject)  # after the fields: an erasure in between shows here
    return _open(entry, fields, subject)


def open_all_personal(
    store: SubjectStore, tenant: str, entries: Sequence[Entry]
) -> list[Opened | ErasedByPolicy | SealBrokenError]:
    """Return what `open_personal` says of each entry, errors as values. At most `READ_BATCH` entries; two reads."""
    fields: dict[UUID, list[SealedField]] = {}
    for sealed in store.list_sealed_of(tenant, [parse_entry_id(entry.id) for entry in entries]):
        fields.setdefault(sealed.entry_id, []).append(sealed)
    names = sorted({entry.subject for entry in entries if entry.subject is not None})
    subjects = {subject.id: subject for subject in store.list_subjects(tenant, names)}
    return [
        _try_open(entry, fields.get(parse_entry_id(entry.id), ()), subjects.get(entry.subject or ""))
        for entry in entries
    ]


def _try_open(
    entry: Entry, fields: Sequence[SealedField], subject: Subject | None
) -> Opened | ErasedByPolicy | SealBrokenError:
    try:
        return _open(entry, fields, subject)
    except SealBrokenError as error:
        return error


def _open(entry: Entry, fields: Sequence[SealedField], subject: Subject | None) -> Opened | ErasedByPolicy:
    if not entry.sealed:
        return Opened({})
    if subject is not None and subject.erased_at_ms is not None:
        return ErasedByPolicy(subject.erased_at_ms)
    found = {sealed.path: sealed for sealed in fields}
    if subject is None or subject.key is None or found.keys() != entry.sealed.keys():
        raise SealBrokenError(f"sealed fields of {entry.id} are missing, and its subject was not erased")
    key = subject.key
    return Opened({path: open_field(found[path], key=key, expected=entry.sealed[path]) for path in entry.sealed})


def _hold_key(tx: SubjectTransaction, tenant: str, subject: str, random_bytes: RandomBytes) -> SubjectKey:
    """Lock the subject, creating it at its first use, and return its key."""
    held = tx.lock_subject(tenant, subject)
    if held is None:
        key = SubjectKey(random_bytes(KEY_BYTES))
        if tx.add_subject(tenant, subject, key=key):
            return key
        held = tx.lock_subject(tenant, subject)  # another transaction was quicker
    if held is None or (held.key is None and held.erased_at_ms is None):
        raise Broken(f"{subject} has no key, and was not erased")
    if held.key is None or held.erased_at_ms is not None:
        raise SubjectErasedError("this subject was erased; nothing can be kept for it again", pointer="/subject")
    return held.key
