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
    standing = entries.claim(tenant, keyed) if keyed else {}

    fresh = [row for row in rows if row.idem is None or (row.idem not in standing and keyed[row.idem] is row)]
    seqs = iter(entries.insert(tenant, fresh) if fresh else [])
    results = []
    for row in rows:
        if row.idem is not None and row.idem in standing:
            results.append(standing[row.idem])
            continue
        seq = next(seqs, None)
        if seq is None:
            raise LogFrozenError("this log is not open: it takes no more entries")
        results.append(AppendResult(seq, row.id))
        if row.idem is not None:
            standing[row.idem] = AppendResult(seq, row.id, replayed=True, fingerprint=row.fingerprint)
    return results
