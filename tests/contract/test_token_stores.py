"""Every token store keeps the contract: in memory, SQLite, PostgreSQL."""

from __future__ import annotations

import pytest

from app.adapters.sql.tokens import SqlTokenStore
from tests.contract.token_store_contract import TokenStoreContract
from tests.fakes.tokens import MemoryTokenStore
from tests.parts.sql_stores import open_part, sqlite_url


class TestMemoryTokenStore(TokenStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryTokenStore()

    @pytest.fixture
    def list_entries(self, store):
        return store.list_entries


class OnSql(TokenStoreContract):
    @pytest.fixture
    def part(self, url):
        with open_part(url) as part:
            yield part

    @pytest.fixture
    def store(self, part):
        return SqlTokenStore(part.store, part.engine)

    @pytest.fixture
    def list_entries(self, part):
        return part.list_entries


class TestSqliteTokenStore(OnSql):
    @pytest.fixture
    def url(self, tmp_path):
        return sqlite_url(tmp_path / "ledger.db")


class TestPostgresTokenStore(OnSql):
    @pytest.fixture
    def url(self, postgres_url):
        return postgres_url
