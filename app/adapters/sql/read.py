"""Reading a log from SQL: every statement names its tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import bindparam, select

from app.adapters.sql import tables as t
from app.adapters.sql.backend import Backend
from app.adapters.sql.engine import reading
from app.adapters.sql.listing import list_page
from app.adapters.sql.runs import ENTRY_INDEX
from app.errors import NotFound
from app.ledger.ports import MAX_LOG_EVENTS, EntryFilter, Head, Page, StoredEntry, Tenant
from app.tlog.tree import HASH_SIZE

_TENANT: sa.BindParameter[str] = bindparam("tenant")

_TENANTS = select(t.tenant.c.id, t.tenant.c.origin, t.tenant.c.state).order_by(t.tenant.c.id).limit(t.MAX_TENANTS)
_FIND_TENANT = select(t.tenant.c.id, t.tenant.c.origin, t.tenant.c.state).where(t.tenant.c.id == _TENANT)
_HEAD = select(t.head.c.size, t.head.c.root, t.head.c.settled_seq, t.head.c.frozen).where(t.head.c.tenant == _TENANT)
_CHECKPOINTS = (
    select(t.checkpoint.c.size, t.checkpoint.c.note)
    .where(t.checkpoint.c.tenant == _TENANT, t.checkpoint.c.size >= bindparam("start"))
    .order_by(t.checkpoint.c.size)
    .limit(bindparam("limit"))
)
_FIND_ENTRY = select(t.entry.c.seq, ENTRY_INDEX, t.entry.c.body).where(
    t.entry.c.tenant == _TENANT, t.entry.c.id == bindparam("id", type_=t.EntryId())
)
_NEWEST = (
    select(t.entry.c.seq, ENTRY_INDEX, t.entry.c.body)
    .join_from(
        t.entry_ref, t.entry, sa.and_(t.entry.c.tenant == t.entry_ref.c.tenant, t.entry.c.seq == t.entry_ref.c.seq)
    )
    .where(t.entry_ref.c.tenant == _TENANT, t.entry_ref.c.value == bindparam("ref"))
    .order_by(t.entry_ref.c.seq.desc())
    .limit(1)
)
_LOG_EVENTS = (
    select(t.entry.c.seq, ENTRY_INDEX, t.entry.c.body)
    .where(t.entry.c.tenant == _TENANT, t.IS_LOG_EVENT)
    .order_by(t.entry.c.seq)
    .limit(MAX_LOG_EVENTS)
)


class SqlReader:
    """A LedgerReader on an engine of `open_engine`."""

    def __init__(self, engine: sa.Engine, backend: Backend) -> None:
        """`backend` is that of the engine's database."""
        self._engine = engine
        self._backend = backend

    def find_tenant(self, tenant: str) -> Tenant | None:
        """Return the tenant, or None."""
        rows = self._fetch(_FIND_TENANT, tenant=tenant)
        return _tenant_of(rows[0]) if rows else None

    def list_tenants(self) -> list[Tenant]:
        """Return all tenants by id."""
        return [_tenant_of(row) for row in self._fetch(_TENANTS)]

    def read_head(self, tenant: str) -> Head:
        """Return the integrated head. Raises NotFound without such a tenant."""
        rows = self._fetch(_HEAD, tenant=tenant)
        if not rows:
            raise NotFound("no such log")
        row = rows[0]
        return Head(size=row.size, root=row.root, settled_seq=row.settled_seq, frozen=row.frozen)

    def find_checkpoint(self, tenant: str) -> bytes | None:
        """Return the newest exposed checkpoint, or None."""
        return self._backend.find_checkpoint(tenant)

    def list_checkpoints(self, tenant: str, start_size: int, limit: int) -> list[tuple[int, bytes]]:
        """Return exposed checkpoints by size, from `start_size` on."""
        return [(row.size, row.note) for row in self._fetch(_CHECKPOINTS, tenant=tenant, start=start_size, limit=limit)]

    def read_tile(self, tenant: str, level: int, number: int, width: int) -> bytes:
        """Return a full tile as stored, a partial one from the hashes or the roots below it."""
        return self.read_tiles(tenant, [(level, number, width)])[0]

    def read_tiles(self, tenant: str, wanted: Sequence[tuple[int, int, int]]) -> list[bytes]:
        """Return several in one round trip."""
        tiles = self._backend.read_tiles(tenant, wanted)
        if any(len(data) != width * HASH_SIZE or not data for data, (_, _, width) in zip(tiles, wanted, strict=True)):
            raise NotFound("the tree has no such tile")
        return tiles

    def list_bodies(self, tenant: str, start: int, stop: int) -> list[bytes]:
        """Return the entries' bytes for indexes [start, stop), fewer at the end of the integrated tree."""
        return self._backend.list_bodies(tenant, start, stop)

    def find_entry(self, tenant: str, entry_id: UUID) -> StoredEntry | None:
        """Return one entry, integrated or not."""
        rows = self._fetch(_FIND_ENTRY, tenant=tenant, id=entry_id)
        return StoredEntry(rows[0].seq, rows[0].idx, rows[0].body) if rows else None

    def find_newest(self, tenant: str, ref: str) -> StoredEntry | None:
        """Return the newest entry that refers to `ref`."""
        rows = self._fetch(_NEWEST, tenant=tenant, ref=ref)
        return StoredEntry(rows[0].seq, rows[0].idx, rows[0].body) if rows else None

    def list_log_events(self, tenant: str) -> list[StoredEntry]:
        """Return the log's entries about itself, by an index of their own."""
        return [StoredEntry(row.seq, row.idx, row.body) for row in self._fetch(_LOG_EVENTS, tenant=tenant)]

    def find_position(self, tenant: str, leaf_hash: bytes) -> int | None:
        """Return the lowest index with this leaf hash."""
        return self._backend.find_position(tenant, leaf_hash)

    def list_positions(self, tenant: str, seqs: Sequence[int]) -> dict[int, int]:
        """Return {seq: index} of those that are integrated."""
        return self._backend.list_positions(tenant, seqs)

    def list_published(self, tenant: str, seqs: Sequence[int]) -> tuple[bytes | None, dict[int, int]]:
        """Return the newest checkpoint and the positions."""
        return self._backend.list_published(tenant, seqs)

    def list_entries(self, tenant: str, where: EntryFilter, *, start: int, stop: int, limit: int) -> Page:
        """Return a page of matching entries by index."""
        with reading(self._engine) as connection:
            return list_page(connection, tenant, where, start=start, stop=stop, limit=limit)

    def _fetch(self, statement: sa.Select[Any], **arguments: object) -> Sequence[sa.Row[Any]]:
        with reading(self._engine) as connection:
            return connection.execute(statement, arguments).fetchall()


def _tenant_of(row: sa.Row[Any]) -> Tenant:
    return Tenant(id=row.id, origin=row.origin, frozen=row.state == t.FROZEN)
