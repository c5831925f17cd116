"""Appending and waiting for publication in one go: one answer, the right one, whatever becomes of the commit."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from app.errors import Broken, Unavailable
from app.ledger import group as group_module
from app.ledger import wait as module
from app.ledger.group import GroupCommit
from app.ledger.ports import LogFrozenError
from app.ledger.prove import Prover
from app.ledger.wait import PublicationWatch
from tests.fakes.ledger import TENANT, World, make_row
from tests.unit.ledger.conftest import PATIENCE_S, until

SHORT_S = 0.05


class UnclearStore:
    """The world's store, whose commits can fail after they happened."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.after_commit: list[Exception] = []
        self.meanwhile = lambda: None

    def __getattr__(self, name):
        return getattr(self._world.store, name)

    @contextmanager
    def transaction(self):
        with self._world.store.transaction() as tx:
            yield tx
        if self.after_commit:
            self.meanwhile()
            raise self.after_commit.pop()

    appending = transaction


@pytest.fixture
def store(world):
    return UnclearStore(world)


@pytest.fixture
def watch(store, monkeypatch):
    monkeypatch.setattr(module, "POLL_S", 0.02)
    monkeypatch.setattr(module, "EXPIRE_EVERY_S", 0.01)
    watch = PublicationWatch(store, Prover(store))
    yield watch
    assert watch._waiting == 0, "somebody is still on the list"
    assert not any(watch._waiters.values())
    watch.close()


@pytest.fixture
def group(store, watch):
    group = GroupCommit(store, watch)
    yield group
    group.close()


def test_who_comes_while_the_others_wait_for_a_publication_is_not_held_up_for_them(
    world, group, watch, monkeypatch
) -> None:
    """As many as last time will not come: they are in the house."""
    monkeypatch.setattr(group_module, "LINGER_S", PATIENCE_S)
    with ThreadPoolExecutor(4) as callers:
        waits = []
        for number in range(1, 5):
            group._crowd = max(group._crowd, number - 1)  # as if the others had come together
            waits.append(callers.submit(group.append_and_wait, make_row(number), timeout_s=PATIENCE_S))
            until(lambda number=number: watch.waiting == number, PATIENCE_S / 4, what=f"the commit of caller {number}")
        world.publish()
        assert [wait.result(PATIENCE_S)[1].index for wait in waits] == [0, 1, 2, 3]


@pytest.fixture
def publishing(world):
    """A sequencer at work."""
    stop = threading.Event()

    def publish() -> None:
        with world.sequencer() as sequencer:
            while not stop.wait(0.001):
                sequencer.step()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(publish)
        yield
        stop.set()
        future.result(PATIENCE_S)


def test_everyone_gets_the_position_of_their_own_entry(world, group, publishing) -> None:
    with ThreadPoolExecutor(64) as callers:
        answers = list(
            callers.map(lambda number: group.append_and_wait(make_row(number), timeout_s=PATIENCE_S), range(500))
        )
    known = world.store.list_positions(TENANT.id, [result.seq for result, _ in answers])
    assert [position.index for _, position in answers] == [known[result.seq] for result, _ in answers]
    for number, (result, position) in enumerate(answers):
        assert result.id == make_row(number).id
        assert world.store.list_bodies(TENANT.id, position.index, position.index + 1) == [make_row(number).body]


def test_replays_wait_for_the_entry_that_stands(world, group, publishing) -> None:
    with ThreadPoolExecutor(64) as callers:
        answers = list(
            callers.map(
                lambda number: group.append_and_wait(make_row(number, key="same"), timeout_s=PATIENCE_S), range(64)
            )
        )
    assert {position.index for _, position in answers} == {0}
    assert sum(not result.replayed for result, _ in answers) == 1


def test_a_replay_of_a_published_entry_is_answered_without_another_publication(world, group) -> None:
    group.append([make_row(1, key="same")])
    world.publish()
    result, position = group.append_and_wait(make_row(2, key="same"), timeout_s=PATIENCE_S)
    assert result.replayed
    assert position.index == 0


def test_who_waits_in_vain_still_learns_that_the_entry_is_durable(world, group) -> None:
    result, position = group.append_and_wait(make_row(1), timeout_s=SHORT_S)
    assert position is None
    assert world.store.list_pending(TENANT.id, 0, 9).entries[0].seq == result.seq


def test_a_frozen_log_refuses_at_once(world, group) -> None:
    world.store.close_log(make_row(1, action="log.frozen", data={"reason": "ended"}))
    with pytest.raises(LogFrozenError):
        group.append_and_wait(make_row(2), timeout_s=PATIENCE_S)


@pytest.mark.parametrize("error", [Unavailable("the connection broke"), Broken("an odd commit")])
def test_an_unclear_commit_is_an_error_and_the_next_callers_are_served(world, store, group, error) -> None:
    """The row was committed before its commit was reported as failed."""
    store.after_commit.append(error)
    with pytest.raises(type(error)):
        group.append_and_wait(make_row(1, key="k"), timeout_s=PATIENCE_S)
    world.publish()
    result, position = group.append_and_wait(make_row(2, key="k"), timeout_s=PATIENCE_S)
    assert (result.replayed, position.index) == (True, 0)
    assert len(group.append([make_row(number) for number in range(3, 9)])) == 6


def test_who_was_answered_by_a_publication_is_not_told_that_the_commit_failed(world, store, group) -> None:
    store.after_commit.append(Broken("an odd commit"))
    store.meanwhile = lambda: (world.publish(), _let_the_watch_answer(group))
    result, position = group.append_and_wait(make_row(1), timeout_s=PATIENCE_S)
    assert (result.replayed, position.index) == (False, 0)
    assert len(group.append([make_row(2)])) == 1


def test_nobody_is_told_that_an_entry_is_durable_before_it_is(world, store, group) -> None:
    """The commit takes longer than the caller would wait, and then it fails."""
    store.after_commit.append(Broken("an odd commit"))
    store.meanwhile = lambda: time.sleep(4 * SHORT_S)
    with pytest.raises(Broken):
        group.append_and_wait(make_row(1), timeout_s=SHORT_S)


def _let_the_watch_answer(group: GroupCommit) -> None:
    deadline = threading.Event()
    while group._watch._waiting:
        assert not deadline.wait(0.001)


def test_rows_are_tried_apart_only_if_none_can_have_been_committed(store, group) -> None:
    store.after_commit.append(Broken("an odd commit"))
    with pytest.raises(Broken):
        group.append([make_row(1), make_row(2)])
    assert store.after_commit == []
    assert len(store.list_pending(TENANT.id, 0, 9).entries) == 2


def test_one_more_than_may_wait_is_refused_before_anything_is_written(world, group, monkeypatch) -> None:
    monkeypatch.setattr(module, "WAITERS_LIMIT", 0)
    with pytest.raises(Unavailable):
        group.append_and_wait(make_row(1), timeout_s=PATIENCE_S)
    assert world.store.list_pending(TENANT.id, 0, 9).entries == []
