"""A lost journal comes back from the log and the database: every erasure, or a refusal and nothing."""

from __future__ import annotations

import pytest

from app.ledger.entry import time_of_id
from app.subjects.ports import Erasure
from app.subjects.rebuild import REBUILT, NotSignedError, Rebuilt, rebuild_journal
from app.tlog.checkpoint import Checkpoint
from app.tlog.tree import leaf_hash, root_of
from tests.fakes.people import BOB, MemoryJournal, MemorySubjectStore, erase_subject, register, replay

PEOPLE = [f"sub_{number:03}" for number in range(300)]  # more than one page of marks


class Reader:
    """A log of these entries."""

    def __init__(self, bodies) -> None:
        self.bodies = list(bodies)

    def list_bodies(self, _tenant, start, stop):
        return self.bodies[start:stop]

    def sign(self) -> Checkpoint:
        root = root_of([leaf_hash(body) for body in self.bodies])
        return Checkpoint(origin="log.example/acme", size=len(self.bodies), root=root)


@pytest.fixture
def store() -> MemorySubjectStore:
    return MemorySubjectStore()


@pytest.fixture
def journal() -> MemoryJournal:
    """The journal before it was lost."""
    return MemoryJournal()


def read_log(store) -> Reader:
    return Reader(entry.body for entry in store.list_entries("acme"))


def rebuild(store, reader, signed, journal=None) -> tuple[Rebuilt, list[Erasure]]:
    journal = journal or MemoryJournal()
    return rebuild_journal("acme", signed, reader=reader, store=store, journal=journal), journal.erasures


def test_every_logged_erasure_comes_back_as_it_was_promised(store, journal, monkeypatch) -> None:
    monkeypatch.setattr("app.subjects.rebuild.READ_BATCH", 7)
    for subject in PEOPLE:
        register(store, subject=subject)
    for subject in PEOPLE[::2]:
        erase_subject(store, journal, subject=subject, reason="gdpr.art17")
    register(store, "other")
    erase_subject(store, MemoryJournal(), "other")
    log = read_log(store)
    rebuilt, erasures = rebuild(store, log, log.sign())
    assert rebuilt == Rebuilt(known=150, added=150)
    assert sorted(erasures, key=lambda each: each.subject) == journal.erasures


def test_it_comes_back_for_a_database_that_is_older_than_the_erasures(store, journal) -> None:
    register(store)
    backup = store.tables
    erase_subject(store, journal)
    log = read_log(store)
    store.tables = backup
    _, erasures = rebuild(store, log, log.sign())
    assert erasures == journal.erasures
    lost_and_found = MemoryJournal()
    lost_and_found.erasures = erasures
    assert replay(store, lost_and_found).erased == 1


def test_of_two_receipts_the_first_says_when(store, journal) -> None:
    register(store)
    backup = store.tables
    erase_subject(store, journal)
    first = read_log(store).bodies
    store.tables = backup
    replay(store, journal)
    second = read_log(store).bodies[-1]
    log = Reader([*first, second])
    _, erasures = rebuild(store, log, log.sign())
    assert erasures == journal.erasures


def test_what_only_the_database_knows_comes_back_too(store, journal) -> None:
    for subject in ("sub_logged", BOB):
        register(store, subject=subject)
    erase_subject(store, journal, subject="sub_logged")
    log = read_log(store)
    signed = log.sign()
    store.frozen = True
    erase_subject(store, journal, subject=BOB)
    rebuilt, erasures = rebuild(store, log, signed)
    assert rebuilt.added == 2
    at_ms = {each.subject: each.at_ms for each in journal.erasures}
    assert Erasure(tenant="acme", subject=BOB, at_ms=at_ms[BOB], reason=REBUILT) in erasures
    assert rebuild(store, log, None)[0].known == 2, "a log that never signed has marks alone"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda bodies: bodies[:-1],
        lambda bodies: [bodies[0], bodies[2], bodies[1]],
        lambda bodies: [*bodies[:-1], bodies[-1].replace(b"requested", b"requestes")],
        lambda _bodies: [],
    ],
    ids=["omitted", "reordered", "altered", "empty"],
)
def test_from_a_log_that_is_not_the_signed_one_nothing_is_rebuilt(store, tamper) -> None:
    for subject in ("sub_1", "sub_2"):
        register(store, subject=subject)
    erase_subject(store, MemoryJournal(), subject="sub_2")
    log = read_log(store)
    signed = log.sign()
    kept = MemoryJournal()
    with pytest.raises(NotSignedError, match="recover"):
        rebuild(store, Reader(tamper(log.bodies)), signed, kept)
    assert kept.erasures == []


def test_again_it_adds_nothing_and_what_the_journal_has_stays(store, journal) -> None:
    for subject in ("sub_1", "sub_2"):
        register(store, subject=subject)
        erase_subject(store, journal, subject=subject)
    log = read_log(store)
    kept = MemoryJournal()
    kept.append(journal.erasures[1])
    assert rebuild(store, log, log.sign(), kept)[0] == Rebuilt(known=2, added=1)
    assert kept.erasures == [journal.erasures[1], journal.erasures[0]]
    assert rebuild(store, log, log.sign(), kept)[0] == Rebuilt(known=2, added=0)
    assert time_of_id(store.tables.entries[1].id) == journal.erasures[0].at_ms
