"""PostgreSQL tells listeners what is placed and exposed, so that an answer with its receipt asks it nothing more."""

from __future__ import annotations

import pytest

from app.adapters.sql.store import SqlStore
from app.ledger.group import GroupCommit
from app.ledger.ports import Exposed, LostSwapError, Placed, Run
from app.ledger.prove import Prover
from app.ledger.publish import Sequencer
from app.ledger.wait import PublicationWatch
from app.tlog.receipt import parse_receipt, verify_receipt
from app.tlog.tree import leaf_hash
from tests.contract.ledger_store_contract import PATIENCE_S, Waiting, append, grown, integrate_pending
from tests.contract.ledger_store_contract import make_row as contract_row
from tests.fakes.ledger import TENANT, Keys, MemoryAnchor, make_row, make_trust
from tests.fakes.ledger_stores import database, opened
from tests.parts.assay import wait_until


@pytest.fixture
def url(request):
    with database("postgresql", request) as url:
        yield url


@pytest.fixture
def store(url):
    with opened(url) as store:
        store.add_tenant(TENANT)
        yield store


def test_listeners_hear_what_is_placed_then_the_checkpoint_and_nothing_of_a_lost_swap(url, store) -> None:
    heard = store.publications(PATIENCE_S)
    assert next(heard) is None
    results = append(store, *(contract_row(TENANT.id) for _ in range(3)))
    first = results[0].seq
    lost = grown(store, [result.seq for result in results], tenant=TENANT.id)
    integrate_pending(store, TENANT.id)
    leaves = store.read_tile(TENANT.id, 0, 0, 3)
    assert next(heard) == Placed(TENANT.id, 3, (Run(first, 0, 3),), leaves)
    with pytest.raises(LostSwapError):
        store.integrate(lost)
    store.expose(TENANT.id, 3, b"note")
    assert next(heard) == Exposed(TENANT.id, b"note")
    heard.close()


def test_a_receipt_is_answered_without_another_question(url, store, monkeypatch) -> None:
    monkeypatch.setattr("app.ledger.wait.POLL_S", PATIENCE_S)
    prover = Prover(store, lambda _tenant: Keys().known(TENANT))
    watch = PublicationWatch(store, prover)
    group = GroupCommit(store, watch)
    asked = []
    real = SqlStore.list_published
    monkeypatch.setattr(SqlStore, "list_published", lambda *given: asked.append(given) or real(*given))
    with (
        opened(url) as sequencing,
        Sequencer(store=sequencing, tenant=TENANT, anchor=MemoryAnchor(), keyring=Keys()) as sequencer,
    ):
        for number in range(1, 20):
            row = make_row(number)
            waiting = Waiting(lambda row=row: group.append_and_wait(row, timeout_s=PATIENCE_S))
            wait_until(sequencer.step, PATIENCE_S, poll_s=0)
            result, position = waiting.result()
            receipt = prover.receipt(TENANT.id, position.index, row.body, position.published)
            verify_receipt(parse_receipt(receipt), leaf_hash(row.body), make_trust())
            assert position.index == number - 1
            assert result.seq
    assert len(asked) <= 2, "of the first, the listener may not have heard"
    group.close()
    watch.close()
