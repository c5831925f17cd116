"""People, their personal facts, and stores in memory that keep the promises of app.subjects.ports."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

from uuid_utils.compat import uuid7

from app.errors import Conflict, NotFound
from app.ledger.append import append as append_entry
from app.ledger.entry import Draft, Entry, parse_entry
from app.ledger.ports import AppendResult, EntryRow, EntryWriter, LogFrozenError, StoredEntry
from app.ledger.registry import open_registry
from app.subjects.erase import erase, replay_journal
from app.subjects.personal import append_personal
from app.subjects.ports import Erasure, Newcomer
from app.subjects.seal import SealedField, SubjectKey
from app.subjects.subject import Subject

ACTOR = "operator:test"
TENANTS = ("acme", "other")
ADA = "sub_ada"
BOB = "sub_bob"
PERSON: Mapping[str, str] = {"name": "Ada Łovelace", "email": "ada@example.com"}
REGISTRY = open_registry()


def append(tx: EntryWriter, tenant: str, draft: Draft, entry_id: UUID) -> AppendResult:
    return append_entry(tx, REGISTRY, tenant, draft, entry_id=entry_id, fingerprint=draft.idem)


def append_registered(
    tx,
    tenant: str = "acme",
    subject: str = ADA,
    personal: Mapping[str, str] = PERSON,
    *,
    entry_id: UUID | None = None,
    idem: bytes | None = None,
) -> AppendResult:
    """Log in `tx` that a person became a customer, their personal facts sealed."""
    draft = Draft(action="customer.registered", actor=ACTOR, subject=subject, data={"country": "SE"}, idem=idem)
    return append_personal(
        tx, tenant, draft, personal, entry_id=entry_id or uuid7(), append=append, random_bytes=os.urandom
    )


def register_in(tx, tenant: str = "acme", subject: str = ADA, personal: Mapping[str, str] = PERSON) -> UUID:
    return append_registered(tx, tenant, subject, personal).id


def register(store, tenant: str = "acme", subject: str = ADA, personal: Mapping[str, str] = PERSON) -> UUID:
    """The same in a transaction of its own; return the entry's id."""
    with store.transaction() as tx:
        return register_in(tx, tenant, subject, personal)


def erase_subject(store, journal, tenant: str = "acme", subject: str = ADA, **changes):
    arguments = {"reason": "requested", "actor": ACTOR, "new_id": uuid7, "append": append} | changes
    return erase(tenant, subject, store=store, journal=journal, **arguments)


def replay(store, journal):
    return replay_journal(store=store, journal=journal, append=append, new_id=uuid7)


def parse_row(row: EntryRow) -> Entry:
    return parse_entry(row.body)


class MemoryJournal:
    def __init__(self) -> None:
        self.erasures: list[Erasure] = []

    def append(self, erasure: Erasure) -> None:
        self.erasures.append(erasure)

    def read(self) -> Iterator[Erasure]:
        return iter(list(self.erasures))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    subjects: dict[tuple[str, str], Subject] = field(default_factory=dict)
    sealed: dict[tuple[str, UUID, str], SealedField] = field(default_factory=dict)
    entries: list[EntryRow] = field(default_factory=list)


class MemorySubjectStore:
    """One transaction at a time, rolled back whole."""

    def __init__(self, tenants: Sequence[str] = TENANTS) -> None:
        self.tables = Tables()
        self.tenants = tenants
        self.frozen = False
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[MemorySubjectTransaction]:
        with self._lock:
            now = self.tables
            work = Tables(subjects=dict(now.subjects), sealed=dict(now.sealed), entries=list(now.entries))
            yield MemorySubjectTransaction(work, self)
            self.tables = work

    def find_subject(self, tenant: str, subject: str) -> Subject | None:
        return self.tables.subjects.get((tenant, subject))

    def list_sealed(self, tenant: str, entry_id: UUID) -> list[SealedField]:
        own = [sealed for key, sealed in self.tables.sealed.items() if key[:2] == (tenant, entry_id)]
        return sorted(own, key=lambda sealed: sealed.path)

    def list_subjects(self, tenant: str, subjects: Sequence[str]) -> list[Subject]:
        return [found for name in subjects if (found := self.find_subject(tenant, name))]

    def list_sealed_of(self, tenant: str, entry_ids: Sequence[UUID]) -> list[SealedField]:
        return [sealed for entry_id in entry_ids for sealed in self.list_sealed(tenant, entry_id)]

    def list_erased(self, tenant: str, after: str, limit: int) -> list[Subject]:
        own = [subject for subject in self.tables.subjects.values() if subject.tenant == tenant and subject.id > after]
        marked = [replace(subject, key=None) for subject in own if subject.erased_at_ms is not None]
        return sorted(marked, key=lambda subject: subject.id)[:limit]

    def list_undone(self, erasures: Sequence[Erasure]) -> list[Erasure]:
        return [erasure for erasure in erasures if not self._stands(erasure)]

    def scrub(self) -> bool:
        return True

    def find_entry(self, tenant: str, entry_id: UUID) -> StoredEntry | None:
        rows = enumerate(self.tables.entries, start=1)
        return next(
            (StoredEntry(seq, None, row.body) for seq, row in rows if (row.tenant, row.id) == (tenant, entry_id)), None
        )

    def list_entries(self, tenant: str) -> list[Entry]:
        return [parse_row(row) for row in self.tables.entries if row.tenant == tenant]

    def _stands(self, erasure: Erasure) -> bool:
        subject = self.find_subject(erasure.tenant, erasure.subject)
        sealed = any(
            (one.tenant, one.subject) == (erasure.tenant, erasure.subject) for one in self.tables.sealed.values()
        )
        return subject is not None and subject.is_erased and not sealed


class MemorySubjectTransaction:
    def __init__(self, tables: Tables, store: MemorySubjectStore) -> None:
        self._tables = tables
        self._store = store

    def append_entries(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        if self._store.frozen:
            raise LogFrozenError("frozen")
        return [self._append(row) for row in rows]

    def _append(self, row: EntryRow) -> AppendResult:
        for seq, earlier in enumerate(self._tables.entries, start=1):
            if row.idem is not None and (earlier.tenant, earlier.idem) == (row.tenant, row.idem):
                return AppendResult(seq, earlier.id, replayed=True, fingerprint=earlier.fingerprint)
        self._tables.entries.append(row)
        return AppendResult(len(self._tables.entries), row.id)

    def add_subject(self, tenant: str, subject: str, *, key: SubjectKey | None) -> bool:
        if tenant not in self._store.tenants:
            raise NotFound("no such tenant")
        if (tenant, subject) in self._tables.subjects:
            return False
        self._tables.subjects[tenant, subject] = Subject(tenant=tenant, id=subject, key=key)
        return True

    def lock_subject(self, tenant: str, subject: str) -> Subject | None:
        return self._tables.subjects.get((tenant, subject))

    def add_sealed(self, fields: Sequence[SealedField]) -> None:
        for sealed in fields:
            if (sealed.tenant, sealed.entry_id, sealed.path) in self._tables.sealed:
                raise Conflict("sealed already")
            self._tables.sealed[sealed.tenant, sealed.entry_id, sealed.path] = sealed

    def add_newcomers(self, newcomers: Sequence[Newcomer]) -> None:
        for newcomer in newcomers:
            if not self.add_subject(newcomer.tenant, newcomer.subject, key=newcomer.key):
                raise Conflict("known already")
            self.add_sealed(newcomer.fields)

    def destroy(self, tenant: str, subject: str, *, at_ms: int) -> int:
        own = [
            key for key, sealed in self._tables.sealed.items() if (sealed.tenant, sealed.subject) == (tenant, subject)
        ]
        for key in own:
            del self._tables.sealed[key]
        held = self._tables.subjects[tenant, subject]
        erased_at_ms = at_ms if held.erased_at_ms is None else held.erased_at_ms
        self._tables.subjects[tenant, subject] = replace(held, key=None, erased_at_ms=erased_at_ms)
        return len(own)
