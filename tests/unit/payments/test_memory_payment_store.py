"""The store in memory keeps the promises of the real one."""

from __future__ import annotations

import pytest

from tests.contract.payment_store_contract import PaymentStoreContract
from tests.fakes.payment_store import MemoryPaymentStore


class TestMemoryPaymentStore(PaymentStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryPaymentStore()

    @pytest.fixture
    def list_actions(self, store):
        return lambda tenant: [draft.action for owner, draft in store.tables.entries if owner == tenant]
