"""Transactions for entries alone, on both databases: they end as any other, and a lost connection is replaced."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from app.errors import Broken, Unavailable
from app.ledger.ports import LogFrozenError, Tenant
from tests.contract.ledger_store_contract import PATIENCE_S, Undo, keyed, make_row
from tests.fakes.ledger_stores import DURABLE, any_store


@pytest.fixture(params=DURABLE)
def store(request):
    with any_store(request.param, request) as store:
        store.add_tenant(Tenant(id="a", origin="log.example/a"))
        store.add_tenant(Tenant(id="f", origin="log.example/f", frozen=True))
        yield store


def append(store, *rows):
    with store.appending() as tx:
        return tx.append_entries(rows)


def count(store):
    return len(store.list_pending("a", 0, 1000).entries)


def test_entries_are_durable_and_the_sequencer_hears_of_them(store):
    store.wait_for_append(0)
    first = append(store, make_row(), keyed(b"k"))
    assert store.wait_for_append(PATIENCE_S, rows=1) == 2, "how many is told"
    again = append(store, keyed(b"k"))
    assert store.wait_for_append(0.05, rows=1) == 0, "nothing is new"
    assert [result.replayed for result in again] == [True]
    assert again[0].id == first[1].id
    assert count(store) == 2


def test_an_error_inside_leaves_nothing_and_the_next_one_is_not_held_up(store):
    for error in (Undo, KeyboardInterrupt):
        with pytest.raises(error), store.appending() as tx:  # noqa: PT012 - the rows have to be there first
            tx.append_entries([make_row()])
            raise error
    append(store, make_row())
    assert count(store) == 1


def test_nothing_is_committed_after_a_refusal_that_was_caught(store):
    with pytest.raises(LogFrozenError), store.appending() as tx:  # noqa: PT012 - the rows have to be there first
        tx.append_entries([make_row()])
        with pytest.raises(LogFrozenError):
            tx.append_entries([make_row("f")])
    assert count(store) == 0
    append(store, make_row())
    assert count(store) == 1


def test_several_append_at_once(store):
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: append(store, make_row(), make_row()), range(40)))
    assert len({result.seq for results in done for result in results}) == 80
    assert count(store) == 80


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_whoever_finds_the_connection_taken_is_heard_too(store):
    store.wait_for_append(0)
    with store.appending(), store.appending() as tx:
        tx.append_entries([make_row(), make_row(), make_row()])
    assert store.wait_for_append(PATIENCE_S, rows=1) == 3


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_connection_in_an_unknown_state_is_not_used_again(store):
    append(store, make_row())
    kept(store).execute("BEGIN")
    kept(store).execute("CREATE TABLE of_somebody_else (n int)")
    append(store, make_row())
    assert store._backend.ask_watching("SELECT to_regclass('of_somebody_else')") == [(None,)]
    kept(store).close()
    append(store, make_row())
    assert count(store) == 3


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_connection_that_the_server_ended_is_replaced(store):
    append(store, make_row())
    end(store, kept(store))
    append(store, make_row())
    with pytest.raises(Unavailable), store.appending() as tx:  # noqa: PT012 - the rows have to be there first
        tx.append_entries([make_row()])
        end(store, kept(store))
    append(store, make_row())
    assert count(store) == 3


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    "telling",
    ["SELECT 1 / 0 WHERE %b <> ''", "INSERT INTO twice SELECT 1 FROM generate_series(1, 2) WHERE %b <> ''"],
    ids=["at-once", "at-the-end-of-the-pipeline"],
)
def test_what_is_committed_stands_when_the_sequencer_cannot_be_told(store, monkeypatch, telling):
    store._backend.run_quick("CREATE TABLE twice (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)", ())
    monkeypatch.setattr("app.adapters.sql.appending.APPENDED", telling)
    assert len(append(store, make_row())) == 1
    assert count(store) == 1
    monkeypatch.undo()
    append(store, make_row())
    assert count(store) == 2


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_a_commit_that_the_server_refuses_is_an_error(store):
    store._backend.run_quick("CREATE TABLE twice (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)", ())
    with pytest.raises(Broken, match="UniqueViolation"), store.appending() as tx:  # noqa: PT012 - before the commit
        tx.append_entries([make_row()])
        kept(store).execute("INSERT INTO twice VALUES (1), (1)")
    append(store, make_row())
    assert count(store) == 1


@pytest.mark.parametrize("store", ["postgres"], indirect=True)
def test_an_error_that_was_overlooked_is_not_taken_for_a_commit(store):
    with pytest.raises(Unavailable, match="rolled"), store.appending() as tx:  # noqa: PT012 - before the commit
        tx.append_entries([make_row()])
        with pytest.raises(psycopg.errors.DivisionByZero):
            kept(store).execute("SELECT 1 / 0")
    append(store, make_row())
    assert count(store) == 1


def kept(store):
    return store._backend._appender._driver


def end(store, driver):
    store._backend.ask_watching(f"SELECT pg_terminate_backend({driver.info.backend_pid}, 5000)")
