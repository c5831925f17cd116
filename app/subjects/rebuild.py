"""Rebuilding a lost erasure journal, from what else tells of erasures.

    the log        each `subject.erased` entry, if all entries give the root that was signed: none can be left out
    the database   subjects that are marked erased: those whose entry is not signed yet, or whose log was frozen

Either alone can lack one that the other has. Nothing is taken out of the journal, and the same again adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from app.errors import Rejected
from app.ledger.entry import parse_entry
from app.ledger.ports import LedgerReader
from app.subjects.erase import RECEIPT_ACTION
from app.subjects.ports import JOURNAL_BATCH, Erasure, ErasureJournal, SubjectStore
from app.tlog.checkpoint import Checkpoint
from app.tlog.tree import Frontier, leaf_hash

READ_BATCH: Final = 4096
"""Entries read at once."""
REBUILT: Final = "journal.rebuilt"
"""The reason of an erasure of which only the mark is left."""
_ERASED: Final = f'{{"action":"{RECEIPT_ACTION}"'.encode()


class NotSignedError(Rejected):
    """The entries here are not those that were signed, so erasures may be missing among them."""

    code = "not_restorable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """Erasures that the log and the database tell of, and how many of them the journal lacked."""

    known: int
    added: int


def rebuild_journal(
    tenant: str, signed: Checkpoint | None, *, reader: LedgerReader, store: SubjectStore, journal: ErasureJournal
) -> Rebuilt:
    """Append what `journal` lacks of one tenant's erasures. `signed`: the newest checkpoint that we signed, if any.

    Run it while nothing is served. Raises NotSignedError, and then nothing was written.
    """
    known = {erasure.subject: erasure for erasure in _iter_marked(store, tenant)}
    known |= _find_logged(reader, tenant, signed) if signed else {}
    journalled = {erasure.subject for erasure in journal.read() if erasure.tenant == tenant}
    lacking = [erasure for erasure in known.values() if erasure.subject not in journalled]
    for erasure in lacking:
        journal.append(erasure)
    return Rebuilt(known=len(known), added=len(lacking))


def _find_logged(reader: LedgerReader, tenant: str, signed: Checkpoint) -> dict[str, Erasure]:
    """Return the first erasure of each subject, once all entries before `signed.size` gave its root."""
    tree, found = Frontier(), []
    for start in range(0, signed.size, READ_BATCH):
        bodies = reader.list_bodies(tenant, start, min(start + READ_BATCH, signed.size))
        tree = tree.append(map(leaf_hash, bodies))
        found += [body for body in bodies if body.startswith(_ERASED)]
    if (tree.size, tree.root()) != (signed.size, signed.root):
        raise NotSignedError(
            f"not all of the {signed.size} entries that {signed.origin} signed are here: bring them back by "
            "`assay ledger recover`, then rebuild the journal"
        )
    erasures: dict[str, Erasure] = {}
    for entry in map(parse_entry, found):
        if entry.subject is not None:  # every receipt of an erasure names one
            reason = str(entry.data.get("reason", REBUILT))
            erasure = Erasure(tenant=tenant, subject=entry.subject, at_ms=entry.time_ms, reason=reason)
            erasures.setdefault(entry.subject, erasure)
    return erasures


def _iter_marked(store: SubjectStore, tenant: str) -> Iterator[Erasure]:
    after = ""
    while marked := store.list_erased(tenant, after, JOURNAL_BATCH):
        for subject in marked:
            yield Erasure(tenant=tenant, subject=subject.id, at_ms=subject.erased_at_ms or 0, reason=REBUILT)
        after = marked[-1].id
