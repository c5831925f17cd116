"""The ledger's hot paths on PostgreSQL: psycopg's binary forms, one round trip per step.

Sequence numbers are drawn before their transaction commits, so they become visible out of order. `Horizon` says up
to which number that is over. It rests on a trigger of `entry`: a transaction has its id before it draws a number.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, LiteralString

import psycopg
import sqlalchemy as sa

from app.adapters.sql.arrays import pack_bigints, pack_blobs, pack_texts, pack_uuids
from app.adapters.sql.backend import require_entries
from app.adapters.sql.engine import reading, writing
from app.adapters.sql.heard import format_exposed, format_placed
from app.adapters.sql.lock import hold_advisory_lock
from app.adapters.sql.runs import MARK_BYTES, Covered, cut_runs, find_leaf, make_marks, position_of
from app.adapters.sql.wake import PostgresWake
from app.errors import AssayError
from app.ledger.ports import AppendResult, EntryRow, Integration, Pending, PendingEntry

_CLAIM = """
INSERT INTO idempotency (tenant, idem, fingerprint, entry_id)
SELECT %b, r.idem, r.fingerprint, r.entry_id
FROM unnest(%b::bytea[], %b::bytea[], %b::uuid[]) AS r (idem, fingerprint, entry_id)
ON CONFLICT DO NOTHING"""

_FIND_EARLIER = """
SELECT i.idem, e.seq, e.id, i.fingerprint
FROM idempotency i JOIN entry e ON e.tenant = i.tenant AND e.id = i.entry_id
WHERE i.tenant = %b AND i.idem = ANY (%b::bytea[])"""

# Whoever appends shares the tenant's row until the commit; whoever closes the log waits for them and holds it alone.
# FOR SHARE looks at `state` anew after having waited, so a log that was closed meanwhile takes nothing.
_SHUT_OUT_APPENDERS = "SELECT FROM tenant WHERE id = %b FOR UPDATE"

# The numbers are drawn together, after the trigger: row by row they would mix with those of whoever else inserts, and
# each run of leaves is as long as the numbers are in a row.
_APPEND = """
WITH opened AS (SELECT id FROM tenant WHERE id = %b AND state = 'open' FOR SHARE),
added AS (
    INSERT INTO entry (tenant, seq, id, body, action, subject) OVERRIDING SYSTEM VALUE
    SELECT opened.id, r.seq, r.id, r.body, r.action, r.subject
    FROM opened, unnest(
        (SELECT array_agg(nextval('entry_seq_seq')) FROM generate_series(1, %b)),
        %b::uuid[], %b::bytea[], %b::text[], %b::text[]) AS r (seq, id, body, action, subject)
    RETURNING seq, id)"""
_DRAWN = "SELECT min(seq), max(seq), count(*) FROM added"  # a row for each costs both sides more
_READ_DRAWN = """
SELECT seq FROM entry WHERE tenant = %b AND seq >= %b AND seq <= %b AND id = ANY (%b::uuid[]) ORDER BY seq"""
_REFER = """,
referred AS (
    INSERT INTO entry_ref (tenant, value, seq)
    SELECT %b, f.value, added.seq FROM added JOIN unnest(%b::uuid[], %b::text[]) AS f (id, value) ON f.id = added.id)"""

# Only the holes are read between what has its leaf. The first row, the one without an action, is the head's size.
_PENDING = """
SELECT size, NULL::text, NULL::bytea FROM head WHERE tenant = %b
UNION ALL (
    SELECT e.seq, e.action, e.body FROM unnest(%b::bigint[], %b::bigint[]) AS hole (start, stop)
    CROSS JOIN LATERAL (
        SELECT seq, action, body FROM entry
        WHERE tenant = %b AND seq >= hole.start AND seq < hole.stop ORDER BY seq LIMIT %b) AS e
    LIMIT %b)"""
_COVERED = """
SELECT h.size, r.seq, r.width
FROM head h LEFT JOIN leaf_run r ON r.tenant = h.tenant AND r.seq > %b::bigint - 256 WHERE h.tenant = %b"""

# One statement, so that the swap costs one round trip; if the head is not the old one, `moved` is empty and so is all.
# Listeners are told by it what it placed, while we sign.
_INTEGRATE = """
WITH moved AS (
    UPDATE head SET size = %b, root = %b, settled_seq = %b, frozen = %b
    WHERE tenant = %b AND size = %b AND root = %b AND NOT frozen RETURNING tenant, frozen),
leaves AS (
    INSERT INTO leaf_run (tenant, idx, seq, width, hashes)
    SELECT moved.tenant, r.idx, r.seq, r.width, r.hashes
    FROM moved, unnest(%b::bigint[], %b::bigint[], %b::bigint[], %b::bytea[]) AS r (idx, seq, width, hashes)),
tiles AS (
    INSERT INTO tile (tenant, level, number, data, root, marks)
    SELECT moved.tenant, r.level, r.number, r.data, r.root, r.marks
    FROM moved, unnest(%b::smallint[], %b::bigint[], %b::bytea[], %b::bytea[], %b::bytea[])
        AS r (level, number, data, root, marks)),
closed AS (
    UPDATE tenant SET state = 'frozen' FROM moved WHERE tenant.id = moved.tenant AND moved.frozen)
SELECT pg_notify('assay_published', %b) FROM moved"""

_NEWEST_CHECKPOINT = "SELECT note FROM checkpoint WHERE tenant = %b ORDER BY size DESC LIMIT 1"
_POSITIONS = f"""
SELECT asked.seq, {position_of("asked.seq", "%b")} FROM unnest(%b::bigint[]) AS asked (seq)"""  # noqa: S608 - constants of our own

# A full leaf tile is looked at by the beginnings of its hashes, and only then opened; the rest is in the newest runs.
_ALIKE = """
SELECT number * 256, data FROM tile
WHERE tenant = %b AND level = 0
    AND CASE WHEN marks IS NULL THEN position(%b::bytea IN data) ELSE position(%b::bytea IN marks) END > 0
UNION ALL
SELECT idx, hashes FROM leaf_run
WHERE tenant = %b AND idx >= (SELECT size >> 8 << 8 FROM head WHERE tenant = %b)
    AND position(%b::bytea IN hashes) > 0"""

_PUBLISHED = f"""
WITH newest AS (SELECT note FROM checkpoint WHERE tenant = %b ORDER BY size DESC LIMIT 1)
SELECT note, NULL::bigint, NULL::bigint FROM newest
UNION ALL SELECT NULL, asked.seq, {position_of("asked.seq", "%b")} FROM unnest(%b::bigint[]) AS asked (seq)"""  # noqa: S608 - constants of our own

_EXPOSE = """
WITH exposed AS (INSERT INTO checkpoint (tenant, size, note) VALUES (%b, %b, %b) ON CONFLICT DO NOTHING)
SELECT pg_notify('assay_published', %b)"""

_READ_TILES = """
SELECT coalesce(CASE
    WHEN w.width = 256 THEN (SELECT data FROM tile t WHERE t.tenant = %b AND t.level = w.level AND t.number = w.number)
    WHEN w.level = 0 THEN (
        SELECT string_agg(
            substr(hashes, 1, 32 * (w.number * 256 + w.width - idx)::int), ''::bytea ORDER BY idx)
        FROM leaf_run
        WHERE tenant = %b AND idx >= w.number * 256 AND idx < w.number * 256 + w.width)
    ELSE (
        SELECT string_agg(root, ''::bytea ORDER BY t.number) FROM tile t
        WHERE t.tenant = %b AND t.level = w.level - 1
        AND t.number >= w.number * 256 AND t.number < w.number * 256 + w.width)
    END, ''::bytea)
FROM unnest(%b::smallint[], %b::bigint[], %b::int[]) WITH ORDINALITY AS w (level, number, width, place)
ORDER BY w.place"""

_BODIES = """
SELECT e.body
FROM (SELECT idx, seq, width FROM leaf_run
      WHERE tenant = %b AND idx > %b::bigint - 256 AND idx < %b::bigint ORDER BY idx OFFSET 0) AS r
CROSS JOIN LATERAL (
    SELECT seq, body FROM entry WHERE tenant = %b
    AND seq >= r.seq + greatest(%b::bigint - r.idx, 0) AND seq < r.seq + least(%b::bigint - r.idx, r.width)
    ORDER BY seq OFFSET 0) AS e
ORDER BY r.idx, e.seq"""

HORIZON_EVERY_S = 0.02
"""How often it is looked for what is settled, in seconds: so much longer is the list of what has an index."""

_DRAWN_AND_OLDEST_XID = """
SELECT last_value - (NOT is_called)::int, pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM entry_seq_seq"""
_OWN_XID = "SELECT pg_current_xact_id()::text::bigint"
_OLDEST_XID = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


class Horizon:
    """Up to which sequence number every transaction that drew one has ended.

    A mark is a number M that was the last drawn, and an xid X assigned after M was read: whoever drew up to M has
    an id below X. Once no id below X runs, M is settled. (`pg_snapshot_xmax` would not do for X: it is one past the
    last *completed* id, and a running one may be above it.)
    """

    def __init__(self) -> None:
        """Start with nothing settled."""
        self._settled = 0
        self._mark: tuple[int, int] | None = None
        self._looked_at_s = -math.inf
        self._lock = threading.Lock()

    def read_settled(self, ask: Callable[[LiteralString], Sequence[int]], every_s: float) -> int:
        """Return the settled number, good for statements that begin after this call. `ask` autocommits.

        It is looked up unless it was within `every_s`, in seconds.

        A new mark is made as soon as the last one is settled: under load it is so at the next look, and no entry is
        looked at twice.
        """
        with self._lock:
            if time.monotonic() - self._looked_at_s < every_s:
                return self._settled
            self._looked_at_s = time.monotonic()
            drawn, oldest_xid = ask(_DRAWN_AND_OLDEST_XID)
            self._settle(oldest_xid)
            if self._mark is None and drawn > self._settled:
                self._mark = (drawn, ask(_OWN_XID)[0])
                self._settle(ask(_OLDEST_XID)[0])
            return self._settled

    def _settle(self, oldest_xid: int) -> None:
        if self._mark is not None and oldest_xid >= self._mark[1]:
            self._settled = self._mark[0]
            self._mark = None


def _driver_of(connection: sa.Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - narrows the type; open_engine knows no other driver
    return driver


class PostgresEntries:
    """The steps of an append in the transaction of one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        """`connection` is in a transaction."""
        self._driver = _driver_of(connection)

    def claim(self, tenant: str, keyed: dict[bytes, EntryRow]) -> dict[bytes, AppendResult]:
        """Wait for running transactions that claim the same keys; a key claimed just now has no entry yet."""
        keys = sorted(keyed)  # one order for everybody, against deadlocks
        arguments = (tenant, keys, [keyed[key].fingerprint for key in keys], [keyed[key].id for key in keys])
        claimed = self._driver.execute(_CLAIM, arguments).rowcount
        if claimed == len(keys):
            return {}
        found = self._driver.execute(_FIND_EARLIER, (tenant, keys), binary=True)
        earlier = {key: AppendResult(seq, entry_id, True, fingerprint) for key, seq, entry_id, fingerprint in found}
        return require_entries(claimed, earlier, len(keys))

    def insert(self, tenant: str, rows: Sequence[EntryRow]) -> list[int]:
        """Return the sequence numbers of the rows, in their order; none if the log is not open."""
        _, ids, bodies, actions, subjects, refs, *_ = zip(*rows, strict=True)
        statement = _APPEND
        arguments = [tenant, len(ids), pack_uuids(ids), pack_blobs(bodies), pack_texts(actions), pack_texts(subjects)]
        if any(refs):
            named = [(entry_id, value) for entry_id, own in zip(ids, refs, strict=True) for value in dict.fromkeys(own)]
            entry_ids, values = zip(*named, strict=True)
            statement += _REFER
            arguments += [tenant, pack_uuids(entry_ids), pack_texts(values)]
        first, last, count = self._driver.execute(statement + _DRAWN, arguments, binary=True).fetchall()[0]
        if not count:
            return []
        if last - first + 1 == count:
            return list(range(first, last + 1))
        drawn = (tenant, first, last, pack_uuids(ids))  # somebody drew at the same moment
        return [seq for (seq,) in self._driver.execute(_READ_DRAWN, drawn, binary=True)]

    def shut_out_others(self, tenant: str) -> None:
        """Wait at most the lock timeout for those who append."""
        self._driver.execute(_SHUT_OUT_APPENDERS, (tenant,))


class PostgresBackend(PostgresWake):
    """The backend on PostgreSQL 15 or newer."""

    def __init__(self, engine: sa.Engine) -> None:
        """`engine` is of `open_engine`."""
        super().__init__(engine)
        self._engine = engine
        self._horizon = Horizon()
        self._covered: dict[str, Covered] = {}

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Lend a connection in a transaction."""
        return writing(self._engine)

    def entries(self, connection: sa.Connection) -> PostgresEntries:
        """Return the steps of an append."""
        return PostgresEntries(connection)

    def list_pending(self, tenant: str, after_seq: int, limit: int) -> Pending:
        """As LedgerStore.list_pending; `after_seq` is 0 or was settled."""
        settled = self._read_settled(2 * HORIZON_EVERY_S)
        known = self._covered.get(tenant)
        if known is not None and after_seq < known.since:
            known = None
        size, entries = self._read_pending(tenant, known, after_seq, limit)
        if known is None or size != known.size:  # the first time, or somebody else has integrated
            known = self._covered[tenant] = self._read_covered(tenant, after_seq)
            _, entries = self._read_pending(tenant, known, after_seq, limit)
        if len(entries) == limit:
            settled = min(settled, entries[-1].seq)
        return Pending(entries, max(settled, after_seq))

    def wait_for_append(self, timeout_s: float, rows: int) -> int:
        """As LedgerStore.wait_for_append; what is settled is looked for now, rather than when entries wait."""
        with suppress(AssayError):
            self._read_settled(HORIZON_EVERY_S)
        return super().wait_for_append(timeout_s, rows)

    def _read_settled(self, every_s: float) -> int:
        return self._horizon.read_settled(lambda statement: self.ask_watching(statement)[0], every_s)

    def _read_pending(
        self, tenant: str, known: Covered | None, after_seq: int, limit: int
    ) -> tuple[int, list[PendingEntry]]:
        """Return the head's size, and the entries in the holes of what is known; none without that."""
        starts, stops = known.find_holes(after_seq) if known is not None else ((), ())
        arguments = (tenant, pack_bigints(starts), pack_bigints(stops), tenant, limit, limit)
        rows = self.ask_watching(_PENDING, arguments)
        size = next((row[0] for row in rows if row[1] is None), 0)
        return size, [PendingEntry._make(row) for row in rows if row[1] is not None]

    def _read_covered(self, tenant: str, after_seq: int) -> Covered:
        """Return what the database says is integrated above `after_seq`."""
        rows = self.ask_watching(_COVERED, (after_seq, tenant))
        runs = [(seq, width) for _, seq, width in rows if seq is not None]
        return Covered(rows[0][0] if rows else 0, after_seq, runs)

    def integrate(self, batch: Integration) -> bool:
        """As Backend.integrate."""
        old, new, tiles, runs = batch.old, batch.new, batch.tiles, cut_runs(batch)
        arguments = (
            *(new.size, new.root, new.settled_seq, new.frozen, batch.tenant, old.size, old.root),
            *map(pack_bigints, ([run.idx for run in runs], [run.seq for run in runs], [run.width for run in runs])),
            pack_blobs([run.hashes for run in runs]),
            *([tile.level for tile in tiles], [tile.number for tile in tiles]),
            *([tile.data for tile in tiles], [tile.root for tile in tiles]),
            [make_marks(tile.level, tile.data) for tile in tiles],
            format_placed(batch),
        )
        if len(self.ask_watching(_INTEGRATE, arguments)) != 1:
            return False
        known = self._covered.get(batch.tenant)
        if known is not None and known.size == old.size:
            known.add(new.size, new.settled_seq, [(run.seq, run.width) for run in runs])
        return True

    def expose(self, tenant: str, size: int, checkpoint: bytes) -> None:
        """Insert the checkpoint and notify, in one statement that does not wait for the disk.

        A crash loses the last moments, never the order: the next start exposes the same head, or a larger one.
        """
        self.run_quick(_EXPOSE, (tenant, size, checkpoint, format_exposed(tenant, checkpoint)))

    def _ask_soon(self, statement: LiteralString, arguments: tuple[object, ...]) -> list[Any]:
        """Return the rows of one short statement: on the kept connection if nobody is at it, else on the pool's."""
        if self._asking.acquire(blocking=False):
            try:
                return self._ask_kept(statement, arguments)
            finally:
                self._asking.release()
        with reading(self._engine) as connection:
            return _driver_of(connection).execute(statement, arguments, binary=True).fetchall()

    def read_tiles(self, tenant: str, wanted: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """As Backend.read_tiles, in one statement."""
        levels, numbers, widths = map(list, zip(*wanted, strict=True))
        arguments = (tenant, tenant, tenant, levels, numbers, widths)
        return [data for (data,) in self._ask_soon(_READ_TILES, arguments)]

    def list_published(self, tenant: str, seqs: Sequence[int]) -> tuple[bytes | None, dict[int, int]]:
        """As LedgerReader.list_published, in one statement on a connection kept for it."""
        note: bytes | None = None
        positions: dict[int, int] = {}
        for found, seq, index in self.ask_watching(_PUBLISHED, (tenant, tenant, list(seqs))):
            if found is not None:
                note = found
            elif index is not None:
                positions[seq] = index
        return note, positions

    def list_bodies(self, tenant: str, start: int, stop: int) -> list[bytes]:
        """As LedgerReader.list_bodies."""
        with reading(self._engine) as connection:
            found = _driver_of(connection).execute(_BODIES, (tenant, start, stop) * 2, binary=True)
            return [body for (body,) in found]

    def find_checkpoint(self, tenant: str) -> bytes | None:
        """As LedgerReader.find_checkpoint."""
        rows = self._ask_soon(_NEWEST_CHECKPOINT, (tenant,))
        return rows[0][0] if rows else None

    def find_position(self, tenant: str, leaf_hash: bytes) -> int | None:
        """As Backend.find_position."""
        with reading(self._engine) as connection:
            arguments = (tenant, leaf_hash, leaf_hash[:MARK_BYTES], tenant, tenant, leaf_hash)
            return find_leaf(_driver_of(connection).execute(_ALIKE, arguments, binary=True), leaf_hash)

    def list_positions(self, tenant: str, seqs: Sequence[int]) -> dict[int, int]:
        """As LedgerReader.list_positions."""
        with reading(self._engine) as connection:
            found = _driver_of(connection).execute(_POSITIONS, (tenant, list(seqs)), binary=True)
            return {seq: index for seq, index in found if index is not None}

    def sequencer_lock(self, tenant: str) -> AbstractContextManager[None]:
        """Hold a session's advisory lock."""
        return hold_advisory_lock(self._engine, tenant)
