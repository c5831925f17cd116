"""The payment stores on SQLite and PostgreSQL keep the contract; the one in memory does in tests/unit/payments."""

from __future__ import annotations

import pytest

from app.adapters.sql.payments import SqlPaymentStore
from app.ledger.append import append
from app.ledger.registry import open_registry
from app.wiring import new_entry_id
from tests.contract.payment_store_contract import PaymentStoreContract
from tests.parts.sql_stores import open_part, sqlite_url

REGISTRY = open_registry()


def append_in(tx, tenant, draft, entry_id):
    return append(tx, REGISTRY, tenant, draft, entry_id=entry_id)


class OnSql(PaymentStoreContract):
    @pytest.fixture
    def part(self, url):
        with open_part(url) as part:
            yield part

    @pytest.fixture
    def store(self, part):
        return SqlPaymentStore(part.store, part.engine, append_in, new_entry_id)

    @pytest.fixture
    def list_actions(self, part):
        return lambda tenant: [entry.action for entry in part.list_entries(tenant)]


class TestSqlitePaymentStore(OnSql):
    @pytest.fixture
    def url(self, tmp_path):
        return sqlite_url(tmp_path / "ledger.db")


class TestPostgresPaymentStore(OnSql):
    @pytest.fixture
    def url(self, postgres_url):
        return postgres_url
