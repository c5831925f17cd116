"""Keys, personal facts and boxes are in no representation, message or trace."""

from __future__ import annotations

import base64
import traceback
from dataclasses import replace

import pytest

from app.ledger.entry import Draft
from app.subjects.personal import append_personal, open_personal
from app.subjects.seal import SealBrokenError, SubjectKey, open_field
from tests.fakes.people import ADA, PERSON, MemorySubjectStore, register

SECRETS = ("Ada", "ovelace", "ada@example.com")


@pytest.fixture
def store() -> MemorySubjectStore:
    store = MemorySubjectStore()
    register(store)
    return store


def forms(secret: bytes) -> list[str]:
    return [repr(secret)[2:-1], secret.hex(), base64.b64encode(secret).decode()]


def test_a_subject_is_shown_without_its_key_and_its_fields_without_their_boxes(store: MemorySubjectStore) -> None:
    subject = store.find_subject("acme", ADA)
    (entry,) = store.list_entries("acme")
    sealed = store.tables.sealed.values()
    shown = f"{subject!r} {subject} {list(sealed)!r} {open_personal(store, 'acme', entry)!r}"
    assert ADA in shown
    assert not [form for form in forms(subject.key.secret) if form in shown]
    assert not [form for one in sealed for form in forms(one.box) if form in shown]
    assert not [secret for secret in SECRETS if secret in shown]


def test_the_entry_holds_commitments_and_nothing_personal(store: MemorySubjectStore) -> None:
    (entry,) = store.list_entries("acme")
    assert entry.sealed.keys() == PERSON.keys()
    assert not [secret for secret in SECRETS if secret.encode() in entry.body]


def test_a_broken_seal_says_where_and_not_what(store: MemorySubjectStore) -> None:
    key = store.find_subject("acme", ADA).key
    (entry,) = store.list_entries("acme")
    name = store.tables.sealed["acme", next(iter(store.tables.sealed))[1], "name"]
    with pytest.raises(SealBrokenError) as broken:
        open_field(name, key=key, expected=entry.sealed["email"])
    shown = "".join(traceback.format_exception(broken.value))
    assert entry.id in str(broken.value)
    assert "name" in str(broken.value)
    assert not [secret for secret in SECRETS if secret in shown]


def test_a_missing_field_of_a_living_subject_is_broken_not_erased(store: MemorySubjectStore) -> None:
    (entry,) = store.list_entries("acme")
    store.tables.sealed.popitem()
    with pytest.raises(SealBrokenError, match="missing"):
        open_personal(store, "acme", entry)


def test_a_key_of_another_length_is_no_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SubjectKey(b"short")


def test_an_entry_without_personal_facts_opens_to_none(store: MemorySubjectStore) -> None:
    (entry,) = store.list_entries("acme")
    assert open_personal(store, "acme", replace(entry, sealed={})).values == {}
    assert open_personal(store, "acme", replace(entry, subject=None)).values == {}


def test_personal_facts_need_a_subject(store: MemorySubjectStore) -> None:
    with store.transaction() as tx, pytest.raises(ValueError, match="about a subject"):
        append_personal(
            tx,
            "acme",
            Draft(action="customer.registered", actor="a:b"),
            PERSON,
            entry_id=None,
            append=None,
            random_bytes=bytes,
        )
