"""Waiting with hints: proofs are ready before the checkpoint is, and the store is asked only in doubt."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.ledger import wait as module
from app.ledger.ports import Exposed, Heard, Placed, Run
from app.ledger.prove import Prover
from app.ledger.wait import PublicationWatch
from app.tlog.checkpoint import Checkpoint, format_checkpoint
from app.tlog.note import SignatureLine, SignedNote, format_note
from app.tlog.receipt import parse_receipt, verify_receipt
from app.tlog.tree import leaf_hash, root_of
from tests.fakes.ledger import OTHER, TENANT, Keys, make_trust
from tests.unit.ledger.conftest import PATIENCE_S, until

ID = TENANT.id


class Telling:
    """The world's store, whose listener hears what the test says, and which counts what it is asked."""

    def __init__(self, store) -> None:
        self._store = store
        self.said: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self.asked = 0
        self.tiles_read = 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def publications(self, poll_s: float) -> Iterator[Heard]:
        while True:
            yield self.said.get()

    def list_published(self, *arguments):
        self.asked += 1
        return self._store.list_published(*arguments)

    def read_tiles(self, *arguments):
        self.tiles_read += 1
        return self._store.read_tiles(*arguments)

    def read_tile(self, *arguments):
        self.tiles_read += 1
        return self._store.read_tile(*arguments)


@pytest.fixture
def store(world):
    return Telling(world.store)


@pytest.fixture
def prover(store):
    return Prover(store, lambda _tenant: Keys().known(TENANT))


@pytest.fixture
def watch(store, prover, monkeypatch):
    monkeypatch.setattr(module, "POLL_S", 0.02)
    watch = PublicationWatch(store, prover)
    yield watch
    watch.close()
    store.said.put(None)


def expect(watch, callers, results):
    """Wait for these entries as a group commit does: the watch is not asked to look at once."""
    told = [module.Waiter() for _ in results]
    for result, waiter in zip(results, told, strict=True):
        watch.expect(ID, result.seq, module._Told(waiter, time.monotonic() + PATIENCE_S))
    return [callers.submit(waiter.wait) for waiter in told]


def placed(world, results, *, size=None, first_index=None) -> Placed:
    first = size - len(results) if first_index is None else first_index
    return Placed(ID, size, (Run(results[0].seq, first, len(results)),))


def note_of(world) -> bytes:
    return world.store.find_checkpoint(ID)


def test_proofs_are_made_before_the_checkpoint_and_nobody_asks_the_store_after_it(
    world, store, prover, watch, callers
) -> None:
    world.append(*range(1, 300))
    world.publish()
    results = world.append(*range(300, 340))
    waits = expect(watch, callers, results)
    with world.sequencer() as sequencer:
        sequencer._integrate()
        store.said.put(placed(world, results, size=339))
        until(lambda: ID in watch._placed)
        read = store.tiles_read
        assert read
        sequencer._publish()
    assert not any(wait.done() for wait in waits)
    store.said.put(Exposed(ID, note_of(world)))
    positions = [wait.result(PATIENCE_S) for wait in waits]
    assert [position.index for position in positions] == list(range(299, 339))
    for position, number in zip(positions, range(299, 339), strict=True):
        body = world.store.list_bodies(ID, number, number + 1)[0]
        receipt = parse_receipt(prover.receipt(ID, position.index, body, position.published))
        verify_receipt(receipt, leaf_hash(body), make_trust())
    assert (store.asked, store.tiles_read) == (0, read)
    assert watch.waiting == 0
    assert not watch._placed


@pytest.mark.parametrize("size", [2, 4])
def test_a_hint_about_a_tree_of_another_size_is_not_believed(world, store, watch, callers, size: int) -> None:
    results = world.append(1, 2, 3)
    waits = expect(watch, callers, results)
    world.publish()
    store.said.put(Placed(ID, size, (Run(results[0].seq, 7, 1),)))
    store.said.put(Exposed(ID, note_of(world)))
    assert [wait.result(PATIENCE_S).index for wait in waits] == [0, 1, 2]
    assert store.asked


def test_announced_leaves_spare_the_tiles(world, store, watch, callers) -> None:
    for number in range(1, 4):
        (result,) = world.append(number)
        (wait,) = expect(watch, callers, [result])
        world.publish()
        leaves = leaf_hash(world.store.list_bodies(ID, number - 1, number)[0])
        store.said.put(replace(placed(world, [result], size=number), leaves=leaves))
        store.said.put(Exposed(ID, note_of(world)))
        assert wait.result(PATIENCE_S).index == number - 1
    assert (store.asked, store.tiles_read) == (0, 0)


def test_leaves_that_are_not_those_of_the_checkpoint_are_read_instead(world, store, watch, callers, caplog):
    results = world.append(1, 2)
    waits = expect(watch, callers, results)
    world.publish()
    store.said.put(replace(placed(world, results, size=2), leaves=bytes(64)))
    store.said.put(Exposed(ID, note_of(world)))
    for index, wait in enumerate(waits):
        body = world.store.list_bodies(ID, index, index + 1)[0]
        receipt = watch._prover.receipt(ID, index, body, wait.result(PATIENCE_S).published)
        verify_receipt(parse_receipt(receipt), leaf_hash(body), make_trust())
    assert store.asked == 1
    assert "announced" in caplog.text


def sign(tenant, size: int, root: bytes, origin: str = TENANT.origin) -> bytes:
    """Return a checkpoint of the log `origin`, signed with the key of `tenant`."""
    text = format_checkpoint(Checkpoint(origin=origin, size=size, root=root))
    (signer,) = Keys().active(tenant)
    line = SignatureLine(name=signer.key.name, key_id=signer.key.key_id, signature=signer.sign(text))
    return format_note(SignedNote(text=text, signatures=(line,)))


@pytest.mark.parametrize("of", ["nobody", "another-key", "another-log"])
def test_a_tree_that_the_log_has_not_signed_is_not_believed_nor_kept(world, store, watch, callers, of) -> None:
    """Whoever may connect to a PostgreSQL database may notify its listeners."""
    world.append(*range(1, 11))
    world.publish()
    watch._prover.prove_inclusion(ID, 9, 10)
    (result,) = world.append(11)
    (wait,) = expect(watch, callers, [result])
    leaves = [leaf_hash(body) for body in world.store.list_bodies(ID, 0, 10)]
    false = [number.to_bytes(32, "big") for number in range(502)]
    note = sign(TENANT, 512, root_of([*leaves, *false]))
    if of == "nobody":
        note = note[:-10] + b"A" * 8 + note[-2:]
    else:
        note = sign(OTHER, 512, root_of([*leaves, *false]), OTHER.origin if of == "another-log" else TENANT.origin)
    store.said.put(replace(placed(world, [result], size=512, first_index=10), leaves=b"".join(false)))
    store.said.put(Exposed(ID, note))
    until(lambda: store.asked)
    assert not wait.done()
    world.append(*range(12, 600))
    world.publish()
    store.said.put(Exposed(ID, note_of(world)))
    assert wait.result(PATIENCE_S).index == 10
    published = watch._prover.read_published(ID)
    assert published.size == 599
    for index in (0, 10, 255, 256, 511, 598):
        body = world.store.list_bodies(ID, index, index + 1)[0]
        receipt = parse_receipt(watch._prover.receipt(ID, index, body, published))
        verify_receipt(receipt, leaf_hash(body), make_trust())


def test_a_key_that_came_later_is_looked_up(world, store, watch, callers, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(watch._prover, "_known", lambda tenant: asked.append(tenant) or Keys().known(TENANT))
    monkeypatch.setattr(watch._prover, "_keys", {ID: (Keys().active(OTHER)[0].key,)})
    for number in range(1, 4):
        (result,) = world.append(number)
        (wait,) = expect(watch, callers, [result])
        world.publish()
        store.said.put(placed(world, [result], size=number))
        store.said.put(Exposed(ID, note_of(world)))
        assert wait.result(PATIENCE_S).index == number - 1
    assert asked == [ID]
    assert store.asked == 0


def test_who_was_not_placed_last_is_looked_up(world, store, watch, callers) -> None:
    """Of an earlier publication nothing was heard."""
    missed, last = world.append(1), world.append(2)
    waits = expect(watch, callers, [*missed, *last])
    world.publish()
    store.said.put(placed(world, last, size=2))
    store.said.put(Exposed(ID, note_of(world)))
    assert [wait.result(PATIENCE_S).index for wait in waits] == [0, 1]
    assert store.asked == 1


def test_who_comes_between_the_hint_and_the_checkpoint_is_answered_by_it(world, store, watch, callers) -> None:
    early, late = world.append(1, 2)
    waits = expect(watch, callers, [early])
    world.publish()
    store.said.put(placed(world, [early, late], size=2))
    until(lambda: ID in watch._placed)
    waits += expect(watch, callers, [late])
    store.said.put(Exposed(ID, note_of(world)))
    positions = [wait.result(PATIENCE_S) for wait in waits]
    assert [position.index for position in positions] == [0, 1]
    assert store.asked == 0
    assert watch._prover.receipt(ID, 1, b"", positions[1].published)


def test_who_is_not_committed_yet_waits_for_the_next_publication(world, store, watch, callers) -> None:
    results = world.append(1)
    world.publish()
    (later,) = world.append(2)
    waits = expect(watch, callers, [*results, later])
    store.said.put(placed(world, results, size=1))
    store.said.put(Exposed(ID, note_of(world)))
    assert waits[0].result(PATIENCE_S).index == 0
    assert not waits[1].done()
    world.publish()
    store.said.put(placed(world, [later], size=2))
    store.said.put(Exposed(ID, note_of(world)))
    assert waits[1].result(PATIENCE_S).index == 1
    assert store.asked == 0


def test_a_checkpoint_without_its_note_a_lost_hint_and_a_broken_one_are_looked_up(world, store, watch, callers) -> None:
    for number, said in enumerate((Exposed(ID), None, Exposed(ID, b"no note"))):
        (result,) = world.append(number + 1)
        (wait,) = expect(watch, callers, [result])
        world.publish()
        store.said.put(said)
        store.said.put(None)
        assert wait.result(PATIENCE_S).index == number


def test_a_hint_that_cannot_be_proved_ends_nothing(world, store, watch, callers) -> None:
    """Entries that the store does not have: the proof fails, and is made again from what is published."""
    results = world.append(1)
    waits = expect(watch, callers, results)
    store.said.put(Placed(ID, 900, (Run(results[0].seq, 899, 1),)))
    world.publish()
    store.said.put(Exposed(ID, note_of(world)))
    assert waits[0].result(PATIENCE_S).index == 0


def test_an_older_checkpoint_heard_late_does_not_replace_a_newer_one(world, prover) -> None:
    world.append(1)
    world.publish()
    older = note_of(world)
    world.append(2)
    world.publish()
    newer = prover.open_published(ID, note_of(world))
    assert prover.open_published(ID, older).size == 1
    assert prover.open_published(ID, note_of(world)) is newer


@pytest.mark.parametrize(
    ("seq", "index"), [(4, None), (5, 100), (7, 102), (8, None), (9, None), (10, 103), (11, 104), (12, None), (0, None)]
)
def test_an_entry_is_found_in_its_run(seq: int, index: int | None) -> None:
    hint = Placed(ID, 105, (Run(5, 100, 3), Run(10, 103, 2)))
    assert hint.find(seq) == index
    assert hint.last_seq == 11
