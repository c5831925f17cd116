"""The contract of the ledger store, run over memory, SQLite and PostgreSQL."""

from __future__ import annotations

import pytest

from app.adapters.memory import MemoryStore
from app.adapters.sql.migrate import upgrade
from app.adapters.sql.store import SqlStore
from tests.contract.ledger_reader_contract import LedgerReaderContract
from tests.contract.ledger_store_contract import LedgerStoreContract
from tests.fakes.ledger_stores import database


class Memory:
    @pytest.fixture
    def store(self):
        return MemoryStore()

    @pytest.fixture
    def peer(self, store):
        return store


class Sql:
    @pytest.fixture
    def store(self, url):
        store = SqlStore.open(url)
        yield store
        store.close()

    @pytest.fixture
    def peer(self, url):
        peer = SqlStore.open(url)
        yield peer
        peer.close()


class Sqlite(Sql):
    @pytest.fixture
    def url(self, tmp_path):
        url = f"sqlite:///{tmp_path}/ledger.db"
        upgrade(url)
        return url


class Postgres(Sql):
    @pytest.fixture
    def url(self, request):
        with database("postgresql", request) as url:
            yield url


class TestMemoryWrites(Memory, LedgerStoreContract): ...


class TestMemoryReads(Memory, LedgerReaderContract): ...


class TestSqliteWrites(Sqlite, LedgerStoreContract): ...


class TestSqliteReads(Sqlite, LedgerReaderContract): ...


class TestPostgresWrites(Postgres, LedgerStoreContract): ...


class TestPostgresReads(Postgres, LedgerReaderContract): ...
