"""A ledger store in memory: for benchmarks (what does the database cost?) and for tests. Nothing survives the process.

One lock for everything and one transaction at a time, as on SQLite; what a transaction does is undone by restoring
the lengths and keys it started from.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

from app.errors import Conflict, NotFound
from app.ledger.ports import (
    LOG_EVENTS,
    MAX_LOG_EVENTS,
    AppendResult,
    EntryFilter,
    EntryRow,
    Exposed,
    Head,
    Heard,
    Integration,
    LogFrozenError,
    LostSwapError,
    NotLeaderError,
    Page,
    Pending,
    PendingEntry,
    StoredEntry,
    Tenant,
    Tile,
)
from app.tlog.tile import TILE_WIDTH
from app.tlog.tree import EMPTY_ROOT, HASH_SIZE

MAX_ROWS_EXAMINED = 10_000
MAX_TENANTS = 10_000


@dataclass(slots=True)
class _Log:
    """One tenant's rows. `entries` are in the order of `seq`; `leaves` and `seqs` in the order of the index."""

    tenant: Tenant
    head: Head
    entries: list[tuple[int, EntryRow]] = field(default_factory=list)
    place_of_id: dict[UUID, int] = field(default_factory=dict)
    idem: dict[bytes, AppendResult] = field(default_factory=dict)
    leaves: list[bytes] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    index_of_seq: dict[int, int] = field(default_factory=dict)
    index_of_hash: dict[bytes, int] = field(default_factory=dict)
    tiles: dict[tuple[int, int], Tile] = field(default_factory=dict)
    checkpoints: list[tuple[int, bytes]] = field(default_factory=list)
    leader: threading.Lock = field(default_factory=threading.Lock)

    def row(self, index: int) -> EntryRow:
        """Return the entry at this index."""
        return self.entries[self.place_of_seq(self.seqs[index])][1]

    def place_of_seq(self, seq: int) -> int:
        """Return where in `entries` the first one with at least this `seq` is."""
        return bisect_left(self.entries, seq, key=lambda entry: entry[0])


class MemoryTx:
    """One open transaction."""

    def __init__(self, store: MemoryStore) -> None:
        """The caller holds the store's lock."""
        self._store = store
        self._undo: list[Callable[[], object]] = []
        self._refusal: LogFrozenError | None = None

    def require_commit(self) -> None:
        """Raise LogFrozenError if one was raised before: then nothing of this transaction stays."""
        if self._refusal is not None:
            raise self._refusal

    def roll_back(self) -> None:
        """Take back what was done, last first."""
        for undo in reversed(self._undo):
            undo()

    def append_entries(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        """Insert the rows; after LogFrozenError the transaction can only be rolled back."""
        return [self._append(row) for row in rows]

    def _append(self, row: EntryRow) -> AppendResult:
        log = self._store.logs.get(row.tenant)
        if log is not None and row.idem is not None and (earlier := log.idem.get(row.idem)):
            return earlier
        if log is None or log.tenant.frozen:
            self._refusal = LogFrozenError("this log is not open: it takes no more entries")
            raise self._refusal
        seq = self._store.draw_seq()
        log.place_of_id[row.id] = len(log.entries)
        self._undo.append(lambda: log.place_of_id.pop(row.id))
        log.entries.append((seq, row))
        self._undo.append(log.entries.pop)
        if row.idem is not None:
            log.idem[row.idem] = AppendResult(seq, row.id, replayed=True, fingerprint=row.fingerprint)
            self._undo.append(lambda: log.idem.pop(row.idem or b""))
        return AppendResult(seq, row.id)


class MemoryStore:
    """A LedgerStore that passes the same contract suite as the real ones."""

    def __init__(self) -> None:
        """Start empty."""
        self.logs: dict[str, _Log] = {}
        self._lock = threading.RLock()
        self._appended = threading.Condition(self._lock)
        self._exposed = threading.Condition(self._lock)
        self._last_seq = 0
        self._seen_seq = -1
        self._exposures = 0
        self._last_exposure: dict[str, int] = {}

    def draw_seq(self) -> int:
        """Return the next sequence number; under the lock."""
        self._last_seq += 1
        return self._last_seq

    @contextmanager
    def transaction(self) -> Iterator[MemoryTx]:
        """Hold the store's lock; undo everything on an exception."""
        with self._lock:
            tx = MemoryTx(self)
            try:
                yield tx
                tx.require_commit()
            except BaseException:
                tx.roll_back()
                raise
            self._appended.notify_all()

    def appending(self) -> AbstractContextManager[MemoryTx]:
        """As `transaction`."""
        return self.transaction()

    def close_log(self, last: EntryRow) -> AppendResult:
        """Append `last` and take no more entries (app.ledger.freeze)."""
        with self.transaction() as tx:
            [result] = tx.append_entries([last])
            log = self._log(last.tenant)
            log.tenant = replace(log.tenant, frozen=True)
        return result

    def add_tenant(self, tenant: Tenant) -> None:
        """Create a tenant with an empty log."""
        with self._lock:
            if tenant.id in self.logs or any(log.tenant.origin == tenant.origin for log in self.logs.values()):
                raise Conflict("a tenant with this id or this origin exists", code="tenant_exists")
            self.logs[tenant.id] = _Log(tenant, Head(size=0, root=EMPTY_ROOT, frozen=tenant.frozen))

    def find_tenant(self, tenant: str) -> Tenant | None:
        """Return the tenant, or None."""
        with self._lock:
            log = self.logs.get(tenant)
            return log.tenant if log else None

    def list_tenants(self) -> list[Tenant]:
        """Return all tenants by id."""
        with self._lock:
            return [self.logs[name].tenant for name in sorted(self.logs)[:MAX_TENANTS]]

    @contextmanager
    def sequencer_lock(self, tenant: str) -> Iterator[None]:
        """Hold this log's sequencer lock."""
        leader = self._log(tenant).leader
        if not leader.acquire(blocking=False):
            raise NotLeaderError("another process is sequencing this log")
        try:
            yield
        finally:
            leader.release()

    def list_pending(self, tenant: str, after_seq: int, limit: int) -> Pending:
        """Return the next entries without an index."""
        with self._lock:
            log = self._log(tenant)
            found: list[PendingEntry] = []
            for place in range(log.place_of_seq(after_seq + 1), len(log.entries)):
                seq, row = log.entries[place]
                if seq not in log.index_of_seq:
                    found.append(PendingEntry(seq, row.action, row.body))
                if len(found) == limit:
                    return Pending(found, seq)
            return Pending(found, max(self._last_seq, after_seq))

    def integrate(self, batch: Integration) -> None:
        """Swap the head, and add leaves and tiles."""
        with self._lock:
            log = self._log(batch.tenant)
            if log.head.frozen:
                raise LogFrozenError("this log is frozen: its head does not move")
            if (log.head.size, log.head.root) != (batch.old.size, batch.old.root):
                raise LostSwapError(f"the head is at size {log.head.size}: someone else moved it")
            for seq, leaf_hash in zip(batch.seqs, batch.leaf_hashes, strict=True):
                log.index_of_seq[seq] = len(log.leaves)
                log.index_of_hash.setdefault(leaf_hash, len(log.leaves))
                log.seqs.append(seq)
                log.leaves.append(leaf_hash)
            log.tiles.update({(tile.level, tile.number): tile for tile in batch.tiles})
            log.head = batch.new
            if batch.new.frozen:
                log.tenant = replace(log.tenant, frozen=True)

    def expose(self, tenant: str, size: int, checkpoint: bytes) -> None:
        """Add the checkpoint; one of this size that is there already stays."""
        with self._lock:
            checkpoints = self._log(tenant).checkpoints
            place = bisect_left(checkpoints, size, key=lambda known: known[0])
            if place == len(checkpoints) or checkpoints[place][0] != size:
                checkpoints.insert(place, (size, checkpoint))
            self._exposures += 1
            self._last_exposure[tenant] = self._exposures
            self._exposed.notify_all()

    def read_head(self, tenant: str) -> Head:
        """Return the integrated head. Raises NotFound without such a tenant."""
        with self._lock:
            return self._log(tenant).head

    def find_checkpoint(self, tenant: str) -> bytes | None:
        """Return the newest exposed checkpoint, or None."""
        with self._lock:
            log = self.logs.get(tenant)
            return log.checkpoints[-1][1] if log and log.checkpoints else None

    def list_checkpoints(self, tenant: str, start_size: int, limit: int) -> list[tuple[int, bytes]]:
        """Return exposed checkpoints by size, from `start_size` on."""
        with self._lock:
            checkpoints = self.logs[tenant].checkpoints if tenant in self.logs else []
            start = bisect_left(checkpoints, start_size, key=lambda known: known[0])
            return checkpoints[start : start + limit]

    def read_tile(self, tenant: str, level: int, number: int, width: int) -> bytes:
        """Return a full tile as stored, a partial one from the hashes or the roots below it."""
        with self._lock:
            log = self._log(tenant)
            places = range(number * TILE_WIDTH, number * TILE_WIDTH + width)
            if width == TILE_WIDTH:
                data = log.tiles[level, number].data if (level, number) in log.tiles else b""
            elif level == 0:
                data = b"".join(log.leaves[places.start : places.stop])
            else:
                data = b"".join(log.tiles[level - 1, n].root for n in places if (level - 1, n) in log.tiles)
        if len(data) != width * HASH_SIZE or not data:
            raise NotFound("the tree has no such tile")
        return data

    def read_tiles(self, tenant: str, wanted: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """Return several tiles."""
        return [self.read_tile(tenant, *place) for place in wanted]

    def list_bodies(self, tenant: str, start: int, stop: int) -> list[bytes]:
        """Return the entries' bytes for indexes [start, stop), fewer at the end of the integrated tree."""
        with self._lock:
            log = self._log(tenant)
            return [log.row(index).body for index in range(start, min(stop, len(log.leaves)))]

    def find_entry(self, tenant: str, entry_id: UUID) -> StoredEntry | None:
        """Return one entry, integrated or not."""
        with self._lock:
            log = self.logs.get(tenant)
            if log is None or entry_id not in log.place_of_id:
                return None
            seq, row = log.entries[log.place_of_id[entry_id]]
            return StoredEntry(seq, log.index_of_seq.get(seq), row.body)

    def find_newest(self, tenant: str, ref: str) -> StoredEntry | None:
        """Return the newest entry that refers to `ref`, by looking through all."""
        found = self._find_all(tenant, lambda row: ref in row.refs)
        return found[-1] if found else None

    def list_log_events(self, tenant: str) -> list[StoredEntry]:
        """Return the log's entries about itself, by looking through all."""
        return self._find_all(tenant, lambda row: row.action in LOG_EVENTS)[:MAX_LOG_EVENTS]

    def _find_all(self, tenant: str, wanted: Callable[[EntryRow], bool]) -> list[StoredEntry]:
        with self._lock:
            log = self.logs.get(tenant)
            entries = log.entries if log else []
            return [
                StoredEntry(seq, log.index_of_seq.get(seq), row.body) for seq, row in entries if log and wanted(row)
            ]

    def find_position(self, tenant: str, leaf_hash: bytes) -> int | None:
        """Return the lowest index with this leaf hash."""
        with self._lock:
            return self.logs[tenant].index_of_hash.get(leaf_hash) if tenant in self.logs else None

    def list_positions(self, tenant: str, seqs: Sequence[int]) -> dict[int, int]:
        """Return {seq: index} of those that are integrated."""
        with self._lock:
            known = self.logs[tenant].index_of_seq if tenant in self.logs else {}
            return {seq: known[seq] for seq in seqs if seq in known}

    def list_published(self, tenant: str, seqs: Sequence[int]) -> tuple[bytes | None, dict[int, int]]:
        """Return the newest checkpoint and the positions."""
        with self._lock:
            return self.find_checkpoint(tenant), self.list_positions(tenant, seqs)

    def list_entries(self, tenant: str, where: EntryFilter, *, start: int, stop: int, limit: int) -> Page:
        """Return a page of matching entries by index, from a window of at most MAX_ROWS_EXAMINED rows."""
        with self._lock:
            log = self.logs.get(tenant)
            stop = min(stop, len(log.leaves)) if log else 0
            end = min(stop, start + MAX_ROWS_EXAMINED)
            found: list[StoredEntry] = []
            for index in range(start, end):
                if log and _matches(row := log.row(index), where):
                    found.append(StoredEntry(log.seqs[index], index, row.body))
                    if len(found) == limit:
                        end = index + 1
                        break
            return Page(found, end if end < stop else None)

    def wait_for_append(self, timeout_s: float, rows: int = 1) -> int:
        """Return how many were appended since the last call and not integrated, once it is `rows` or in time."""
        with self._appended:
            self._appended.wait_for(lambda: self._count_news() >= rows, timeout_s)
            news = self._count_news()
            self._seen_seq = self._last_seq
            return news

    def _count_news(self) -> int:
        fresh = range(self._seen_seq + 1, self._last_seq + 1)
        return sum(not any(seq in log.index_of_seq for log in self.logs.values()) for seq in fresh)

    def publications(self, poll_s: float) -> Iterator[Heard]:
        """Yield None first, then the tenants of new checkpoints."""
        seen = self._exposures
        yield None
        while True:
            with self._exposed:
                self._exposed.wait_for(lambda: self._exposures > seen, poll_s)  # noqa: B023 - called in this turn only
                fresh = [Exposed(tenant) for tenant, exposure in self._last_exposure.items() if exposure > seen]
                seen = self._exposures
            yield from fresh or (None,)

    def close(self) -> None:
        """Nothing to close."""

    def _log(self, tenant: str) -> _Log:
        if tenant not in self.logs:
            raise NotFound("no such log")
        return self.logs[tenant]


def _matches(row: EntryRow, where: EntryFilter) -> bool:
    time_ms = row.id.int >> 80
    return (
        (where.action is None or row.action == where.action)
        and (where.subject is None or row.subject == where.subject)
        and (where.ref is None or where.ref in row.refs)
        and (where.from_ms is None or time_ms >= where.from_ms)
        and (where.to_ms is None or time_ms < where.to_ms)
    )
