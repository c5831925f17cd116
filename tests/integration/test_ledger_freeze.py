"""Freezing a log while others append: `log.frozen` is the last entry, and nobody told "appended" is left out."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.adapters.sql.engine import open_engine
from app.adapters.sql.store import SqlStore
from app.errors import Rejected, Unavailable
from app.ledger.freeze import freeze
from app.ledger.ports import LogFrozenError
from app.ledger.publish import Sequencer
from tests.fakes.ledger import (
    OTHER,
    REGISTRY,
    TENANT,
    Keys,
    MemoryAnchor,
    append_rows,
    make_entry_id,
    make_row,
)
from tests.fakes.ledger_stores import DURABLE, KINDS, any_store, database, opened
from tests.parts.assay import wait_until

PATIENCE_S = 30.0
APPENDERS = 6
LAST = 10**9


def end(store, *, number=LAST, reason="ended"):
    return freeze(store, REGISTRY, TENANT.id, reason=reason, entry_id=make_entry_id(number))


def publish(store, tenant=TENANT) -> int:
    with Sequencer(store=store, tenant=tenant, anchor=MemoryAnchor(), keyring=Keys()) as sequencer:
        while sequencer.step():
            pass
        return sequencer.head.size


@pytest.fixture(params=KINDS)
def store(request):
    with any_store(request.param, request) as store:
        for tenant in (TENANT, OTHER):
            store.add_tenant(tenant)
        yield store


@pytest.fixture(params=DURABLE)
def url(request):
    with database(request.param, request) as url:
        with opened(url) as store:
            store.add_tenant(TENANT)
        yield url


@pytest.fixture
def threads():
    with ThreadPoolExecutor(APPENDERS + 2) as pool:
        yield pool


def test_log_frozen_is_the_last_entry_however_many_append_meanwhile(store, threads) -> None:
    acknowledged: list[int] = []
    numbers = itertools.count(1)

    def append_until_refused() -> None:
        while True:
            try:
                acknowledged.append(append_rows(store, [make_row(next(numbers))])[0].seq)
            except LogFrozenError:
                return

    appending = [threads.submit(append_until_refused) for _ in range(APPENDERS)]
    wait_until(lambda: len(acknowledged) > 5 * APPENDERS, PATIENCE_S, poll_s=0.002)
    last = end(store)
    for future in appending:
        future.result(PATIENCE_S)
    assert max(acknowledged) < last.seq
    assert publish(store) == len(acknowledged) + 1
    assert len(store.list_positions(TENANT.id, acknowledged)) == len(acknowledged)
    assert store.list_positions(TENANT.id, [last.seq]) == {last.seq: len(acknowledged)}
    assert store.list_pending(TENANT.id, 0, 10).entries == []
    assert store.read_head(TENANT.id).frozen


def test_a_frozen_log_takes_nothing_more_and_freezes_once(store) -> None:
    append_rows(store, [make_row(1, key="k")])
    end(store)
    with pytest.raises(LogFrozenError):
        append_rows(store, [make_row(2)])
    with pytest.raises(LogFrozenError):
        end(store, number=LAST + 1)
    assert append_rows(store, [make_row(3, key="k")])[0].replayed, "what stands is still found by its key"
    assert publish(store) == 2
    assert store.find_tenant(TENANT.id).frozen
    with pytest.raises(LogFrozenError):
        append_rows(store, [make_row(2)])


def test_freezing_one_log_leaves_the_others_open(store) -> None:
    end(store)
    assert append_rows(store, [make_row(1, OTHER.id)])
    assert publish(store, OTHER) == 1
    assert not store.find_tenant(OTHER.id).frozen


def test_a_bad_reason_freezes_nothing(store) -> None:
    with pytest.raises(Rejected):
        end(store, reason="Because I say so")
    assert append_rows(store, [make_row(1)])


def test_freezing_waits_for_whoever_is_appending(store, threads) -> None:
    inside, leave = threading.Event(), threading.Event()

    def append_slowly() -> int:
        with store.transaction() as tx:
            [result] = tx.append_entries([make_row(1)])
            inside.set()
            assert leave.wait(PATIENCE_S)
            return result.seq

    slow = threads.submit(append_slowly)
    assert inside.wait(PATIENCE_S)
    ending = threads.submit(end, store)
    time.sleep(0.1)
    assert not ending.done()
    leave.set()
    assert slow.result(PATIENCE_S) < ending.result(PATIENCE_S).seq
    assert publish(store) == 2


def test_another_process_sees_the_end_at_once(url) -> None:
    with opened(url) as one, opened(url) as two:
        append_rows(two, [make_row(1)])
        end(one)
        with pytest.raises(LogFrozenError):
            append_rows(two, [make_row(2)])


@pytest.mark.parametrize("kind", ["postgres"])
def test_a_freeze_that_cannot_wait_so_long_changes_nothing(kind, request, threads) -> None:
    with database(kind, request) as url, opened(url) as store:
        store.add_tenant(TENANT)
        hasty = SqlStore(open_engine(url, lock_timeout_ms=100))
        with store.transaction() as tx:
            tx.append_entries([make_row(1)])
            with pytest.raises(Unavailable):
                end(hasty)
        hasty.close()
        assert append_rows(store, [make_row(2)])
        assert publish(store) == 2
        assert not store.read_head(TENANT.id).frozen
