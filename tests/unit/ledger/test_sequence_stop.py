"""Stopping the sequencer's loop."""

from __future__ import annotations

import threading

import pytest

from app.ledger.sequence import SequencerLoop
from tests.fakes.ledger import TENANT, World, append_rows, make_row


def test_what_is_appended_just_before_the_stop_is_published_first(monkeypatch: pytest.MonkeyPatch) -> None:
    world, stop = World(), threading.Event()

    def append_and_stop(_timeout_s: float) -> None:
        append_rows(world.store, [make_row(1)])
        stop.set()

    monkeypatch.setattr(world.store, "wait_for_append", append_and_stop)
    SequencerLoop(store=world.store, open_sequencer=lambda _: world.sequencer()).run(stop)
    assert world.store.read_head(TENANT.id).size == 1
    assert world.store.find_checkpoint(TENANT.id) is not None
    assert world.anchor.held == set()
