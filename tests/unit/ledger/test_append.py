"""From a draft to a row: everything is checked before anything is written."""

from __future__ import annotations

import pytest

from app.adapters.memory import MemoryStore
from app.errors import Rejected
from app.ledger.append import append, prepare
from app.ledger.entry import parse_entry
from tests.fakes.ledger import DIGEST, REGISTRY, TENANT, make_draft, make_entry_id

VISA = "4242424242424242"


@pytest.fixture
def store():
    store = MemoryStore()
    store.add_tenant(TENANT)
    return store


def test_a_row_carries_what_the_store_looks_up_and_the_body_everything() -> None:
    draft = make_draft(subject="sub_1", ref={"order": "o-1", "cart": "o-1", "shop": "s-1"}, idem=bytes(32))
    row = prepare(REGISTRY, "acme", draft, entry_id=make_entry_id(7), fingerprint=bytes(32))
    assert (row.tenant, row.id, row.action, row.subject) == ("acme", make_entry_id(7), draft.action, "sub_1")
    assert row.refs == ("o-1", "s-1"), "each value once"
    assert parse_entry(row.body).ref == draft.ref


@pytest.mark.parametrize(
    "values",
    [
        {"ref": {"order": VISA}},
        {"ref": {"order": f"card_{VISA}"}},
        {"ref": {"order": "4242-4242-4242-4242"}},
        {"data": {"kind": "a", "sha256": DIGEST, "title": "Card 4242 4242 4242 4242"}},
        {"data": {"kind": "a", "sha256": DIGEST, "size_bytes": int(VISA)}},
        {"actor": f"merchant:{VISA}"},
    ],
)
def test_a_card_number_is_never_logged(store, values) -> None:
    with pytest.raises(Rejected) as caught, store.transaction() as tx:
        append(tx, REGISTRY, "acme", make_draft(**values), entry_id=make_entry_id(1))
    assert caught.value.code == "card_number"
    assert "4242" not in str(caught.value)
    assert store.list_pending("acme", 0, 10).entries == []


def test_numbers_that_payments_need_are_logged(store) -> None:
    facts = {
        "record_action": "PAID",
        "recorded_at_s": 1_712_345_678,
        "amount_minor": 4_242_424_242_420,
        "currency": "USD",
        "compliance_status": "PASSED",
    }
    with store.transaction() as tx:
        append(tx, REGISTRY, "acme", make_draft(action="record.logged", data=facts), entry_id=make_entry_id(1))
        token = make_draft(
            action="token.issued", data={"token": "t", "scopes": "s", "expires_at_ms": 1_712_345_678_903}
        )
        append(tx, REGISTRY, "acme", token, entry_id=make_entry_id(2))
    assert len(store.list_pending("acme", 0, 10).entries) == 2


def test_an_entry_goes_with_the_transaction_it_records(store) -> None:
    def fail_after_append() -> None:
        with store.transaction() as tx:
            append(tx, REGISTRY, "acme", make_draft(), entry_id=make_entry_id(1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_append()
    assert store.list_pending("acme", 0, 10).entries == []
