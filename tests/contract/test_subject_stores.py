"""Every subject store keeps the contract: in memory, SQLite, PostgreSQL."""

from __future__ import annotations

import pytest

from app.adapters.sql.subjects import SqlSubjectStore
from tests.contract.subject_store_contract import SubjectStoreContract
from tests.fakes.people import MemorySubjectStore
from tests.parts.sql_stores import open_part, sqlite_url


class TestMemorySubjectStore(SubjectStoreContract):
    @pytest.fixture
    def store(self):
        return MemorySubjectStore()

    @pytest.fixture
    def list_entries(self, store):
        return store.list_entries


class OnSql(SubjectStoreContract):
    @pytest.fixture
    def part(self, url):
        with open_part(url) as part:
            yield part

    @pytest.fixture
    def store(self, part):
        return SqlSubjectStore(part.store, part.engine)

    @pytest.fixture
    def list_entries(self, part):
        return part.list_entries


class TestSqliteSubjectStore(OnSql):
    @pytest.fixture
    def url(self, tmp_path):
        return sqlite_url(tmp_path / "ledger.db")


class TestPostgresSubjectStore(OnSql):
    @pytest.fixture
    def url(self, postgres_url):
        return postgres_url
