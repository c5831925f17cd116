"""Appending to logs inside the caller's transaction, whatever the database."""

from __future__ import annotations

from collections.abc import Sequence

from app.adapters.sql.backend import Entries
from app.ledger.ports import AppendResult, EntryRow, LogFrozenError


def append_rows(entries: Entries, tenant: str, rows: Sequence[EntryRow]) -> list[AppendResult]:
    """Append rows of one tenant; of several with one idempotency key the first counts.

    Raises LogFrozenError if there is something to insert and the log is not open.
    """
    keyed = {row.idem: row for row in reversed(rows) if row.idem is not None}
    if not keyed:
        return _insert(entries, tenant, rows)
    standing = entries.claim(tenant, keyed)

    fresh = [row for row in rows if row.idem is None or (row.idem not in standing and keyed[row.idem] is row)]
    inserted = iter(_insert(entries, tenant, fresh))
    results = []
    for row in rows:
        result = standing.get(row.idem) if row.idem is not None else None
        if result is None:
            result = next(inserted)
            if row.idem is not None:
                standing[row.idem] = AppendResult(result.seq, row.id, replayed=True, fingerprint=row.fingerprint)
        results.append(result)
    return results


def _insert(entries: Entries, tenant: str, rows: Sequence[EntryRow]) -> list[AppendResult]:
    """Insert rows that nothing stands for."""
    if not rows:
        return []
    seqs = entries.insert(tenant, rows)
    if not seqs:
        raise LogFrozenError("this log is not open: it takes no more entries")
    return [AppendResult(seq, row.id) for seq, row in zip(seqs, rows, strict=True)]
