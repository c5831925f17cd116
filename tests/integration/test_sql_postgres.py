"""What only PostgreSQL can do to a ledger: numbers that commit out of order, servers and queries that hang."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa

from app.adapters.sql import lock
from app.adapters.sql.arrays import pack_bigints, pack_blobs, pack_texts, pack_uuids
from app.adapters.sql.engine import open_dedicated, open_engine, reading, writing
from app.adapters.sql.migrate import upgrade
from app.adapters.sql.store import SqlStore
from app.errors import Unavailable
from app.ledger.ports import Exposed, NotLeaderError, Tenant
from tests.contract.ledger_store_contract import PATIENCE_S, Undo, Waiting, append, grown, keyed, make_row
from tests.fakes.ledger_stores import database, opened
from tests.parts.assay import freeze
from tests.parts.postgres import running_postgres

A = Tenant(id="a", origin="log.example/a")


@pytest.fixture(autouse=True)
def _every_look_is_a_fresh_one(monkeypatch) -> None:
    """Look for what is settled at each call, so that these tests need not wait."""
    monkeypatch.setattr("app.adapters.sql.postgres.HORIZON_EVERY_S", 0.0)


@pytest.fixture
def url(request):
    with database("postgresql", request) as url:
        yield url


@pytest.fixture
def store(url):
    with opened(url) as store:
        store.add_tenant(A)
        yield store


def integrate_all(store):
    """Do as the sequencer does: scan from the settled number, integrate, remember what is settled."""
    head = store.read_head("a")
    pending = store.list_pending("a", head.settled_seq, 1000)
    seqs = [entry.seq for entry in pending.entries]
    store.integrate(grown(store, seqs, settled_seq=max(head.settled_seq, pending.settled_seq)))
    return seqs


# numbers that commit out of order


def test_an_early_number_that_commits_late_is_found(store):
    append(store, make_row())
    integrate_all(store)
    with store.transaction() as slow:
        [early] = slow.append_entries([make_row()])
        for _ in range(3):
            [later] = append(store, make_row())
            assert early.seq < later.seq
            assert integrate_all(store) == [later.seq]
            assert store.read_head("a").settled_seq < early.seq
    assert integrate_all(store) == [early.seq]
    integrate_all(store)
    assert store.read_head("a").settled_seq == later.seq


def test_a_number_that_was_rolled_back_holds_nothing_up(store):
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:  # noqa: PT012 - the number has to be drawn first
        tx.append_entries([make_row()])
        raise ZeroDivisionError
    [result] = append(store, make_row())
    assert integrate_all(store) == [result.seq]
    assert store.read_head("a").settled_seq == result.seq == 2


def test_nothing_is_settled_by_a_sequence_that_was_never_used(store):
    assert store.list_pending("a", 0, 9).settled_seq == 0
    with store.transaction() as slow:
        [first] = slow.append_entries([make_row()])
        assert first.seq == 1
        assert store.list_pending("a", 0, 9).settled_seq == 0
    assert store.list_pending("a", 0, 9).settled_seq == 1


def test_the_newest_transaction_alone_holds_its_number_up(store):
    """No later one has completed then, so that its id is at the snapshot's end and not in its list."""
    append(store, make_row())
    integrate_all(store)
    with store.transaction() as newest:
        [result] = newest.append_entries([make_row()])
        for _ in range(3):
            assert store.list_pending("a", 0, 9).settled_seq < result.seq
    assert store.list_pending("a", 0, 9).settled_seq == result.seq


def test_a_transaction_has_its_id_before_it_draws_a_number(url):
    with psycopg.connect(sa.make_url(url).set(drivername="postgresql").render_as_string(False)) as connection:
        connection.execute("INSERT INTO tenant (id, origin, state) VALUES ('t', 'o', 'open')")
        connection.commit()
        assert connection.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() == (None,)
        insert = """
            WITH nothing AS (INSERT INTO entry (tenant, id, body, action)
                SELECT 't', gen_random_uuid(), '', 'x' WHERE false RETURNING seq) SELECT count(*) FROM nothing"""
        assert connection.execute(insert).fetchone() == (0,)
        assert connection.execute("SELECT pg_current_xact_id_if_assigned()").fetchone() != (None,)


def test_a_batch_draws_its_numbers_once_its_transaction_has_its_id(store):
    with reading(store._engine) as connection:
        connection.exec_driver_sql("CREATE TABLE drawn (number bigint, xid xid8)")
        connection.exec_driver_sql("""
            CREATE FUNCTION note_drawn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO drawn
                SELECT last_value - (NOT is_called)::int, pg_current_xact_id_if_assigned() FROM entry_seq_seq;
                RETURN NULL; END $$""")
        connection.exec_driver_sql(
            "CREATE TRIGGER entry_then BEFORE INSERT ON entry FOR EACH STATEMENT EXECUTE FUNCTION note_drawn()"
        )
        append(store, *[make_row() for _ in range(10)])
        number, xid = connection.exec_driver_sql("SELECT number, xid FROM drawn").one()
    assert number == 0, "none is drawn before the triggers have run"
    assert xid is not None


def test_the_numbers_of_a_batch_are_in_a_row_though_somebody_inserts_meanwhile(store):
    rows = [make_row() for _ in range(100)]
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(Undo), store.transaction() as tx:  # noqa: PT012 - it must have happened meanwhile
            tx.append_entries([rows[50]])
            batch = pool.submit(append, store, *rows)  # waits halfway: will this id be taken?
            wait_until_blocked(store)
            [between] = append(store, make_row())
            raise Undo
        seqs = [result.seq for result in batch.result(PATIENCE_S)]
    assert seqs == list(range(seqs[0], seqs[0] + 100))
    assert between.seq > seqs[-1]


def test_numbers_that_are_not_in_a_row_are_those_of_their_rows(store):
    with reading(store._engine) as connection:  # as if somebody drew every second one
        connection.exec_driver_sql("ALTER SEQUENCE entry_seq_seq INCREMENT BY 2")
    rows = [make_row() for _ in range(300)]
    seqs = [result.seq for result in append(store, *rows)]
    assert seqs == list(range(1, 601, 2))
    assert all(store.find_entry("a", row.id).seq == seq for row, seq in zip(rows[::37], seqs[::37], strict=True))


def test_no_entry_is_lost_under_concurrent_transactions_of_any_length(store):
    """Writers hold their numbers for a while and some give up; every committed entry gets exactly one index."""
    together = threading.Barrier(9)
    committed: set[int] = set()
    lock = threading.Lock()

    def write(worker):
        together.wait(PATIENCE_S)
        for turn in range(25):
            with ExitStack() as open_transactions:
                tx = open_transactions.enter_context(store.transaction())
                seqs = {result.seq for result in tx.append_entries([make_row() for _ in range(worker % 3 + 1)])}
                store.list_positions("a", list(seqs))  # other work in between: numbers stay open for different times
                if (worker + turn) % 5 == 0:
                    tx.connection.rollback()
                    seqs = set()
            with lock:
                committed.update(seqs)

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, worker) for worker in range(8)]
        together.wait(PATIENCE_S)
        found = []
        while not all(writer.done() for writer in writers):
            found += integrate_all(store)
        for writer in writers:
            writer.result()
    found += integrate_all(store)
    assert sorted(found) == sorted(committed)
    assert integrate_all(store) == []


def test_the_settled_number_stops_where_a_page_is_cut(store):
    results = append(store, *[make_row() for _ in range(5)])
    pending = store.list_pending("a", 0, 2)
    assert [entry.seq for entry in pending.entries] == [result.seq for result in results[:2]]
    assert pending.settled_seq == results[1].seq


# waiting for each other


def test_no_plan_is_kept_from_when_the_log_was_small(url, store):
    """Such a plan scanned all leaves for each pending entry: the first large import then timed out, again and again."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    rows = [keyed(b"1"), keyed(b"2")]
    for _ in range(20):  # PostgreSQL keeps a plan from the sixth execution on, psycopg prepares at the sixth
        append(store, *rows)
        integrate_all(store)
        store.find_entry("a", rows[0].id)
    with reading(store._engine) as connection:
        found = connection.exec_driver_sql(
            "SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements"
            " WHERE position('$1' in statement) > 0"
        ).fetchall()
    assert [statement for statement, kept, _ in found if kept] == []
    assert [statement for statement, _, made in found if "FROM entry" in statement and made > 5] != []


def test_a_key_in_flight_is_waited_for_and_free_again_after_a_rollback(store):
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError), store.transaction() as tx:  # noqa: PT012 - both happen while it is open
            tx.append_entries([keyed(b"key")])
            second = pool.submit(append, store, keyed(b"key"))
            wait_until_blocked(store)
            assert not second.done()
            raise ZeroDivisionError
        assert not second.result(PATIENCE_S)[0].replayed


def wait_until_blocked(store):
    deadline_s = time.monotonic() + PATIENCE_S
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while time.monotonic() < deadline_s:
        with reading(store._engine) as connection:
            if connection.exec_driver_sql(waiting).scalar():
                return
    raise AssertionError("nobody waits")


def test_a_lock_that_takes_too_long_is_unavailable(url, store):
    hasty = SqlStore(open_engine(url, lock_timeout_ms=50))
    with store.transaction() as tx:
        tx.append_entries([keyed(b"key")])
        with pytest.raises(Unavailable) as caught:
            append(hasty, keyed(b"key"))
        assert caught.value.code == "store_unavailable"
    assert append(hasty, keyed(b"key"))[0].replayed
    hasty.close()


def test_a_statement_that_takes_too_long_is_unavailable(url):
    engine = open_engine(url, statement_timeout_ms=50)
    with pytest.raises(Unavailable), reading(engine) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(60)")
    engine.dispose()


def test_an_exhausted_pool_is_unavailable_and_recovers(url):
    engine = open_engine(url, pool_size=1, pool_timeout_s=0.05)
    with reading(engine), pytest.raises(Unavailable), writing(engine):
        pass
    with writing(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    engine.dispose()


# arrays


@pytest.mark.parametrize(
    ("packed", "type_", "items"),
    [
        (pack_uuids, "uuid", [UUID(int=n) for n in (0, 1, 2**128 - 1)]),
        (pack_bigints, "bigint", [0, -1, 2**63 - 1, -(2**63)]),
        (pack_blobs, "bytea", [b"", b"\x00", bytes(range(256)) * 300]),
        (pack_texts, "text", ["", None, "same", "same", "\u00e9\U0001f600", None]),
        (pack_texts, "text", [None, None]),
        (pack_blobs, "bytea", []),
    ],
)
def test_an_array_arrives_as_it_was_packed(store, packed, type_, items):
    assert store._backend.ask_watching(f"SELECT %b::{type_}[]", (packed(items),)) == [(items,)]


# a server that goes away


def test_connections_cut_while_idle_are_replaced_unnoticed(url, store, postgres_server):
    held = [store._engine.connect() for _ in range(4)]
    for connection in held:
        connection.close()
    cut_connections(url)
    for _ in range(5):
        assert store.list_tenants() == [A]


def cut_connections(url):
    cut = """SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()"""
    with psycopg.connect(sa.make_url(url).set(drivername="postgresql").render_as_string(False)) as admin:
        admin.execute(cut)


def test_a_transaction_that_is_cut_is_unavailable_and_leaves_nothing(url, store):
    with pytest.raises(Unavailable), store.transaction() as tx:  # noqa: PT012 - the cut comes between
        tx.append_entries([make_row()])
        cut_connections(url)
        tx.append_entries([make_row()])
    assert store.list_pending("a", 0, 9).entries == []
    append(store, make_row())
    assert len(store.list_pending("a", 0, 9).entries) == 1


def test_a_commit_that_is_cut_is_unavailable(url, store):
    with pytest.raises(Unavailable), store.transaction() as tx:  # noqa: PT012 - the cut comes between
        tx.append_entries([make_row()])
        cut_connections(url)
    assert store.list_pending("a", 0, 9).entries == []


def test_waiters_and_listeners_listen_again_after_a_cut(url, store):
    store.wait_for_append(0)
    heard = store.publications(PATIENCE_S)
    next(heard)
    append(store, make_row())
    store.wait_for_append(PATIENCE_S)

    cut_connections(url)
    store.wait_for_append(PATIENCE_S)  # notices
    store.wait_for_append(PATIENCE_S)  # listens again, and returns since it was away
    waiting = Waiting(lambda: store.wait_for_append(PATIENCE_S * 2))
    append(store, make_row())  # its wake-up may be lost with the connection that sends it
    append(store, make_row())
    waiting.result()
    assert [next(heard), next(heard)] == [None, None]
    store.expose("a", 1, b"note")
    assert next(heard) == Exposed("a", b"note")
    heard.close()


def test_a_lost_lock_can_be_taken_by_another(url, store):
    peer = SqlStore.open(url)
    with store.sequencer_lock("a"):
        with pytest.raises(NotLeaderError), peer.sequencer_lock("a"):
            pass
        cut_connections(url)
        with peer.sequencer_lock("a"):
            pass
    peer.close()


ADVISORY_LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"


def test_the_lock_is_free_before_its_session_has_ended(store, monkeypatch):
    """A server ends a session when it comes to it: whoever takes the log up next must not have to wait for that."""
    driver = open_dedicated(store._engine)
    monkeypatch.setattr(lock, "open_dedicated", lambda _: driver)
    monkeypatch.setattr(lock, "closing", nullcontext)
    with store.sequencer_lock("a"):
        assert driver.execute(ADVISORY_LOCKS).fetchone() == (1,)
    assert driver.execute(ADVISORY_LOCKS).fetchone() == (0,)
    driver.close()


@pytest.mark.slow
def test_the_next_call_works_after_the_server_is_back(postgres_bin):
    with running_postgres(bin_dir=postgres_bin) as server:
        url = server.create_database(upgrade)
        store = SqlStore.open(url)
        store.add_tenant(A)
        kept = [append(store, make_row())[0].seq for _ in range(3)]
        server.crash()
        for call in (store.list_tenants, lambda: append(store, make_row()), lambda: store.list_pending("a", 0, 9)):
            with pytest.raises(Unavailable):
                call()
        server.start()
        assert [entry.seq for entry in store.list_pending("a", 0, 9).entries] == kept
        append(store, make_row())
        store.close()


@pytest.mark.slow
def test_a_server_that_hangs_is_unavailable_in_time(postgres_bin):
    with running_postgres(bin_dir=postgres_bin) as server:
        store = SqlStore(open_engine(server.create_database(upgrade)))
        freeze(server.pid)
        try:
            begun_s = time.monotonic()
            with pytest.raises(Unavailable):
                store.list_tenants()
            assert time.monotonic() - begun_s < 15
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert store.list_tenants() == []
        store.close()
