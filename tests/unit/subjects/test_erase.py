"""Erasure: what is refused before it is promised, and what outlives a frozen log or a half-restored store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.errors import Broken, Rejected, Unavailable
from app.subjects.erase import Erased, Replay
from app.subjects.ports import Erasure
from app.subjects.subject import Subject
from tests.fakes.people import ADA, MemoryJournal, MemorySubjectStore, erase_subject, register, replay


@pytest.fixture
def store() -> MemorySubjectStore:
    store = MemorySubjectStore()
    register(store)
    return store


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal()


@pytest.mark.parametrize(
    "wrong", [{"reason": "Ada asked"}, {"reason": ""}, {"reason": "x" * 65}, {"actor": "nobody"}, {"reason": "a\n"}]
)
def test_what_the_receipt_could_not_hold_is_not_promised(store, journal, wrong) -> None:
    with pytest.raises(Rejected):
        erase_subject(store, journal, **wrong)
    assert journal.erasures == []
    assert store.find_subject("acme", ADA).key is not None


def test_nothing_is_destroyed_that_could_not_be_journalled(store) -> None:
    class FullDisk(MemoryJournal):
        def append(self, erasure) -> None:
            raise Unavailable("no space left")

    with pytest.raises(Unavailable):
        erase_subject(store, FullDisk())
    assert store.find_subject("acme", ADA).key is not None


def test_the_journal_holds_ids_a_time_and_a_code(store, journal) -> None:
    outcome = erase_subject(store, journal)
    (erasure,) = journal.erasures
    assert (erasure.tenant, erasure.subject, erasure.reason) == ("acme", ADA, "requested")
    assert store.list_entries("acme")[1].time_ms == erasure.at_ms == outcome.receipt.int >> 80


def test_a_person_is_erased_even_from_a_frozen_log(store, journal) -> None:
    store.frozen = True
    assert erase_subject(store, journal) == Erased(2, None)
    assert store.find_subject("acme", ADA).is_erased
    assert replay(store, journal) == Replay(erased=0, standing=1, strangers=0)


def test_a_key_that_came_back_alone_is_destroyed_again(store, journal) -> None:
    key = store.find_subject("acme", ADA).key
    erase_subject(store, journal)
    erased = store.find_subject("acme", ADA)
    store.tables.subjects["acme", ADA] = replace(erased, key=key)
    assert replay(store, journal) == Replay(erased=1, standing=0, strangers=0)
    assert store.find_subject("acme", ADA) == erased
    assert [entry.action for entry in store.list_entries("acme")][1:] == ["subject.erased"] * 2


def test_a_promise_made_twice_is_kept_once(store, journal) -> None:
    erase_subject(store, journal)
    journal.append(journal.erasures[0])
    other = MemorySubjectStore()
    register(other)
    assert replay(other, journal) == Replay(erased=1, standing=1, strangers=0)


def test_an_altered_journal_stops_the_start(store) -> None:
    class Altered(MemoryJournal):
        def read(self):
            raise Broken("line 1")

    with pytest.raises(Broken):
        replay(store, Altered())


def test_many_erasures_are_replayed_in_batches(journal) -> None:
    store = MemorySubjectStore()
    for number in range(600):
        store.tables.subjects["acme", f"sub_{number}"] = Subject(tenant="acme", id=f"sub_{number}", key=None)
        journal.append(Erasure(tenant="acme", subject=f"sub_{number}", at_ms=1, reason="requested"))
    assert replay(store, journal) == Replay(erased=600, standing=0, strangers=0)


def test_a_living_subject_without_a_key_is_broken_and_gets_no_new_one(store) -> None:
    store.tables.subjects["acme", ADA] = Subject(tenant="acme", id=ADA, key=None)
    with pytest.raises(Broken, match="no key"):
        register(store)
