"""The ledger's hot paths on PostgreSQL: psycopg's binary forms, one round trip per step.

Sequence numbers are drawn before their transaction commits, so they become visible out of order; `Horizon` says up
to which number that is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, LiteralString

import psycopg
import sqlalchemy as sa

from app.adapters.sql.appending import KeptAppender, PostgresEntries
from app.adapters.sql.arrays import pack_bigints, pack_blobs
from app.adapters.sql.engine import reading, writing
from app.adapters.sql.heard import format_exposed, format_placed
from app.adapters.sql.horizon import Horizon
from app.adapters.sql.lock import hold_advisory_lock
from app.adapters.sql.runs import MARK_BYTES, Covered, cut_runs, find_leaf, make_marks, position_of
from app.adapters.sql.wake import PostgresWake
from app.errors import AssayError
from app.ledger.ports import Integration, Pending, PendingEntry

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


def _driver_of(connection: sa.Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 - narrows the type; open_engine knows no other driver
    return driver


class PostgresBackend(PostgresWake):
    """The backend on PostgreSQL 15 or newer."""

    def __init__(self, engine: sa.Engine) -> None:
        """`engine` is of `open_engine`."""
        super().__init__(engine)
        self._engine = engine
        self._horizon = Horizon()
        self._covered: dict[str, Covered] = {}
        self._appender = KeptAppender(engine)

    def write(self) -> AbstractContextManager[sa.Connection]:
        """Lend a connection in a transaction."""
        return writing(self._engine)

    def entries(self, connection: sa.Connection) -> PostgresEntries:
        """Return the steps of an append."""
        return PostgresEntries(_driver_of(connection))

    @contextmanager
    def appending(self) -> Iterator[PostgresEntries]:
        """Lend the steps of an append: on the kept connection if nobody is at it, else on one of the pool's."""
        with self._appender.lend() as kept:
            if kept is not None:
                yield kept
                return
        with self.write() as connection:
            entries = self.entries(connection)
            yield entries
        self.announce_append(entries.appended)

    def close(self) -> None:
        """Close the connections outside the pool; nobody may be waiting."""
        super().close()
        self._appender.close()

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
