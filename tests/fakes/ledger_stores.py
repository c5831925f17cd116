"""The three ledger stores, as the integration tests and the kill loop open them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.adapters.memory import MemoryStore
from app.adapters.sql.migrate import upgrade
from app.adapters.sql.store import SqlStore

KINDS = ("memory", "sqlite", "postgres")
DURABLE = ("sqlite", "postgres")


def sqlite_url(folder: Path) -> str:
    """Return the URL of a migrated database in `folder`."""
    url = f"sqlite:///{folder}/ledger.db"
    upgrade(url)
    return url


@contextmanager
def database(kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Lend the URL of a migrated database of this test alone."""
    if kind == "sqlite":
        yield sqlite_url(request.getfixturevalue("tmp_path"))
        return
    server = request.getfixturevalue("postgres_server")
    url = server.create_database(upgrade)
    try:
        yield url
    finally:
        server.drop_database(url)


@contextmanager
def opened(url: str) -> Iterator[SqlStore]:
    """Lend a store of its own connections, as another process has them."""
    store = SqlStore.open(url)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def any_store(kind: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Lend an empty store of this kind."""
    if kind == "memory":
        yield MemoryStore()
        return
    with database(kind, request) as url, opened(url) as store:
        yield store
