"""Stopping the sequencer's loop."""

from __future__ import annotations

import threading

import pytest

from app.ledger.publish import BATCH_LIMIT
from app.ledger.sequence import SequencerLoop
from tests.fakes.ledger import TENANT, World, append_rows, make_row


def test_what_is_appended_just_before_the_stop_is_published_first(monkeypatch: pytest.MonkeyPatch) -> None:
    world, stop = World(), threading.Event()

    def append_and_stop(_timeout_s: float, _rows: int) -> int:
        append_rows(world.store, [make_row(1)])
        stop.set()
        return 1

    monkeypatch.setattr(world.store, "wait_for_append", append_and_stop)
    SequencerLoop(store=world.store, open_sequencer=lambda _: world.sequencer()).run(stop)
    assert world.store.read_head(TENANT.id).size == 1
    assert world.store.find_checkpoint(TENANT.id) is not None
    assert world.anchor.held == set()


def test_what_was_left_while_nobody_published_is_published_without_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    world, stop = World(), threading.Event()
    total = 2 * BATCH_LIMIT + 1
    append_rows(world.store, [make_row(n) for n in range(total)])
    sizes = []

    def hear(_timeout_s: float, _rows: int) -> int:
        sizes.append(world.store.read_head(TENANT.id).size)
        stop.set()
        return 0

    monkeypatch.setattr(world.store, "wait_for_append", hear)
    SequencerLoop(store=world.store, open_sequencer=lambda _: world.sequencer()).run(stop)
    assert sizes == [total]


def test_entries_that_nobody_told_of_are_not_waited_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    world, stop = World(), threading.Event()
    asked = []

    def hear(_timeout_s: float, rows: int) -> int:
        asked.append(rows)
        if len(asked) == 1:
            append_rows(world.store, [make_row(n) for n in range(6)])
            return 1
        stop.set()
        return 0

    monkeypatch.setattr(world.store, "wait_for_append", hear)
    SequencerLoop(store=world.store, open_sequencer=lambda _: world.sequencer()).run(stop)
    assert asked[:2] == [1, 1]


@pytest.mark.parametrize(
    ("heard", "waits"),
    [
        ([4], [1]),
        ([4, 4], [1, 1]),
        ([4, 1, 3], [1, 1, 3]),
        ([4, 1, 0, 1], [1, 1, 3, 1]),
        ([1, 1, 5], [1, 1, 1]),
    ],
    ids=["the first", "all at once", "some later", "fewer", "more"],
)
def test_a_publication_waits_for_as_many_as_the_last_one_carried(
    monkeypatch: pytest.MonkeyPatch, heard: list[int], waits: list[int]
) -> None:
    world, stop = World(), threading.Event()
    asked, coming = [], list(heard)

    def hear(_timeout_s: float, rows: int) -> int:
        if not coming:
            stop.set()
            return 0
        asked.append(rows)
        number = coming.pop(0)
        append_rows(world.store, [make_row(n) for n in range(number)])
        return number

    monkeypatch.setattr(world.store, "wait_for_append", hear)
    SequencerLoop(store=world.store, open_sequencer=lambda _: world.sequencer()).run(stop)
    assert asked == waits
    assert world.store.read_head(TENANT.id).size == sum(heard)
