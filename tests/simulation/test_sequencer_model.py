"""The sequencer against a model: faults at every step, crashes, restarts, restored backups and clones, in any order.

Whatever happens: no two signed checkpoints are inconsistent, an entry keeps its one index, exposed checkpoints grow and
were anchored before, nothing is signed after `log.frozen`, and once the faults stop everything appended is published.
"""

from __future__ import annotations

from dataclasses import replace
from threading import Lock
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.adapters.memory import MemoryStore
from app.errors import Unavailable
from app.ledger.anchored import AnchorMismatchError
from app.ledger.freeze import freeze
from app.ledger.ports import LogFrozenError, NotLeaderError
from app.ledger.publish import Sequencer
from app.tlog.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from app.tlog.note import parse_note
from app.tlog.tree import root_of
from tests.fakes.ledger import (
    REGISTRY,
    STEPS,
    TENANT,
    MemoryAnchor,
    Signatures,
    World,
    append_rows,
    make_entry_id,
    make_row,
)

STORES_LIMIT = 4
SMALL_BATCH = 5


class RememberingAnchor(MemoryAnchor):
    """An anchor that knows all it ever held."""

    def __init__(self, faults: Any) -> None:
        super().__init__(faults)
        self.history: set[bytes] = set()

    def write(self, origin: str, checkpoint: bytes) -> None:
        with self._faults.around("anchor"):
            self.stored[origin] = checkpoint
            self.history.add(parse_note(checkpoint).text)


def copy_store(store: MemoryStore) -> MemoryStore:
    """Return what a backup of this store holds."""
    copy = MemoryStore()
    copy._last_seq = store._last_seq
    for name, log in store.logs.items():
        held = {
            field: type(value)(value)
            for field in log.__slots__
            if isinstance(value := getattr(log, field), list | dict)
        }
        copy.logs[name] = replace(log, **held, leader=Lock())
    return copy


class SequencerModel(RuleBasedStateMachine):
    """One anchor and one key; a database that may be replaced by an older or a forked copy of itself."""

    @initialize()
    def start(self) -> None:
        self.world = World()
        self.world.anchor = RememberingAnchor(self.world.faults)
        self.stores = [self.world.store]
        self.indexes: list[dict[int, int]] = [{}]
        self.exposed = [0]
        self.active = 0
        self.sequencer: Sequencer | None = None
        self.number = 0

    @property
    def store(self) -> MemoryStore:
        return self.stores[self.active]

    @property
    def log(self) -> Any:
        return self.store.logs[TENANT.id]

    # what clients do

    @rule(count=st.integers(1, 7))
    def append(self, count: int) -> None:
        rows = [make_row(self.number + place + 1) for place in range(count)]
        self.number += count
        self._append(rows)

    @rule(key=st.sampled_from("abc"))
    def append_with_a_key(self, key: str) -> None:
        self.number += 1
        before = len(self.log.entries)
        replayed = self._append([make_row(self.number, key=key)])
        if replayed is not None:
            assert len(self.log.entries) == before + (not replayed)

    def _append(self, rows: list[Any]) -> bool | None:
        try:
            return append_rows(self.store, rows)[0].replayed
        except LogFrozenError:
            assert self.log.tenant.frozen
            return None

    @precondition(lambda self: self.number > 20)
    @rule()
    def end_the_log(self) -> None:
        self.number += 1
        try:
            freeze(self.store, REGISTRY, TENANT.id, reason="ended", entry_id=make_entry_id(self.number))
        except LogFrozenError:
            assert self.log.tenant.frozen

    # what goes wrong

    @rule(point=st.sampled_from(STEPS), skip=st.integers(0, 1))
    def arm_a_fault(self, point: str, skip: int) -> None:
        self.world.faults.plan[point] = skip

    @precondition(lambda self: self.sequencer is not None)
    @rule()
    def crash(self) -> None:
        self._leave()

    @precondition(lambda self: len(self.stores) < STORES_LIMIT)
    @rule()
    def take_a_backup(self) -> None:
        self.stores.append(copy_store(self.store))
        self.indexes.append(dict(self.indexes[self.active]))
        self.exposed.append(self.exposed[self.active])

    @precondition(lambda self: len(self.stores) > 1)
    @rule(which=st.integers(0, STORES_LIMIT))
    def restore_a_copy(self, which: int) -> None:
        self._leave()
        self.active = which % len(self.stores)

    @precondition(lambda self: len(self.stores) < STORES_LIMIT)
    @rule(signed=st.integers(0, 3), others=st.integers(0, 4), again=st.booleans())
    def restore_a_backup_that_is_too_old(self, signed: int, others: int, again: bool) -> None:
        """Sign more after a backup, restore it, append other entries, and try to go on."""
        self._leave()
        self.enter()
        self.take_a_backup()
        for _ in range(signed):
            self.append(1)
            if self.sequencer is not None:
                self.step(1)
        self.restore_a_copy(len(self.stores) - 1)
        if others:
            self.append(others)
        self.enter()
        if again and self.sequencer is None:
            self.restore_a_copy(len(self.stores) - 2)
            self.enter()

    # what the sequencer does

    @precondition(lambda self: self.sequencer is None)
    @rule()
    def enter(self) -> None:
        sequencer = self._build()
        anchored = self._read_anchor()
        leaves = self.log.leaves
        fits = anchored is None or (anchored.size <= len(leaves) and root_of(leaves[: anchored.size]) == anchored.root)
        try:
            sequencer.__enter__()
        except AnchorMismatchError as error:
            assert not fits or (anchored is None and self.log.checkpoints)
            if anchored and anchored.size > len(leaves):
                lost = (error.lost_from, error.lost_to)
                assert lost == (len(leaves), anchored.size)
        else:
            assert fits, "an older or another database was accepted"
            self.sequencer = sequencer

    @precondition(lambda self: self.sequencer is not None)
    @rule(times=st.integers(1, 3))
    def step(self, times: int) -> None:
        assert self.sequencer is not None
        try:
            for _ in range(times):
                self.sequencer.step()
        except Unavailable:
            self._leave()

    @precondition(lambda self: self.sequencer is not None)
    @rule(elsewhere=st.booleans())
    def a_second_sequencer_stays_out(self, elsewhere: bool) -> None:
        with pytest.raises(NotLeaderError), self._build(MemoryAnchor() if elsewhere else None):
            pass

    def _build(self, anchor: Any = None) -> Sequencer:
        return self.world.sequencer(store=self.store, anchor=anchor)

    def _leave(self) -> None:
        if self.sequencer is not None:
            self.sequencer.__exit__(None, None, None)
            self.sequencer = None

    def _read_anchor(self) -> Checkpoint | None:
        note = self.world.anchor.find(TENANT.origin)
        return parse_checkpoint(parse_note(note).text) if note else None

    # what must hold

    @invariant()
    def no_two_signed_checkpoints_are_inconsistent(self) -> None:
        """A signature that a crash left unanchored was seen by nobody; another database may then sign another tree."""
        if not hasattr(self, "stores"):
            return
        signed, anchored = self.world.signatures.signed, self.world.anchor.history
        seen = [(checkpoint, leaves) for checkpoint, leaves in signed if format_checkpoint(checkpoint) in anchored]
        assert Signatures(seen).find_fork() is None
        if len(self.stores) == 1:
            assert Signatures(signed).find_fork() is None

    @invariant()
    def an_entry_keeps_its_one_index(self) -> None:
        for log, known in zip(self._logs(), self.indexes, strict=True):
            assert known.items() <= log.index_of_seq.items()
            assert sorted(log.index_of_seq.values()) == list(range(len(log.leaves)))
            assert len(set(log.seqs)) == len(log.seqs) == len(log.leaves) == log.head.size
            known.update(log.index_of_seq)

    @invariant()
    def what_is_exposed_grows_and_was_anchored_before(self) -> None:
        for place, log in enumerate(self._logs()):
            newest = log.checkpoints[-1][0] if log.checkpoints else 0
            assert newest >= self.exposed[place]
            self.exposed[place] = newest
            assert {parse_note(note).text for _, note in log.checkpoints} <= self.world.anchor.history

    @invariant()
    def nothing_is_signed_after_the_end(self) -> None:
        for log in self._logs():
            if log.head.frozen:
                end = len(log.leaves)
                for checkpoint, leaves in self.world.signatures.signed:
                    assert checkpoint.size <= end or list(leaves[:end]) != log.leaves
                assert log.entries[-1][1].action == "log.frozen", "log.frozen has the highest seq"

    def _logs(self) -> list[Any]:
        return [store.logs[TENANT.id] for store in self.stores] if hasattr(self, "stores") else []

    def teardown(self) -> None:
        """Once the faults stop, everything that was appended is published, unless the database was refused."""
        if not hasattr(self, "stores"):
            return
        self.world.faults.plan.clear()
        self._leave()
        self.enter()
        if self.sequencer is None:
            return
        while self.sequencer.step():
            pass
        assert set(self.log.index_of_seq) == {seq for seq, _ in self.log.entries}
        if self.log.entries:
            assert self.log.checkpoints[-1][0] == len(self.log.entries)
        self.no_two_signed_checkpoints_are_inconsistent()
        self._leave()


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.ledger.publish.BATCH_LIMIT", SMALL_BATCH)


def _run(examples: int, steps: int) -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    SequencerModel.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=quiet
    )
    SequencerModel.TestCase("runTest").runTest()


def test_the_sequencer_keeps_its_promises_under_faults_crashes_restores_and_clones() -> None:
    _run(60, 40)


@pytest.mark.slow
def test_the_sequencer_keeps_its_promises_for_long() -> None:
    _run(300, 80)
