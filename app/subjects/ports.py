"""What personal data needs from the outside: a store of keys and sealed fields, and a journal of erasures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from app.ledger.entry import Draft
from app.ledger.ports import AppendResult, EntryRow, EntryWriter
from app.subjects.seal import SealedField, SubjectKey
from app.subjects.subject import Subject

JOURNAL_BATCH: Final = 256
"""Journalled erasures compared with the store at once."""
READ_BATCH: Final = 256
"""Subjects, or entries' sealed fields, read at once."""

Append = Callable[[EntryWriter, str, Draft, UUID], AppendResult]
"""Check a tenant's draft against the registry and append it under this id, in the caller's transaction."""


Prepare = Callable[[str, Draft, UUID], EntryRow]
"""Check a tenant's draft against the registry and return the row with this id."""

FIELD_WEIGHT_BYTES: Final = 1024
"""Of sealed facts, that count for as much as one entry in a group of commits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A subject that nobody knows yet, and what is sealed for its first entry; its id is fresh and random."""

    tenant: str
    subject: str
    key: SubjectKey
    fields: Sequence[SealedField]

    @property
    def weight(self) -> int:
        """What it counts for in a group of commits."""
        return 1 + sum(len(sealed.box) for sealed in self.fields) // FIELD_WEIGHT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """A person's data is to be gone, by `reason` (a code), since `at_ms`. Nothing in it is personal."""

    tenant: str
    subject: str
    at_ms: int
    reason: str


class SubjectTransaction(EntryWriter, Protocol):
    """One open transaction. Everything in it, entries included, becomes durable together or not at all.

    Every method is about one tenant and never sees another's rows.
    """

    def add_subject(self, tenant: str, subject: str, *, key: SubjectKey | None) -> bool:
        """Create the subject, locked; with its key, unless that is None. False, and no key is kept, if it exists.

        Waits for another transaction that is creating it. Raises NotFound if there is no such tenant.
        """
        ...

    def lock_subject(self, tenant: str, subject: str) -> Subject | None:
        """Return the subject and keep every other transaction from locking it until this one ends; None if absent.

        Raises Unavailable if the lock is not had in time.
        """
        ...

    def add_sealed(self, fields: Sequence[SealedField]) -> None:
        """Store sealed fields; the caller holds their subject's lock. Raises Conflict if one is already there."""
        ...

    def add_newcomers(self, newcomers: Sequence[Newcomer]) -> None:
        """Create these subjects with their keys, and store what is sealed for them: many cost about as much as one.

        Raises Conflict if one of them exists, and NotFound if its tenant does not.
        """
        ...

    def destroy(self, tenant: str, subject: str, *, at_ms: int) -> int:
        """Delete the subject's key and all its sealed fields, and mark it erased; the caller holds its lock.

        Returns how many fields there were. What was marked erased before keeps its time.
        """
        ...


class SubjectStore(Protocol):
    """Where subjects are kept. Every implementation passes tests/contract/subject_store_contract.py."""

    def transaction(self) -> AbstractContextManager[SubjectTransaction]:
        """Open a transaction: committed on a clean exit, rolled back on an exception. Unavailable if it can't."""
        ...

    def find_subject(self, tenant: str, subject: str) -> Subject | None:
        """Return the subject without locking it, or None."""
        ...

    def list_subjects(self, tenant: str, subjects: Sequence[str]) -> list[Subject]:
        """Return those of these subjects (at most `READ_BATCH`) that there are, in no order."""
        ...

    def list_sealed(self, tenant: str, entry_id: UUID) -> Sequence[SealedField]:
        """Return the sealed fields of an entry, by path (at most one per personal field of its action)."""
        ...

    def list_sealed_of(self, tenant: str, entry_ids: Sequence[UUID]) -> Sequence[SealedField]:
        """Return the sealed fields of these entries (at most `READ_BATCH`), in no order."""
        ...

    def list_erased(self, tenant: str, after: str, limit: int) -> Sequence[Subject]:
        """Return up to `limit` subjects that are marked erased, by id, from the one after the id `after`."""
        ...

    def list_undone(self, erasures: Sequence[Erasure]) -> list[Erasure]:
        """Return those (of at most `JOURNAL_BATCH`) whose subject is absent, not marked erased, or has a key or fields.

        An erasure of a tenant that is not in this store is returned too.
        """
        ...

    def scrub(self) -> bool:
        """Overwrite what was deleted in the store's own files, as far as this store can; say whether that was done.

        False when it could not be done now (somebody is reading) or is not in this store's power. Never raises.
        """
        ...


class ErasureJournal(Protocol):
    """The erasures, kept where restoring or cloning the database does not touch them (DESIGN.md, 4.5)."""

    def append(self, erasure: Erasure) -> None:
        """Add one, durable when this returns. Raises Unavailable when it cannot be written."""
        ...

    def read(self) -> Iterator[Erasure]:
        """Iterate over all, oldest first; the same one may come twice. Raises Broken for a line that was altered."""
        ...
