"""Every bundle store keeps the contract: SQLite, PostgreSQL."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from app.adapters.sql.engine import writing
from app.adapters.sql.policies import SqlBundleStore
from tests.contract.bundle_store_contract import BundleStoreContract
from tests.parts.sql_stores import open_part, sqlite_url


class OnSql(BundleStoreContract):
    @pytest.fixture
    def part(self, url):
        with open_part(url) as part:
            yield part

    @pytest.fixture
    def store(self, part):
        return SqlBundleStore(part.store, part.engine)

    @pytest.fixture
    def list_entries(self, part):
        return part.list_entries

    @pytest.fixture
    def freeze(self, part):
        def freeze(tenant: str) -> None:
            with writing(part.engine) as connection:
                connection.execute(sa.text("UPDATE tenant SET state = 'frozen' WHERE id = :id"), {"id": tenant})

        return freeze


class TestSqliteBundleStore(OnSql):
    @pytest.fixture
    def url(self, tmp_path):
        return sqlite_url(tmp_path / "ledger.db")


class TestPostgresBundleStore(OnSql):
    @pytest.fixture
    def url(self, postgres_url):
        return postgres_url
