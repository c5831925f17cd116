"""The ledger's SQL store on a migrated database of the test's own, with two tenants; SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from app.adapters.sql.engine import open_engine
from app.adapters.sql.migrate import upgrade
from app.adapters.sql.store import SqlStore
from app.ledger.entry import Entry, parse_entry
from app.ledger.ports import Tenant
from tests.fakes.people import TENANTS

LIST_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlPart:
    store: SqlStore
    engine: sa.Engine
    url: str

    def list_entries(self, tenant: str) -> list[Entry]:
        return [parse_entry(pending.body) for pending in self.store.list_pending(tenant, 0, LIST_LIMIT).entries]


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


@contextmanager
def open_part(url: str, *, fresh: bool = True) -> Iterator[SqlPart]:
    """Open the database; a fresh one is migrated first and gets its tenants."""
    if fresh:
        upgrade(url)
    engine = open_engine(url)
    store = SqlStore(engine)
    try:
        if fresh:
            for name in TENANTS:
                store.add_tenant(Tenant(id=name, origin=f"log.example/{name}"))
        yield SqlPart(store=store, engine=engine, url=url)
    finally:
        store.close()
