"""What only SQLite can do to a ledger: one writer, one file, one disk."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.adapters.sql.engine import open_engine, reading, writing
from app.adapters.sql.migrate import upgrade
from app.adapters.sql.store import SqlStore
from app.errors import Broken, Malformed, Unavailable
from app.ledger.ports import NotLeaderError, Tenant
from tests.contract.ledger_store_contract import PATIENCE_S, append, make_row

A = Tenant(id="a", origin="log.example/a")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    upgrade(f"sqlite:///{tmp_path}/ledger.db")
    return tmp_path / "ledger.db"


@pytest.fixture
def store(path):
    store = SqlStore.open(f"sqlite:///{path}")
    store.add_tenant(A)
    yield store
    store.close()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("recursive_triggers", 1),
        ("trusted_schema", 0),
    ],
)
def test_every_connection_is_durable_and_strict(store, pragma, value):
    with writing(store._engine) as first, reading(store._engine) as second:
        for connection in (first, second):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y", "nonsense", "postgresql+asyncpg://x"]
)
def test_a_url_that_no_ledger_can_live_at_is_refused(url):
    with pytest.raises(Malformed, match="use sqlite:///FILE or postgresql://"):
        open_engine(url)


def test_numbers_have_no_gaps_and_are_not_used_again_after_a_rollback_that_nobody_saw(store):
    [first] = append(store, make_row())
    with pytest.raises(ZeroDivisionError), store.transaction() as tx:  # noqa: PT012 - the number has to be drawn first
        tx.append_entries([make_row()])
        raise ZeroDivisionError
    assert store.list_pending("a", 0, 9).settled_seq == first.seq
    [second] = append(store, make_row())
    assert second.seq == first.seq + 1


def test_threads_queue_for_the_writer_and_all_get_their_turn(store):
    together = threading.Barrier(16)

    def run():
        together.wait(PATIENCE_S)
        return [append(store, make_row())[0].seq for _ in range(20)]

    with ThreadPoolExecutor(16) as pool:
        seqs = [seq for future in [pool.submit(run) for _ in range(16)] for seq in future.result(PATIENCE_S)]
    assert sorted(seqs) == list(range(1, 321))


def test_readers_do_not_wait_for_the_writer(store):
    with store.transaction() as tx:
        tx.append_entries([make_row()])
        assert store.list_tenants() == [A]
        assert store.list_pending("a", 0, 9).entries == []


def test_a_file_that_another_process_locks_is_unavailable_and_recovers(store, path):
    other = sqlite3.connect(path, isolation_level=None)
    with reading(store._engine) as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 20")  # the pool's only connection: the test need not wait
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable) as caught:
        append(store, make_row())
    assert caught.value.code == "store_unavailable"
    other.execute("ROLLBACK")
    other.close()
    append(store, make_row())


def test_a_full_disk_is_unavailable_loses_nothing_and_recovers(store):
    kept = append(store, make_row())
    with reading(store._engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable):
        append(store, *[make_row(body=bytes(4000)) for _ in range(50)])
    assert [entry.seq for entry in store.list_pending("a", 0, 99).entries] == [kept[0].seq]
    with reading(store._engine) as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 10_000}")
    assert len(append(store, *[make_row(body=bytes(4000)) for _ in range(50)])) == 50


def test_a_damaged_file_is_broken(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    store = SqlStore.open(f"sqlite:///{tmp_path}/ledger.db")
    with pytest.raises(Broken) as caught:
        store.list_tenants()
    assert caught.value.code == "store_broken"
    store.close()


def test_a_missing_directory_is_unavailable(tmp_path):
    store = SqlStore.open(f"sqlite:///{tmp_path}/none/ledger.db")
    with pytest.raises(Unavailable):
        store.list_tenants()
    with pytest.raises(Unavailable), store.sequencer_lock("a"):
        pass
    store.close()


def test_the_sequencer_lock_holds_between_processes_and_dies_with_them(store, path):
    code = (
        "import sys; from app.adapters.sql.store import SqlStore\n"
        f"with SqlStore.open('sqlite:///{path}').sequencer_lock('a'): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(NotLeaderError), store.sequencer_lock("a"):
        pass
    holder.kill()
    holder.communicate(timeout=PATIENCE_S)
    with store.sequencer_lock("a"):
        pass


def test_an_append_in_another_process_wakes_the_sequencer(store, path):
    store.wait_for_append(0)
    code = (
        "from app.adapters.sql.store import SqlStore\n"
        "from tests.contract.ledger_store_contract import append, make_row\n"
        f"append(SqlStore.open('sqlite:///{path}'), make_row())"
    )
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait_for_append, PATIENCE_S * 2)
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        waiting.result(PATIENCE_S)
    assert len(store.list_pending("a", 0, 9).entries) == 1
