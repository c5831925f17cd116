"""Pages of filtered entries, by index, with a bound on the rows looked at.

A filter that few entries pass is served from its own index; one that many pass from a window of the log. Entries
get their index in almost the order of their `seq`, not quite: so no page may take one order for the other.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import select

from app.adapters.sql import tables as t
from app.adapters.sql.runs import ENTRY_INDEX
from app.ledger.ports import EntryFilter, Page, StoredEntry
from app.tlog.tile import TILE_WIDTH

MAX_ROWS_EXAMINED = 10_000
MAX_TIME_MS = 1 << 48  # the time of a UUIDv7 has 48 bits


def list_page(connection: sa.Connection, tenant: str, where: EntryFilter, *, start: int, stop: int, limit: int) -> Page:
    """Return up to `limit` matching entries with index in [start, stop), and where the next page starts."""
    size = connection.scalar(select(t.head.c.size).where(t.head.c.tenant == tenant))
    stop = min(stop, size or 0)
    if start >= stop:
        return Page([], None)
    looked_at, end = _choose_rows(connection, tenant, where, start=start, stop=stop)
    row = looked_at.c
    matching = select(row.seq, row.idx, row.body).where(*_conditions(tenant, where, row))
    found = connection.execute(matching.order_by(row.idx).limit(limit)).fetchall()
    next_index = found[-1].idx + 1 if len(found) == limit else end
    return Page([StoredEntry(seq, idx, body) for seq, idx, body in found], next_index if next_index < stop else None)


def _choose_rows(
    connection: sa.Connection, tenant: str, where: EntryFilter, *, start: int, stop: int
) -> tuple[sa.Subquery, int]:
    """Return the rows to look at, by index, and the index where they end.

    LIMIT is the bound, and keeps the filter's own conditions out of the join: with them inside, a planner without
    statistics may go through the filter's index again for every row.
    """
    narrow = _narrowest(tenant, where)
    if narrow is not None and _is_short(connection, narrow):
        chosen = narrow.cte("chosen").prefix_with("MATERIALIZED")
        placed = _entries(ENTRY_INDEX).where(t.entry.c.tenant == tenant, t.entry.c.seq == chosen.c.seq).subquery()
        in_range = select(placed).where(placed.c.idx >= start, placed.c.idx < stop)
        return in_range.order_by(placed.c.idx).limit(MAX_ROWS_EXAMINED).subquery(), stop
    stop = min(stop, start + MAX_ROWS_EXAMINED)
    run = t.leaf_run.c
    idx: sa.ColumnElement[int] = run.idx + t.entry.c.seq - run.seq
    rows = _entries(idx.label("idx")).where(
        run.tenant == tenant,
        run.idx > start - TILE_WIDTH,
        run.idx < stop,
        t.entry.c.tenant == tenant,
        t.entry.c.seq >= run.seq,
        t.entry.c.seq < run.seq + run.width,
        idx >= start,
        idx < stop,
    )
    return rows.order_by(run.idx, t.entry.c.seq).limit(MAX_ROWS_EXAMINED).subquery(), stop


def _entries(idx: sa.Label[Any]) -> sa.Select[Any]:
    return select(t.entry.c.seq, idx, t.entry.c.id, t.entry.c.body, t.entry.c.action, t.entry.c.subject)


def _narrowest(tenant: str, where: EntryFilter) -> sa.Select[tuple[int]] | None:
    """Return what selects the `seq` of all entries that pass one part of the filter, by an index of its own."""
    if where.ref is not None:
        return select(t.entry_ref.c.seq).where(t.entry_ref.c.tenant == tenant, t.entry_ref.c.value == where.ref)
    if where.subject is not None:
        return select(t.entry.c.seq).where(t.entry.c.tenant == tenant, t.entry.c.subject == where.subject)
    if where.from_ms is not None or where.to_ms is not None:
        return select(t.entry.c.seq).where(t.entry.c.tenant == tenant, *_times(where, t.entry.c.id))
    return None


def _is_short(connection: sa.Connection, narrow: sa.Select[tuple[int]]) -> bool:
    bounded = narrow.limit(MAX_ROWS_EXAMINED + 1).subquery()
    return (connection.scalar(select(sa.func.count()).select_from(bounded)) or 0) <= MAX_ROWS_EXAMINED


def _conditions(
    tenant: str, where: EntryFilter, row: sa.sql.base.ReadOnlyColumnCollection[str, Any]
) -> list[sa.ColumnElement[bool]]:
    conditions = _times(where, row.id)
    if where.action is not None:
        conditions.append(row.action == where.action)
    if where.subject is not None:
        conditions.append(row.subject == where.subject)
    if where.ref is not None:
        of_ref = (t.entry_ref.c.tenant == tenant, t.entry_ref.c.value == where.ref, t.entry_ref.c.seq == row.seq)
        conditions.append(sa.exists().where(*of_ref))
    return conditions


def _times(where: EntryFilter, entry_id: sa.ColumnElement[UUID]) -> list[sa.ColumnElement[bool]]:
    """Return the range of ids: an entry's id begins with its time."""
    conditions: list[sa.ColumnElement[bool]] = []
    if where.from_ms is not None:
        conditions.append(entry_id >= _first_id(where.from_ms))
    if where.to_ms is not None:
        conditions.append(entry_id < _first_id(where.to_ms))
    return conditions


def _first_id(time_ms: int) -> UUID:
    return UUID(int=min(max(time_ms, 0), MAX_TIME_MS - 1) << 80)
