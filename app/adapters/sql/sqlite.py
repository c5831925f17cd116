"""The ledger's hot paths on SQLite: the sqlite3 module's own forms, under one writer at a time."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa

from app.adapters.sql.backend import require_entries
from app.adapters.sql.engine import SQLITE_BUSY_TIMEOUT_MS, open_dedicated, reading, translated_errors, writing
from app.adapters.sql.lock import hold_file_lock
from app.adapters.sql.runs import MARK_BYTES, cut_runs, find_leaf, make_marks, position_of
from app.adapters.sql.wake import SqliteWake
from app.errors import Unavailable
from app.ledger.ports import AppendResult, EntryRow, Integration, Pending, PendingEntry
from app.tlog.tile import TILE_WIDTH
from app.tlog.tree import HASH_SIZE

_CLAIM = "INSERT OR IGNORE INTO idempotency (tenant, idem, fingerprint, entry_id) VALUES (?, ?, ?, ?)"
_FIND_EARLIER = """
SELECT e.seq, e.id, i.fingerprint FROM idempotency i JOIN entry e ON e.tenant = i.tenant AND e.id = i.entry_id
WHERE i.tenant = ? AND i.idem = ?"""
_IS_OPEN = "SELECT 1 FROM tenant WHERE id = ? AND state = 'open'"
_APPEND = "INSERT INTO entry (tenant, id, body, action, subject) VALUES (?, ?, ?, ?, ?)"
_REFER = "INSERT INTO entry_ref (tenant, value, seq) VALUES (?, ?, ?)"
_DRAWN = "SELECT seq FROM sqlite_sequence WHERE name = 'entry'"
_PENDING = f"""
SELECT e.seq, e.action, e.body FROM entry e
WHERE e.tenant = ? AND e.seq > ? AND {position_of("e.seq", "e.tenant")} IS NULL
ORDER BY e.seq LIMIT ?"""  # noqa: S608 - constants of our own
_SWAP_HEAD = """
UPDATE head SET size = ?, root = ?, settled_seq = ?, frozen = ?
WHERE tenant = ? AND size = ? AND root = ? AND NOT frozen"""
_CLOSE = "UPDATE tenant SET state = 'frozen' WHERE id = ?"
_RUN = "INSERT INTO leaf_run (tenant, idx, seq, width, hashes) VALUES (?, ?, ?, ?, ?)"
_TILE = "INSERT INTO tile (tenant, level, number, data, root, marks) VALUES (?, ?, ?, ?, ?, ?)"
_EXPOSE = "INSERT INTO checkpoint (tenant, size, note) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_HASHES = "SELECT hashes FROM leaf_run WHERE tenant = ? AND idx >= ? AND idx < ? ORDER BY idx"
_FULL_TILE = "SELECT data FROM tile WHERE tenant = ? AND level = ? AND number = ?"
_TILE_ROOTS = "SELECT root FROM tile WHERE tenant = ? AND level = ? AND number >= ? AND number < ? ORDER BY number"
_NEWEST_CHECKPOINT = "SELECT note FROM checkpoint WHERE tenant = ? ORDER BY size DESC LIMIT 1"
_POSITIONS = f"SELECT value, {position_of('value', '?')} FROM json_each(?)"  # noqa: S608 - constants of our own
# A full leaf tile is looked at by the beginnings of its hashes, and only then opened; the rest is in the newest runs.
_ALIKE = """
SELECT number * 256, data FROM tile
WHERE tenant = ? AND level = 0 AND CASE WHEN marks IS NULL THEN instr(data, ?) ELSE instr(marks, ?) END > 0
UNION ALL
SELECT idx, hashes FROM leaf_run
WHERE tenant = ? AND idx >= (SELECT size >> 8 << 8 FROM head WHERE tenant = ?) AND instr(hashes, ?) > 0"""
# Numbers are the rowid here: a run's entries are read by it, and only looked at for their tenant.
_BODIES = """
SELECT e.body FROM leaf_run r CROSS JOIN entry e
WHERE r.tenant = ?1 AND +e.tenant = ?1 AND r.idx > ?2 - 256 AND r.idx < ?3
    AND e.seq >= r.seq + max(?2 - r.idx, 0) AND e.seq < r.seq + min(?3 - r.idx, r.width)
ORDER BY r.idx, e.seq"""


def _driver_of(connection: sa.Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - narrows the type; open_engine knows no other driver
    return driver


class SqliteEntries:
    """The steps of an append in the transaction of one connection."""

    def __init__(self, connection: sa.Connection) -> None:
        """`connection` is in a write transaction."""
        self._driver = _driver_of(connection)
        self.appended: list[tuple[int, int]] = []

    def claim(self, tenant: str, keyed: dict[bytes, EntryRow]) -> dict[bytes, AppendResult]:
        """Claim what is free; a key claimed just now has no entry yet."""
        rows = [(tenant, key, row.fingerprint, row.id.bytes) for key, row in keyed.items()]
        claimed = self._driver.executemany(_CLAIM, rows).rowcount
        if claimed == len(keyed):
            return {}
        earlier = {
            key: AppendResult(seq, UUID(bytes=entry_id), replayed=True, fingerprint=fingerprint)
            for key in keyed
            for seq, entry_id, fingerprint in self._driver.execute(_FIND_EARLIER, (tenant, key))
        }
        return require_entries(claimed, earlier, len(keyed))

    def insert(self, tenant: str, rows: Sequence[EntryRow]) -> list[int]:
        """Return the sequence numbers of the rows: under the only writer they have no gaps."""
        if self._driver.execute(_IS_OPEN, (tenant,)).fetchone() is None:
            return []
        values = [(tenant, row.id.bytes, row.body, row.action, row.subject) for row in rows]
        self._driver.executemany(_APPEND, values)
        (last,) = self._driver.execute("SELECT last_insert_rowid()").fetchone()
        seqs = list(range(last - len(rows) + 1, last + 1))
        refs = [
            (tenant, value, seq)
            for row, seq in zip(rows, seqs, strict=True)
            if row.refs
            for value in dict.fromkeys(row.refs)
        ]
        if refs:
            self._driver.executemany(_REFER, refs)
        self.appended.append((last, len(rows)))
        return seqs

    def shut_out_others(self, tenant: str) -> None:
        """Nothing to do: a write transaction is the only one."""


class SqliteBackend(SqliteWake):
    """The backend on SQLite."""

    def __init__(self, engine: sa.Engine) -> None:
        """`engine` is of `open_engine`."""
        super().__init__(engine)
        self._engine = engine
        self._path = Path(str(engine.url.database))
        self._writer = threading.Lock()
        self._quick: sqlite3.Connection | None = None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Lend a connection in a write transaction."""
        with self._writing_alone(), writing(self._engine) as connection:
            yield connection

    @contextmanager
    def appending(self) -> Iterator[SqliteEntries]:
        """Lend the steps of an append in a write transaction."""
        with self.write() as connection:
            entries = self.entries(connection)
            yield entries
        self.announce_append(entries.appended)

    @contextmanager
    def _writing_alone(self) -> Iterator[None]:
        """Keep this process's other threads from writing: they queue here, as SQLite's own waiting is a sleep."""
        if not self._writer.acquire(timeout=SQLITE_BUSY_TIMEOUT_MS / 1000):
            raise Unavailable("the database is busy", code="store_unavailable")
        try:
            yield
        finally:
            self._writer.release()

    def entries(self, connection: sa.Connection) -> SqliteEntries:
        """Return the steps of an append."""
        return SqliteEntries(connection)

    def list_pending(self, tenant: str, after_seq: int, limit: int) -> Pending:
        """As LedgerStore.list_pending. With one writer, what is drawn is committed: all up to it is settled."""
        with reading(self._engine) as connection:
            driver = _driver_of(connection)
            row = driver.execute(_DRAWN).fetchone()
            entries = [PendingEntry(*found) for found in driver.execute(_PENDING, (tenant, after_seq, limit))]
        settled = row[0] if row else 0
        if len(entries) == limit:
            settled = min(settled, entries[-1].seq)
        return Pending(entries, max(settled, after_seq))

    def integrate(self, batch: Integration) -> bool:
        """As Backend.integrate."""
        old, new = batch.old, batch.new
        swap = (new.size, new.root, new.settled_seq, new.frozen, batch.tenant, old.size, old.root)
        with self.write() as connection:
            driver = _driver_of(connection)
            if driver.execute(_SWAP_HEAD, swap).rowcount != 1:
                return False
            self.insert_leaves(driver, batch)
            if new.frozen:
                driver.execute(_CLOSE, (batch.tenant,))
        return True

    def insert_leaves(self, driver: sqlite3.Connection, batch: Integration) -> None:
        """Insert the leaves and the tiles of the batch."""
        driver.executemany(_RUN, ((batch.tenant, *run) for run in cut_runs(batch)))
        tiles = ((t.level, t.number, t.data, t.root, make_marks(t.level, t.data)) for t in batch.tiles)
        driver.executemany(_TILE, ((batch.tenant, *tile) for tile in tiles))

    def expose(self, tenant: str, size: int, checkpoint: bytes) -> None:
        """Insert the checkpoint without waiting for the disk, and wake this process's readers; others' see the commit.

        A crash loses the last moments, never the order: the next start exposes the same head, or a larger one.
        """
        with self._writing_alone(), translated_errors():
            if self._quick is None:
                self._quick = open_dedicated(self._engine)
                self._quick.execute("PRAGMA synchronous = NORMAL")
            self._quick.execute(_EXPOSE, (tenant, size, checkpoint))
        self.announce_checkpoint(tenant)

    def close(self) -> None:
        """Close the connections; nobody may be waiting."""
        super().close()
        if self._quick is not None:
            self._quick.close()
        self._quick = None

    def read_tiles(self, tenant: str, wanted: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """As Backend.read_tiles, with one connection."""
        tiles = []
        with reading(self._engine) as connection:
            driver = _driver_of(connection)
            for level, number, width in wanted:
                start = number * TILE_WIDTH
                if width == TILE_WIDTH:
                    rows = driver.execute(_FULL_TILE, (tenant, level, number))
                elif level == 0:
                    rows = driver.execute(_HASHES, (tenant, start, start + width))
                else:
                    rows = driver.execute(_TILE_ROOTS, (tenant, level - 1, start, start + width))
                tiles.append(b"".join([data for (data,) in rows])[: width * HASH_SIZE])
        return tiles

    def list_bodies(self, tenant: str, start: int, stop: int) -> list[bytes]:
        """As LedgerReader.list_bodies."""
        with reading(self._engine) as connection:
            return [body for (body,) in _driver_of(connection).execute(_BODIES, (tenant, start, stop))]

    def find_checkpoint(self, tenant: str) -> bytes | None:
        """As LedgerReader.find_checkpoint."""
        with reading(self._engine) as connection:
            row = _driver_of(connection).execute(_NEWEST_CHECKPOINT, (tenant,)).fetchone()
            return row[0] if row else None

    def find_position(self, tenant: str, leaf_hash: bytes) -> int | None:
        """As Backend.find_position."""
        with reading(self._engine) as connection:
            arguments = (tenant, leaf_hash, leaf_hash[:MARK_BYTES], tenant, tenant, leaf_hash)
            return find_leaf(_driver_of(connection).execute(_ALIKE, arguments), leaf_hash)

    def list_positions(self, tenant: str, seqs: Sequence[int]) -> dict[int, int]:
        """As LedgerReader.list_positions; as JSON, since the number of parameters is limited."""
        with reading(self._engine) as connection:
            found = _driver_of(connection).execute(_POSITIONS, (tenant, json.dumps(list(seqs))))
            return {seq: index for seq, index in found if index is not None}

    def list_published(self, tenant: str, seqs: Sequence[int]) -> tuple[bytes | None, dict[int, int]]:
        """As LedgerReader.list_published; the checkpoint first, so that it covers no less than the positions say."""
        return self.find_checkpoint(tenant), self.list_positions(tenant, seqs)

    def sequencer_lock(self, tenant: str) -> AbstractContextManager[None]:
        """Hold a locked file beside the database."""
        return hold_file_lock(self._path, tenant)
