"""Waiting for publication: nobody waits in vain, nobody is forgotten, nothing leaks."""

from __future__ import annotations

import threading
import time

import pytest

from app.errors import Unavailable
from app.ledger import wait as module
from app.ledger.prove import Prover
from app.ledger.wait import PublicationWatch
from tests.fakes.ledger import OTHER, TENANT, World, append_rows, make_row
from tests.unit.ledger.conftest import PATIENCE_S, until

SHORT_S = 0.05
TENANT_ID = TENANT.id


class Reader:
    """The world's store, which can be away, and whose next answer can be held up."""

    def __init__(self, store) -> None:
        self._store = store
        self.away = False
        self.asked = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def list_published(self, *arguments):
        self.asked += 1
        if self.away:
            raise Unavailable("the database is away")
        return self._store.list_published(*arguments)


@pytest.fixture
def reader(world):
    return Reader(world.store)


@pytest.fixture
def watch(reader, monkeypatch):
    monkeypatch.setattr(module, "POLL_S", 0.02)
    monkeypatch.setattr(module, "EXPIRE_EVERY_S", 0.01)
    watch = PublicationWatch(reader, Prover(reader))
    yield watch
    watch.close()


def assert_nobody_waits(watch) -> None:
    assert watch._waiting == 0
    assert not any(watch._waiters.values())


def test_who_waits_is_answered_with_index_and_checkpoint(world, watch, callers) -> None:
    results = world.append(1, 2, 3)
    waits = [callers.submit(watch.wait, TENANT_ID, r.seq, timeout_s=PATIENCE_S) for r in results]
    world.publish()
    positions = [wait.result(PATIENCE_S) for wait in waits]
    assert [position.index for position in positions] == [0, 1, 2]
    assert {position.published.size for position in positions} == {3}
    assert_nobody_waits(watch)


def test_a_publication_between_append_and_wait_is_not_missed(world, watch, monkeypatch) -> None:
    monkeypatch.setattr(module, "POLL_S", PATIENCE_S)
    until(lambda: world.store._exposed._waiters)
    for number in range(1, 200):
        (result,) = world.append(number)
        world.publish()
        position = watch.wait(TENANT_ID, result.seq, timeout_s=PATIENCE_S)
        assert position is not None
        assert position.index == number - 1


def test_no_wake_up_is_lost_between_many_callers_and_a_busy_sequencer(world, watch, callers) -> None:
    stop = threading.Event()

    def publish() -> None:
        with world.sequencer() as sequencer:
            while not stop.is_set():
                sequencer.step()

    def call(number: int):
        (result,) = world.append(number)
        return watch.wait(TENANT_ID, result.seq, timeout_s=PATIENCE_S)

    publishing = callers.submit(publish)
    try:
        positions = list(callers.map(call, range(1, 400)))
    finally:
        stop.set()
    publishing.result(PATIENCE_S)
    assert sorted(position.index for position in positions) == list(range(399))
    assert_nobody_waits(watch)


def test_who_waits_in_vain_is_let_go_after_the_timeout(world, watch) -> None:
    (result,) = world.append(1)
    started_s = time.monotonic()
    assert watch.wait(TENANT_ID, result.seq, timeout_s=SHORT_S) is None
    assert SHORT_S <= time.monotonic() - started_s < PATIENCE_S
    assert_nobody_waits(watch)


def test_of_many_all_are_told_once_the_last_is_published(world, watch, callers) -> None:
    results = world.append(1, 2, 3)
    seqs = [result.seq for result in results]
    wait = callers.submit(watch.wait_for_all, TENANT_ID, seqs, timeout_s=PATIENCE_S)
    until(lambda: watch._waiting == 1)
    assert not wait.done()
    world.publish()
    assert wait.result(PATIENCE_S) == {seq: index for index, seq in enumerate(seqs)}
    assert watch.wait_for_all(TENANT_ID, [], timeout_s=PATIENCE_S) == {}
    assert_nobody_waits(watch)


def test_of_many_those_are_told_that_are_published_in_time(world, watch) -> None:
    (unsigned,) = world.append(1)
    assert watch.wait_for_all(TENANT_ID, [unsigned.seq], timeout_s=SHORT_S) == {}
    world.publish()
    world.faults.plan["expose.before"] = 0
    (hidden,) = world.append(2)
    with pytest.raises(Unavailable):
        world.publish()
    assert watch.wait_for_all(TENANT_ID, [unsigned.seq, hidden.seq], timeout_s=SHORT_S) == {unsigned.seq: 0}


def test_an_entry_that_is_integrated_and_not_yet_exposed_is_waited_for(world, watch, callers) -> None:
    (result,) = world.append(1)
    world.faults.plan["expose.before"] = 0
    with pytest.raises(Unavailable):
        world.publish()
    assert world.store.read_head(TENANT_ID).size == 1
    wait = callers.submit(watch.wait, TENANT_ID, result.seq, timeout_s=PATIENCE_S)
    until(lambda: watch._waiting == 1)
    assert not wait.done()
    world.publish()
    assert wait.result(PATIENCE_S).index == 0


def test_of_two_who_wait_for_one_entry_the_impatient_one_does_not_take_the_other_with_it(world, watch, callers) -> None:
    (result,) = world.append(1)
    patient = [callers.submit(watch.wait, TENANT_ID, result.seq, timeout_s=PATIENCE_S) for _ in range(5)]
    until(lambda: watch._waiting == 5)
    assert watch.wait(TENANT_ID, result.seq, timeout_s=SHORT_S) is None
    world.publish()
    assert {wait.result(PATIENCE_S).index for wait in patient} == {0}
    assert_nobody_waits(watch)


def test_a_replay_of_a_published_entry_is_answered_at_the_next_look(world, watch) -> None:
    (result,) = world.append(1)
    world.publish()
    position = watch.wait(TENANT_ID, result.seq, timeout_s=PATIENCE_S)
    assert position is not None


def test_a_store_that_was_away_answers_when_it_is_back(world, reader, watch, callers) -> None:
    reader.away = True
    (result,) = world.append(1)
    wait = callers.submit(watch.wait, TENANT_ID, result.seq, timeout_s=PATIENCE_S)
    world.publish()
    until(lambda: reader.asked > 2)
    assert not wait.done()
    reader.away = False
    assert wait.result(PATIENCE_S).index == 0


def test_one_more_than_may_wait_is_told_at_once_to_come_back_whatever_its_tenant(
    world, watch, callers, monkeypatch
) -> None:
    monkeypatch.setattr(module, "WAITERS_LIMIT", 3)
    world.store.add_tenant(OTHER)
    results = world.append(1, 2)
    (other,) = append_rows(world.store, [make_row(3, OTHER.id)])
    waits = [
        callers.submit(watch.wait, tenant, seq, timeout_s=PATIENCE_S)
        for tenant, seq in [(TENANT_ID, results[0].seq), (TENANT_ID, results[0].seq), (OTHER.id, other.seq)]
    ]
    until(lambda: watch._waiting == 3)
    started_s = time.monotonic()
    assert watch.wait(TENANT_ID, results[1].seq, timeout_s=PATIENCE_S) is None
    assert time.monotonic() - started_s < PATIENCE_S / 2
    with pytest.raises(Unavailable) as caught:
        watch.require_room()
    assert caught.value.code == "overloaded"
    world.publish()
    assert waits[0].result(PATIENCE_S).index == waits[1].result(PATIENCE_S).index == 0
    until(lambda: watch._waiting == 1)
    assert watch.wait(TENANT_ID, results[1].seq, timeout_s=PATIENCE_S).index == 1
    append_rows(world.store, [make_row(4, OTHER.id)])
    World(tenant=OTHER).publish()  # another store: nobody here hears of it
    assert not waits[2].done()
    with _sequencer_of_other(world) as sequencer:
        sequencer.step()
    assert waits[2].result(PATIENCE_S).index == 0
    assert_nobody_waits(watch)


def _sequencer_of_other(world):
    twin = World(tenant=OTHER)
    return twin.sequencer(store=world.store)


def test_timeouts_that_race_with_answers_leave_nobody_behind(world, watch, callers) -> None:
    stop = threading.Event()

    def publish() -> None:
        with world.sequencer() as sequencer:
            while not stop.wait(0.001):
                sequencer.step()

    def call(number: int):
        (result,) = world.append(number)
        return result.seq, watch.wait(TENANT_ID, result.seq, timeout_s=0.0005 * (number % 20))

    publishing = callers.submit(publish)
    try:
        answers = list(callers.map(call, range(1, 400)))
    finally:
        stop.set()
    publishing.result(PATIENCE_S)
    known = world.store.list_positions(TENANT_ID, [seq for seq, _ in answers])
    assert all(position is None or known[seq] == position.index for seq, position in answers)
    assert_nobody_waits(watch)


def test_closing_lets_go_of_those_who_wait(world, reader, callers) -> None:
    watch = PublicationWatch(reader, Prover(reader))
    (result,) = world.append(1)
    wait = callers.submit(watch.wait, TENANT_ID, result.seq, timeout_s=PATIENCE_S)
    until(lambda: watch._waiting == 1)
    watch.close()
    assert wait.result(PATIENCE_S / 2) is None
    assert_nobody_waits(watch)


def test_a_bug_in_the_store_s_answer_does_not_end_the_answering(world, reader, watch, callers, monkeypatch) -> None:
    (result,) = world.append(1)
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "list_published", lambda *_: 1 / 0)
        wait = callers.submit(watch.wait, TENANT_ID, result.seq, timeout_s=PATIENCE_S)
        world.publish()
        time.sleep(0.1)
        assert not wait.done()
    assert wait.result(PATIENCE_S).index == 0


def test_closing_stops_the_threads(world, reader, monkeypatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.02)
    before = set(threading.enumerate())
    watch = PublicationWatch(reader, Prover(reader))
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    watch.close()
    for thread in started:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
