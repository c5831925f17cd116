"""Group commit: many callers, one transaction, and nobody pays for another's mistake."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace

import pytest

from app.adapters.memory import MemoryStore
from app.errors import Broken, Conflict, Unavailable
from app.ledger import group as module
from app.ledger.group import GroupCommit
from app.ledger.ports import LogFrozenError, Tenant
from app.ledger.wait import Waiter
from tests.fakes.ledger import OTHER, TENANT, make_row

PATIENCE_S = 20.0
NOBODY_WAITS = SimpleNamespace(waiting=0)  # for publication: these callers append and no more


class GatedStore:
    """A memory store whose transactions wait at a gate, refuse the rows in `bad`, and are counted."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.inner.add_tenant(TENANT)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.bad: dict[object, Exception] = {}
        self.away: Exception | None = None
        self.transactions = 0
        self.opened: list[str] = []

    def transaction(self) -> AbstractContextManager[object]:
        self.opened.append("transaction")
        return self._open()

    def appending(self) -> AbstractContextManager[object]:
        self.opened.append("appending")
        return self._open()

    @contextmanager
    def _open(self) -> Iterator[object]:
        self.transactions += 1
        self.entered.release()
        assert self.gate.wait(PATIENCE_S)
        if self.away:
            raise self.away
        with self.inner.transaction() as tx:
            yield _Checked(tx, self.bad)

    def count(self) -> int:
        return len(self.inner.list_pending(TENANT.id, 0, 100_000).entries)


class _Checked:
    def __init__(self, tx, bad) -> None:
        self._tx = tx
        self._bad = bad

    def append_entries(self, rows):
        for row in rows:
            if row.id in self._bad:
                raise self._bad[row.id]
        return self._tx.append_entries(rows)


@pytest.fixture
def store():
    return GatedStore()


@pytest.fixture
def group(store):
    group = GroupCommit(store, NOBODY_WAITS)
    yield group
    store.gate.set()
    group.close()


@pytest.fixture
def callers():
    with ThreadPoolExecutor(64) as pool:
        yield pool


def hold_back(store, group, callers):
    """Let a first job reach the store and wait there, so that the next ones queue up behind it."""
    store.gate.clear()
    first = callers.submit(group.append, [make_row(1)])
    assert store.entered.acquire(timeout=PATIENCE_S)
    return first


def queue_up(group, callers, jobs):
    """Hand in jobs one after another, so that their order is known."""
    futures = []
    for rows in jobs:
        waiting = len(group._jobs)
        futures.append(callers.submit(group.append, rows))
        while len(group._jobs) == waiting:
            pass
    return futures


def test_callers_that_wait_together_share_one_transaction_and_get_their_own_results(store, group, callers) -> None:
    first = hold_back(store, group, callers)
    jobs = [[make_row(10 * job + place) for place in range(1 + job % 3)] for job in range(1, 21)]
    futures = queue_up(group, callers, jobs)
    store.gate.set()
    first.result(PATIENCE_S)
    for rows, future in zip(jobs, futures, strict=True):
        assert [result.id for result in future.result(PATIENCE_S)] == [row.id for row in rows]
    assert store.transactions == 2


@pytest.mark.parametrize("error", [Broken("bad row"), LogFrozenError("frozen"), TypeError("a bug"), MemoryError()])
def test_a_bad_row_fails_its_own_caller_and_nobody_else(store, group, callers, error) -> None:
    first = hold_back(store, group, callers)
    jobs = [[make_row(number)] for number in range(2, 34)]
    bad = {5, 17, 31}
    store.bad = {jobs[place][0].id: error for place in bad}
    futures = queue_up(group, callers, jobs)
    store.gate.set()
    first.result(PATIENCE_S)
    for place, future in enumerate(futures):
        if place in bad:
            assert future.exception(PATIENCE_S) is error
        else:
            assert len(future.result(PATIENCE_S)) == 1
    assert store.count() == 1 + len(jobs) - len(bad)
    assert store.transactions <= 1 + 2 * len(bad) * 6, "the fault is found by halving, not one by one"


def test_a_frozen_log_of_one_tenant_does_not_stop_another(store, group, callers) -> None:
    store.inner.add_tenant(Tenant(id=OTHER.id, origin=OTHER.origin, frozen=True))
    first = hold_back(store, group, callers)
    futures = queue_up(group, callers, [[make_row(2)], [make_row(3, OTHER.id)], [make_row(4)]])
    store.gate.set()
    first.result(PATIENCE_S)
    assert isinstance(futures[1].exception(PATIENCE_S), LogFrozenError)
    assert futures[0].result(PATIENCE_S)[0].seq < futures[2].result(PATIENCE_S)[0].seq


def test_a_batch_with_one_bad_row_is_refused_as_a_whole(store, group) -> None:
    rows = [make_row(number) for number in range(1, 6)]
    store.bad = {rows[3].id: Broken("bad row")}
    with pytest.raises(Broken):
        group.append(rows)
    assert store.count() == 0


def test_while_the_store_is_away_all_are_told_at_once_and_nothing_is_tried_again(store, group, callers) -> None:
    first = hold_back(store, group, callers)
    store.away = Unavailable("the database is away")
    futures = queue_up(group, callers, [[make_row(number)] for number in range(2, 12)])
    store.gate.set()
    assert all(isinstance(future.exception(PATIENCE_S), Unavailable) for future in [first, *futures])
    assert store.transactions == 2
    store.away = None
    assert group.append([make_row(99)])[0].seq == 1


def test_one_request_more_than_may_wait_is_answered_overloaded(store, group, callers, monkeypatch) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT", 3)
    first = hold_back(store, group, callers)
    futures = queue_up(group, callers, [[make_row(number)] for number in range(2, 5)])
    with pytest.raises(Unavailable) as caught:
        group.append([make_row(5)])
    assert caught.value.code == "overloaded"
    store.gate.set()
    assert all(future.result(PATIENCE_S) for future in [first, *futures])
    assert group.append([make_row(5)])


def test_one_row_more_than_may_wait_is_answered_overloaded(store, group, callers, monkeypatch) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT_ROWS", 10)
    first = hold_back(store, group, callers)
    futures = queue_up(group, callers, [[make_row(number) for number in range(10, 22)]])
    with pytest.raises(Unavailable) as caught:
        group.append([make_row(5)])
    assert caught.value.code == "overloaded"
    store.gate.set()
    assert len(futures[0].result(PATIENCE_S)) == 12, "a batch alone is taken, however large"
    first.result(PATIENCE_S)
    for number in range(100, 130):
        assert group.append([make_row(number)]), "rows that were committed no longer wait"


def test_a_group_stops_growing_at_its_limit_of_rows(store, group, callers, monkeypatch) -> None:
    monkeypatch.setattr(module, "GROUP_LIMIT_ROWS", 4)
    first = hold_back(store, group, callers)
    futures = queue_up(group, callers, [[make_row(2 * number), make_row(2 * number + 1)] for number in range(1, 6)])
    store.gate.set()
    assert all(future.result(PATIENCE_S) for future in [first, *futures])
    assert store.transactions == 4, "1, then 4 + 4 + 2 rows"


def test_a_batch_does_not_wait_for_the_group_nor_for_another_batch(store, group, callers, monkeypatch) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 2)
    first = hold_back(store, group, callers)
    batches = [callers.submit(group.append, [make_row(10 * n), make_row(10 * n + 1)]) for n in range(1, 4)]
    for _ in range(module.BATCHES_AT_ONCE):
        assert store.entered.acquire(timeout=PATIENCE_S), "it is at the store though the first job is there still"
    assert not store.entered.acquire(timeout=0.05), "the third waits"
    store.gate.set()
    assert [len(future.result(PATIENCE_S)) for future in [first, *batches]] == [1, 2, 2, 2]


def test_batches_that_wait_count_as_rows_and_are_committed_before_closing(store, callers, monkeypatch) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 2)
    monkeypatch.setattr(module, "QUEUE_LIMIT_ROWS", 3)
    group = GroupCommit(store, NOBODY_WAITS)
    store.gate.clear()
    done = [Waiter() for _ in range(module.BATCHES_AT_ONCE)]
    for number, waiter in enumerate(done):
        group.append_then([make_row(10 * number), make_row(10 * number + 1)], waiter)
        assert store.entered.acquire(timeout=PATIENCE_S)
    waiting = Waiter()
    group.append_then([make_row(number) for number in range(90, 93)], waiting)
    with pytest.raises(Unavailable) as caught:
        group.append([make_row(99)])
    assert caught.value.code == "overloaded"
    closing = callers.submit(group.close)
    assert not is_done(closing, 0.05)
    store.gate.set()
    closing.result(PATIENCE_S)
    assert [len(waiter.wait()) for waiter in [*done, waiting]] == [2, 2, 3]
    assert store.count() == 7


def is_done(future, patience_s):
    """Say whether it is done within so long."""
    return bool(wait([future], timeout=patience_s).done)


def test_closing_commits_what_was_accepted_and_takes_no_more(store, callers) -> None:
    group = GroupCommit(store, NOBODY_WAITS)
    first = hold_back(store, group, callers)
    futures = queue_up(group, callers, [[make_row(number)] for number in range(2, 12)])
    closing = callers.submit(group.close)
    while not group._closed:
        pass
    with pytest.raises(Unavailable) as caught:
        group.append([make_row(99)])
    assert caught.value.code == "stopping"
    store.gate.set()
    closing.result(PATIENCE_S)
    assert all(future.result(PATIENCE_S) for future in [first, *futures])
    assert store.count() == 11


def test_sixty_four_callers_with_one_key_get_one_entry(store, group, callers) -> None:
    barrier = threading.Barrier(64)

    def call(number):
        barrier.wait(PATIENCE_S)
        return group.append([make_row(number, key="same")])[0]

    results = list(callers.map(call, range(64)))
    assert len({(result.seq, result.id) for result in results}) == 1
    assert sum(not result.replayed for result in results) == 1
    assert store.count() == 1


class Kept:
    """What comes with a row, as heavy as it says."""

    def __init__(self, name, weight=1) -> None:
        self.name = name
        self.weight = weight


class Keeper:
    """Takes what is kept; refuses some, and takes nothing back."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.refused: set[str] = set()

    def keep(self, _tx, kept) -> None:
        if self.refused & {each.name for each in kept}:
            raise Conflict("already there")
        self.kept += [each.name for each in kept]


@pytest.fixture
def keeper():
    return Keeper()


@pytest.fixture
def keeping(store, keeper):
    group = GroupCommit(store, NOBODY_WAITS, keep=keeper.keep)
    yield group
    store.gate.set()
    group.close()


def hand_in(group, rows, kept=None):
    waiter = Waiter()
    group.append_then(rows, waiter, kept=kept)
    return waiter


def test_what_is_kept_with_a_row_is_written_with_it_and_not_with_a_repeated_one(store, keeper, keeping, callers):
    first = hold_back(store, keeping, callers)
    keyed = make_row(2)._replace(idem=b"i" * 32, fingerprint=b"f" * 32)
    again = make_row(3)._replace(idem=b"i" * 32, fingerprint=b"f" * 32)
    waiters = [
        hand_in(keeping, [keyed], Kept("a")),
        hand_in(keeping, [make_row(4)]),
        hand_in(keeping, [again], Kept("of the repeated one")),
        hand_in(keeping, [make_row(5)], Kept("b")),
    ]
    store.gate.set()
    first.result(PATIENCE_S)
    assert [waiter.wait()[0].replayed for waiter in waiters] == [False, False, True, False]
    assert keeper.kept == ["a", "b"]
    assert store.opened == ["appending", "transaction"], "the first was alone"


def test_what_cannot_be_kept_fails_its_own_caller_and_nobody_else(store, keeper, keeping, callers):
    first = hold_back(store, keeping, callers)
    keeper.refused = {"k5"}
    waiters = [hand_in(keeping, [make_row(number)], Kept(f"k{number}")) for number in range(2, 10)]
    store.gate.set()
    first.result(PATIENCE_S)
    for number, waiter in enumerate(waiters, 2):
        if number == 5:
            with pytest.raises(Conflict):
                waiter.wait()
        else:
            assert len(waiter.wait()) == 1
    assert store.count() == 1 + len(waiters) - 1
    assert sorted(keeper.kept) == [f"k{number}" for number in range(2, 10) if number != 5]


def test_what_is_heavy_counts_for_many_rows(store, keeping, callers, monkeypatch):
    monkeypatch.setattr(module, "QUEUE_LIMIT_ROWS", 100)
    first = hold_back(store, keeping, callers)
    heavy = hand_in(keeping, [make_row(2)], Kept("heavy", weight=99))
    with pytest.raises(Unavailable):
        keeping.append([make_row(3)])
    store.gate.set()
    first.result(PATIENCE_S)
    assert len(heavy.wait()) == 1
    assert len(keeping.append([make_row(3)])) == 1
