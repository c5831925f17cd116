"""The machine underneath fails: a full disk, a clock that steps back, a database that goes away and comes back."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import threading
import time
from collections.abc import Sized
from contextlib import closing

import pytest

from app.adapters.anchor_file import AnchorUnavailableError, FileAnchor
from app.adapters.sql.migrate import upgrade
from app.adapters.sql.store import SqlStore
from app.errors import Unavailable
from app.ledger.group import GroupCommit
from app.ledger.ports import Tenant
from app.ledger.prove import Prover
from app.ledger.publish import Sequencer
from app.ledger.sequence import SequencerLoop
from app.ledger.wait import PublicationWatch
from app.tlog.receipt import parse_receipt, verify_receipt
from app.tlog.tree import leaf_hash
from app.wiring import new_entry_id
from tests.fakes.ledger import START_MS, TENANT, Keys, MemoryAnchor, append_rows, make_row, make_trust
from tests.fakes.ledger_stores import KINDS, any_store, sqlite_url
from tests.parts.postgres import running_postgres

PATIENCE_S = 60.0
KIB = 1024


def publish(store, anchor) -> int:
    with Sequencer(store=store, tenant=TENANT, anchor=anchor, keyring=Keys()) as sequencer:
        while sequencer.step():
            pass
        return sequencer.head.size


def in_child(work, *arguments) -> list[object]:
    """Return what `work(say, …)` said in a process of its own, whose limits end with it."""
    processes = multiprocessing.get_context("forkserver")
    receiver, sender = processes.Pipe(duplex=False)
    child = processes.Process(target=_run_child, args=(sender, work, arguments))
    child.start()
    sender.close()
    said: list[object] = []
    try:
        while receiver.poll(PATIENCE_S):
            said.append(receiver.recv())
    except EOFError:
        pass
    child.join(PATIENCE_S)
    assert child.exitcode == 0
    return said


def _run_child(sender, work, arguments) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit fails with EFBIG instead of killing
    work(sender.send, *arguments)
    sender.close()


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def fill_the_disk(say, url: str, anchors) -> None:
    with closing(SqlStore.open(url)) as store:
        anchor = FileAnchor(anchors)
        append_rows(store, [make_row(1, key="first")])
        say(("published", publish(store, anchor)))
        limit_files(600 * KIB)
        number = 1
        while True:
            try:
                append_rows(store, [make_row(number + place + 1) for place in range(100)])
            except Unavailable as error:
                say(("refused", error.code, number))
                break
            number += 100
        limit_files(resource.RLIM_INFINITY)
        append_rows(store, [make_row(10**6)])
        say(("published", publish(store, anchor), number + 1))


def test_a_full_disk_refuses_appends_and_loses_nothing_that_was_acknowledged(tmp_path) -> None:
    url = sqlite_url(tmp_path)
    with closing(SqlStore.open(url)) as store:
        store.add_tenant(TENANT)
    FileAnchor.create(tmp_path / "anchors")
    first, refused, last = in_child(fill_the_disk, url, tmp_path / "anchors")
    assert first == ("published", 1)
    assert refused[:2] == ("refused", "store_unavailable")
    assert refused[2] > 1, "some were taken"
    assert last[1] == last[2], "exactly those that were acknowledged, and the one after"


def fill_the_disk_of_the_anchor(say, url: str, anchors) -> None:
    with closing(SqlStore.open(url)) as store:
        anchor = FileAnchor(anchors)
        append_rows(store, [make_row(1)])
        say(publish(store, anchor))
        before = anchor.find(TENANT.origin)
        append_rows(store, [make_row(2)])
        with Sequencer(store=store, tenant=TENANT, anchor=anchor, keyring=Keys()) as sequencer:
            sequencer._integrate()
            limit_files(16)
            try:
                sequencer._publish()
            except AnchorUnavailableError:
                say("refused")
            limit_files(resource.RLIM_INFINITY)
        say(anchor.find(TENANT.origin) == before)
        say(b"\n1\n" in (store.find_checkpoint(TENANT.id) or b""))
        say(publish(store, anchor))


def test_an_anchor_that_cannot_be_written_exposes_nothing(tmp_path) -> None:
    url = sqlite_url(tmp_path)
    with closing(SqlStore.open(url)) as store:
        store.add_tenant(TENANT)
    FileAnchor.create(tmp_path / "anchors")
    said = in_child(fill_the_disk_of_the_anchor, url, tmp_path / "anchors")
    assert said == [1, "refused", True, True, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_steps_back_changes_neither_order_nor_proofs(kind, request) -> None:
    with any_store(kind, request) as store:
        store.add_tenant(TENANT)
        times = [START_MS, START_MS + 3_600_000, START_MS - 3_600_000, START_MS, 0, 2**48 - 1, START_MS]
        rows = [make_row(number, time_ms=time_ms) for number, time_ms in enumerate(times)]
        results = [append_rows(store, [row])[0] for row in rows]
        assert [result.seq for result in results] == sorted(result.seq for result in results)
        assert publish(store, MemoryAnchor()) == len(times)
        prover = Prover(store)
        published = prover.read_published(TENANT.id)
        for index, row in enumerate(rows):
            receipt = parse_receipt(prover.receipt(TENANT.id, index, row.body, published))
            verify_receipt(receipt, leaf_hash(row.body), make_trust())


def test_ids_made_while_the_clock_stands_or_steps_back_are_unlike() -> None:
    ids = [new_entry_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)


class Callers:
    """Clients that ask again under the same key until they are answered; where they were told their entries are."""

    def __init__(self, group: GroupCommit) -> None:
        self._group = group
        self._stop = threading.Event()
        self.answered: dict[str, int] = {}
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(4)]

    def _run(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            key = f"k{number}.{count}"
            row = make_row(number * 10**6 + count, key=key, ref={"order": key})
            try:
                _, position = self._group.append_and_wait(row, timeout_s=PATIENCE_S)
            except Unavailable:
                self._stop.wait(0.05)
                continue
            assert position is not None
            self.answered[key] = position.index
            count += 1

    def stop(self) -> None:
        self._stop.set()
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@pytest.mark.slow
def test_a_database_that_goes_away_under_load_and_comes_back_loses_nothing(postgres_bin, tmp_path) -> None:
    anchor = FileAnchor.create(tmp_path / "anchors")

    def build(tenant: Tenant) -> Sequencer:
        return Sequencer(store=store, tenant=tenant, anchor=anchor, keyring=Keys())

    with (
        running_postgres(bin_dir=postgres_bin) as server,
        closing(SqlStore.open(server.create_database(upgrade))) as store,
    ):
        store.add_tenant(TENANT)
        loop, stop = SequencerLoop(store=store, open_sequencer=build), threading.Event()
        watch = PublicationWatch(store, Prover(store))
        group = GroupCommit(store, watch)
        callers = Callers(group)
        sequencing = threading.Thread(target=loop.run, args=(stop,))
        for thread in (sequencing, *callers.threads):
            thread.start()
        try:
            for outage_s in (0.0, 0.3, 1.5):
                _until_more(callers.answered, 20)
                server.crash()
                time.sleep(outage_s)
                server.start()
            _until_more(callers.answered, 20)
        finally:
            callers.stop()
            stop.set()
            sequencing.join(PATIENCE_S)
            group.close()
            watch.close()
        assert loop.halted == {}
        bodies = store.list_bodies(TENANT.id, 0, publish(store, anchor))
    assert all(f'"order":"{key}"'.encode() in bodies[index] for key, index in callers.answered.items())
    assert len(set(callers.answered.values())) == len(callers.answered)


def _until_more(seen: Sized, count: int) -> None:
    enough, deadline = len(seen) + count, time.monotonic() + PATIENCE_S
    while len(seen) < enough:
        assert time.monotonic() < deadline
        time.sleep(0.01)
