"""The sequencer's loop: every log has its turn, and one log's trouble is its own."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from app.errors import Broken, NotFound, Unavailable
from app.ledger import sequence as module
from app.ledger.ports import NotLeaderError
from app.ledger.sequence import SequencerLoop
from tests.fakes.ledger import OTHER, TENANT, World, append_rows, make_row
from tests.unit.ledger.conftest import PATIENCE_S, until


@pytest.fixture
def world():
    world = World()
    world.store.add_tenant(OTHER)
    return world


@pytest.fixture
def other(world):
    """The same store and anchor, as the other tenant's sequencer sees them."""
    other = World(tenant=OTHER)
    other.store, other.anchor = world.store, world.anchor
    return other


@pytest.fixture
def loop(world, other, monkeypatch):
    monkeypatch.setattr(module, "TENANTS_EVERY_S", 0.01)
    monkeypatch.setattr(module, "WAKE_LIMIT_S", 0.01)
    worlds = {TENANT.id: world, OTHER.id: other}
    return SequencerLoop(store=world.store, open_sequencer=lambda tenant: worlds[tenant.id].sequencer())


@contextmanager
def running(loop):
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def sizes(world) -> tuple[int, int]:
    return world.store.read_head(TENANT.id).size, world.store.read_head(OTHER.id).size


def append_to_both(world, number: int) -> None:
    append_rows(world.store, [make_row(number), make_row(number, OTHER.id)])


def exposed(world) -> list[bool]:
    return [world.store.find_checkpoint(tenant.id) is not None for tenant in (TENANT, OTHER)]


def test_every_log_is_published_and_the_locks_are_given_back(world, loop) -> None:
    with running(loop):
        append_to_both(world, 1)
        until(lambda: exposed(world) == [True, True])
    assert world.anchor.held == set()
    with world.sequencer():
        pass


@pytest.mark.parametrize("error", [Broken("b"), NotFound("a tile is missing"), KeyError("a bug"), OSError("disk")])
def test_a_log_in_trouble_halts_alone(world, other, loop, *, monkeypatch, caplog, error) -> None:
    def fail(*_):
        raise error

    monkeypatch.setattr(world.store.__class__, "integrate", _only_for(TENANT.id, fail, world.store.integrate))
    with running(loop):
        append_to_both(world, 1)
        until(lambda: TENANT.id in loop.halted and exposed(world)[1])
        append_to_both(world, 2)
        until(lambda: sizes(world) == (0, 2))
    assert list(loop.halted) == [TENANT.id]
    assert "no longer published" in caplog.text
    assert world.anchor.held == set()


def _only_for(tenant, fail, integrate):
    return lambda _, batch: fail() if batch.tenant == tenant else integrate(batch)


def test_a_log_that_cannot_be_opened_halts_alone(world, loop, monkeypatch) -> None:
    world.append(1)
    world.publish()
    world.anchor.stored.clear()
    with running(loop):
        append_to_both(world, 2)
        until(lambda: exposed(world) == [True, True] and TENANT.id in loop.halted)
    assert "anchor is missing" in loop.halted[TENANT.id]
    assert sizes(world) == (1, 1)


def test_a_sequencer_that_cannot_even_be_built_halts_alone(world, other, monkeypatch) -> None:
    monkeypatch.setattr(module, "WAKE_LIMIT_S", 0.01)

    def build(tenant):
        if tenant == TENANT:
            raise PermissionError("the anchor's folder")
        return other.sequencer()

    loop = SequencerLoop(store=world.store, open_sequencer=build)
    with running(loop):
        append_to_both(world, 1)
        until(lambda: sizes(world) == (0, 1))
    assert loop.halted == {TENANT.id: "PermissionError"}


@pytest.mark.parametrize("point", ["integrate.after", "sign.before", "anchor.after", "cosign.before", "expose.after"])
def test_a_fault_that_passes_delays_and_loses_nothing(world, loop, point) -> None:
    world.faults.plan[point] = 0
    with running(loop):
        append_to_both(world, 1)
        until(lambda: world.faults.raised == [point])
        until(lambda: exposed(world) == [True, True])
        append_to_both(world, 2)
        until(lambda: sizes(world) == (2, 2))
    assert loop.halted == {}
    assert world.signatures.find_fork() is None


def test_a_log_led_by_another_process_is_taken_up_when_that_is_gone(world, loop) -> None:
    with world.sequencer() as leader, running(loop):
        append_to_both(world, 1)
        until(lambda: exposed(world)[1])
        assert not exposed(world)[0]
        leader.step()
        assert exposed(world)[0]
        leader.__exit__(None, None, None)
        world.append(2)
        until(lambda: sizes(world) == (2, 1))
    assert loop.halted == {}


def test_a_store_that_is_away_is_asked_again(world, loop, monkeypatch) -> None:
    real, calls = world.store.list_tenants, []

    def away():
        calls.append(1)
        if len(calls) < 3:
            raise Unavailable("away")
        return real()

    monkeypatch.setattr(world.store, "list_tenants", away)
    with running(loop):
        append_to_both(world, 1)
        until(lambda: exposed(world) == [True, True])


def test_whoever_counts_hears_of_each_publication(world, monkeypatch) -> None:
    heard = []
    loop = SequencerLoop(
        store=world.store,
        open_sequencer=lambda _: world.sequencer(),
        on_published=lambda *what: heard.append(what[:3]),
    )
    world.store.logs.pop(OTHER.id)
    loop._take_up()
    world.append(1, 2)
    assert loop.step() == 2
    assert loop.step() == 0
    assert heard == [(TENANT.id, 2, 2)]


def test_a_process_that_is_not_the_leader_is_not_halted(world, loop) -> None:
    with world.sequencer():
        loop._take_up()
        assert loop.halted == {}
        with pytest.raises(NotLeaderError), world.sequencer():
            pass
