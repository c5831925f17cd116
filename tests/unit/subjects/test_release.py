"""Release: what is handed out can be checked, and is on the log before anybody has it; else nothing is handed out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from uuid_utils.compat import uuid7

from app.errors import NotFound, Rejected
from app.ledger.entry import Draft, parse_entry, verify_commitment
from app.ledger.ports import LogFrozenError
from app.subjects.personal import ErasedByPolicy
from app.subjects.release import release
from app.subjects.seal import SealBrokenError
from tests.fakes.people import ACTOR, ADA, PERSON, MemoryJournal, MemorySubjectStore, append, erase_subject, register


@pytest.fixture
def store() -> MemorySubjectStore:
    return MemorySubjectStore()


def hand_out(store, entry_id, *paths, tenant="acme", **changes):
    arguments = {"reason": "audit.2026", "actor": ACTOR, "new_id": uuid7, "append": append} | changes
    return release(tenant, entry_id, paths, reader=store, store=store, **arguments)


def test_what_is_handed_out_opens_the_commitments_of_the_log(store) -> None:
    entry_id = register(store)
    released = hand_out(store, entry_id)
    (logged, _) = store.list_entries("acme")
    assert {path: opening.value for path, opening in released.openings.items()} == PERSON
    for path, opening in released.openings.items():
        verify_commitment(logged.sealed[path], salt=opening.salt, path=path, value=opening.value)


def test_each_release_is_an_entry_that_says_which_facts_and_why_and_not_what_they_are(store) -> None:
    entry_id = register(store)
    released = hand_out(store, entry_id, "email")
    assert released.openings.keys() == {"email"}
    entry = store.list_entries("acme")[-1]
    assert (entry.action, entry.actor, entry.subject) == ("subject.opened", ACTOR, ADA)
    assert (entry.ref, entry.data) == (
        {"entry": f"ent_{entry_id.hex}"},
        {"paths": ["email"], "reason": "audit.2026"},
    )
    assert entry.id == f"ent_{released.logged.hex}"
    shown = f"{released!r} {released.openings!r} {entry.body!r}"
    assert not [fact for fact in PERSON.values() if fact in shown]


def test_nothing_is_handed_out_that_cannot_be_logged(store) -> None:
    entry_id = register(store)
    store.frozen = True
    with pytest.raises(LogFrozenError):
        hand_out(store, entry_id)


@pytest.mark.parametrize("fault", ["missing", "altered"])
def test_a_broken_seal_is_neither_handed_out_nor_logged(store, fault) -> None:
    entry_id = register(store)
    name = store.tables.sealed.pop(("acme", entry_id, "name"))
    if fault == "altered":
        store.tables.sealed["acme", entry_id, "name"] = replace(name, box=name.box[:-1] + bytes([name.box[-1] ^ 1]))
    with pytest.raises(SealBrokenError):
        hand_out(store, entry_id)
    assert len(store.list_entries("acme")) == 1


def test_what_was_erased_is_said_to_be_and_nothing_is_logged(store) -> None:
    entry_id, journal = register(store), MemoryJournal()
    erase_subject(store, journal)
    assert hand_out(store, entry_id) == ErasedByPolicy(journal.erasures[0].at_ms)
    assert [entry.action for entry in store.list_entries("acme")] == ["customer.registered", "subject.erased"]


def test_an_erasure_that_comes_between_wins(store) -> None:
    entry_id = register(store)

    def erase_then_read(*arguments):
        fields = MemorySubjectStore.list_sealed(store, *arguments)
        erase_subject(store, MemoryJournal())
        return fields

    store.list_sealed = erase_then_read
    assert isinstance(hand_out(store, entry_id), ErasedByPolicy)


@pytest.mark.parametrize("reason", ["Ada asked", "", "x" * 65])
def test_a_reason_is_a_code(store, reason) -> None:
    entry_id = register(store)
    with pytest.raises(Rejected):
        hand_out(store, entry_id, reason=reason)
    assert len(store.list_entries("acme")) == 1


def test_what_an_entry_does_not_seal_and_anothers_entry_are_refused(store) -> None:
    entry_id = register(store)
    with pytest.raises(Rejected) as refused:
        hand_out(store, entry_id, "email", "phone")
    assert refused.value.code == "field_unknown"
    for tenant, absent in (("other", entry_id), ("acme", uuid7())):
        with pytest.raises(NotFound):
            hand_out(store, absent, tenant=tenant)
    assert len(store.list_entries("acme")) == 1
    with store.transaction() as tx:
        draft = Draft(action="customer.registered", actor=ACTOR, subject=ADA, data={"country": "SE"})
        bare = append(tx, "acme", draft, uuid7())
    with pytest.raises(Rejected):
        hand_out(store, bare.id)
    assert parse_entry(store.tables.entries[-1].body).action == "customer.registered"
