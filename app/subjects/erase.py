"""Erasure: destroy a subject's key and sealed facts, and log the receipt. Every proof stays valid.

Each step, and what a crash right after it leaves behind:

    look up      nothing
    journal      an erasure that is promised, not done: `replay_journal` does it before anything is served again
    destroy      key, fields and salts are gone and the receipt is logged, in one transaction
    scrub        everything is done; before it, deleted bytes may still stand in the database's own files, until the
                 next erasure or start scrubs them

The journal is outside the database. A backup restored later brings keys back; the replay destroys them again, and
shuts the door on subjects that the backup is too old to know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final
from uuid import UUID

from app.errors import Broken, NotFound, Rejected
from app.ledger.entry import Draft, check_draft, time_of_id
from app.ledger.ports import LogFrozenError
from app.subjects.ports import JOURNAL_BATCH, Append, Erasure, ErasureJournal, SubjectStore, SubjectTransaction

RECEIPT_ACTION: Final = "subject.erased"
REPLAY_ACTOR: Final = "system:erasure-journal"
_REASON: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}")


@dataclass(frozen=True, slots=True)
class Erased:
    """Key and `fields` sealed facts are destroyed. `receipt` is the entry that says so; None if the log is frozen."""

    fields: int
    receipt: UUID | None


@dataclass(frozen=True, slots=True)
class AlreadyErased:
    """It was erased before; nothing was done and nothing logged."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Erasures done (again), those that still stood, and those of tenants that are not in this store."""

    erased: int
    standing: int
    strangers: int


def erase(
    tenant: str,
    subject: str,
    *,
    store: SubjectStore,
    journal: ErasureJournal,
    append: Append,
    reason: str,
    actor: str,
    new_id: Callable[[], UUID],
) -> Erased | AlreadyErased:
    """Erase a subject's personal data for ever. Twice is the same as once, with one receipt.

    Its time is that of the receipt's id (`new_id` returns a UUIDv7). Raises NotFound if there never was such a
    subject. After Unavailable the erasure may be promised already: call again, or restart, and it is done.
    """
    receipt_id = new_id()
    erasure = Erasure(tenant=tenant, subject=subject, at_ms=time_of_id(receipt_id), reason=reason)
    _check(erasure, actor)
    known = store.find_subject(tenant, subject)
    if known is None:
        raise NotFound("there is no such subject")
    if known.is_erased and known.erased_at_ms is not None:
        return AlreadyErased(known.erased_at_ms)

    journal.append(erasure)
    outcome = _destroy(erasure, store=store, append=append, actor=actor, receipt_id=receipt_id)
    store.scrub()
    return outcome


def replay_journal(
    *, store: SubjectStore, journal: ErasureJournal, append: Append, new_id: Callable[[], UUID]
) -> Replay:
    """Do every journalled erasure that does not stand in this store. Call it at each start, before serving.

    Raises Broken if the journal was altered or an erasure does not hold: then nothing may be served.
    """
    erased = standing = strangers = 0
    for batch in _batches(journal.read()):
        undone = store.list_undone(batch)
        standing += len(batch) - len(undone)
        for erasure in undone:
            try:
                outcome = _destroy(erasure, store=store, append=append, actor=REPLAY_ACTOR, receipt_id=new_id())
            except NotFound:
                strangers += 1
                continue
            erased += isinstance(outcome, Erased)
            standing += isinstance(outcome, AlreadyErased)
    store.scrub()
    return Replay(erased=erased, standing=standing, strangers=strangers)


def _check(erasure: Erasure, actor: str) -> None:
    """Refuse what the receipt could not hold, before it is promised in the journal."""
    if not _REASON.fullmatch(erasure.reason):
        raise Rejected("reason is a code: a-z, 0-9, _ and ., at most 64", code="reason_invalid", pointer="/reason")
    check_draft(_draft_receipt(erasure, fields=0, actor=actor))


def _destroy(
    erasure: Erasure, *, store: SubjectStore, append: Append, actor: str, receipt_id: UUID
) -> Erased | AlreadyErased:
    """Destroy key and fields with the receipt; without it if the log is frozen: a person's right outlives the log."""
    try:
        with store.transaction() as tx:
            outcome = _destroy_in(tx, erasure)
            if isinstance(outcome, Erased):
                append(tx, erasure.tenant, _draft_receipt(erasure, fields=outcome.fields, actor=actor), receipt_id)
                return Erased(outcome.fields, receipt_id)
            return outcome
    except LogFrozenError:
        with store.transaction() as tx:
            return _destroy_in(tx, erasure)


def _destroy_in(tx: SubjectTransaction, erasure: Erasure) -> Erased | AlreadyErased:
    tenant, subject = erasure.tenant, erasure.subject
    tx.add_subject(tenant, subject, key=None)  # a store older than the subject must know that it is erased
    held = tx.lock_subject(tenant, subject)
    if held is None:
        raise Broken(f"{subject} cannot be locked")
    fields = tx.destroy(tenant, subject, at_ms=erasure.at_ms)
    if held.is_erased and held.erased_at_ms is not None and fields == 0:
        return AlreadyErased(held.erased_at_ms)
    return Erased(fields, None)


def _draft_receipt(erasure: Erasure, *, fields: int, actor: str) -> Draft:
    return Draft(
        action=RECEIPT_ACTION,
        actor=actor,
        subject=erasure.subject,
        data={"fields": fields, "reason": erasure.reason},
    )


def _batches(erasures: Iterator[Erasure]) -> Iterator[list[Erasure]]:
    while batch := list(islice(erasures, JOURNAL_BATCH)):
        yield batch
