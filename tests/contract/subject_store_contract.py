"""What every `SubjectStore` promises. Run it by subclassing with a `store` and a `list_entries` fixture.

`list_entries` is a function `(tenant) -> list[Entry]` of the durable entries, in order.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from uuid_utils.compat import uuid7

from app.errors import Conflict, NotFound
from app.subjects.erase import AlreadyErased, Erased, Replay
from app.subjects.personal import ErasedByPolicy, Opened, SubjectErasedError, open_personal
from app.subjects.ports import Erasure, Newcomer
from app.subjects.seal import SealedField, SubjectKey
from app.subjects.subject import Subject
from tests.fakes.people import (
    ADA,
    BOB,
    PERSON,
    MemoryJournal,
    append_registered,
    erase_subject,
    register,
    register_in,
    replay,
)

KEY = SubjectKey(b"k" * 32)
OTHER_KEY = SubjectKey(b"o" * 32)
PATIENCE_S = 20


def add(store, tenant="acme", subject=ADA, key=KEY) -> bool:
    with store.transaction() as tx:
        return tx.add_subject(tenant, subject, key=key)


def box(tenant="acme", subject=ADA, path="name", entry_id=None) -> SealedField:
    return SealedField(tenant=tenant, subject=subject, entry_id=entry_id or uuid7(), path=path, box=os.urandom(90))


def newcomer(tenant="acme", subject=ADA, key=KEY, paths=("name",)) -> Newcomer:
    entry_id = uuid7()
    fields = [box(tenant, subject, path, entry_id) for path in paths]
    return Newcomer(tenant=tenant, subject=subject, key=key, fields=fields)


def erasure(tenant="acme", subject=ADA, at_ms=1) -> Erasure:
    return Erasure(tenant=tenant, subject=subject, at_ms=at_ms, reason="requested")


class SubjectStoreContract:
    def test_a_subject_comes_back_as_it_was_added(self, store) -> None:
        add(store)
        expected = Subject(tenant="acme", id=ADA, key=KEY)
        assert store.find_subject("acme", ADA) == expected
        with store.transaction() as tx:
            assert tx.lock_subject("acme", ADA) == expected
            assert tx.lock_subject("acme", BOB) is None
        assert store.find_subject("acme", BOB) is None

    def test_a_subject_keeps_the_key_it_has(self, store) -> None:
        assert add(store) is True
        assert add(store, key=OTHER_KEY) is False
        assert store.find_subject("acme", ADA).key == KEY

    def test_an_unknown_tenant_has_no_subjects(self, store) -> None:
        with pytest.raises(NotFound), store.transaction() as tx:
            tx.add_subject("nobody", ADA, key=KEY)

    def test_newcomers_come_with_their_keys_and_what_is_sealed_for_them(self, store) -> None:
        newcomers = [
            newcomer(),
            newcomer(tenant="other", key=OTHER_KEY, paths=()),
            newcomer(subject=BOB, paths=("a", "b")),
        ]
        with store.transaction() as tx:
            tx.add_newcomers(newcomers)
        for each in newcomers:
            expected = Subject(tenant=each.tenant, id=each.subject, key=each.key)
            assert store.find_subject(each.tenant, each.subject) == expected
            for sealed in each.fields:
                assert sealed in store.list_sealed(sealed.tenant, sealed.entry_id)
        assert store.find_subject("other", BOB) is None

    @pytest.mark.parametrize(
        ("known", "error"), [({"subject": BOB}, Conflict), ({"tenant": "nobody", "subject": "sub_eve"}, NotFound)]
    )
    def test_a_newcomer_that_is_known_or_of_no_tenant_keeps_all_of_them_out(self, store, known, error) -> None:
        add(store, subject=BOB)
        first = newcomer()
        with pytest.raises(error), store.transaction() as tx:
            tx.add_newcomers([first, newcomer(**known)])
        assert store.find_subject("acme", ADA) is None
        assert store.list_sealed("acme", first.fields[0].entry_id) == []
        assert store.find_subject("acme", BOB).key == KEY

    def test_the_same_subject_id_in_two_tenants_is_two_people(self, store) -> None:
        add(store, "acme", key=KEY)
        add(store, "other", key=OTHER_KEY)
        entry_id = uuid7()
        ours, theirs = box("acme", entry_id=entry_id), box("other", entry_id=entry_id)
        with store.transaction() as tx:
            tx.add_sealed([ours, theirs])
        with store.transaction() as tx:
            assert tx.destroy("acme", ADA, at_ms=5) == 1
        assert store.find_subject("acme", ADA).is_erased
        assert store.find_subject("other", ADA) == Subject(tenant="other", id=ADA, key=OTHER_KEY)
        assert store.list_sealed("acme", entry_id) == []
        assert store.list_sealed("other", entry_id) == [theirs]

    def test_sealed_fields_come_back_by_path(self, store) -> None:
        add(store)
        entry_id = uuid7()
        name, email = box(entry_id=entry_id), box(path="email", entry_id=entry_id)
        with store.transaction() as tx:
            tx.add_sealed([name, email])
            tx.add_sealed([])
        assert store.list_sealed("acme", entry_id) == [email, name]
        assert store.list_sealed("other", entry_id) == []

    def test_many_are_read_at_once_each_tenants_own(self, store) -> None:
        for tenant in ("acme", "other"):
            add(store, tenant)
            add(store, tenant, subject=BOB)
        adas, bobs, theirs = [box(), box(path="email")], box(subject=BOB), box("other")
        with store.transaction() as tx:
            tx.add_sealed([*adas, bobs, theirs])
        wanted = [field.entry_id for field in (*adas, bobs, theirs)]
        by_id = {field.entry_id: field for field in store.list_sealed_of("acme", wanted)}
        assert by_id == {field.entry_id: field for field in (*adas, bobs)}
        assert store.list_sealed_of("acme", []) == []
        found = store.list_subjects("acme", [ADA, BOB, "sub_nobody"])
        assert sorted(subject.id for subject in found) == [ADA, BOB]
        assert {subject.tenant for subject in found} == {"acme"}

    def test_a_sealed_field_is_never_replaced(self, store) -> None:
        add(store)
        first = box()
        with store.transaction() as tx:
            tx.add_sealed([first])
        with pytest.raises(Conflict), store.transaction() as tx:
            tx.add_sealed([box(entry_id=first.entry_id)])
        assert store.list_sealed("acme", first.entry_id) == [first]

    def test_destroying_takes_the_key_and_every_field_and_keeps_the_first_time(self, store) -> None:
        add(store)
        add(store, subject=BOB)
        fields, bobs = [box(), box(), box(path="email")], box(subject=BOB)
        with store.transaction() as tx:
            tx.add_sealed([*fields, bobs])
        with store.transaction() as tx:
            assert tx.destroy("acme", ADA, at_ms=5) == 3
        with store.transaction() as tx:
            assert tx.destroy("acme", ADA, at_ms=6) == 0
        assert store.find_subject("acme", ADA) == Subject(tenant="acme", id=ADA, key=None, erased_at_ms=5)
        assert [store.list_sealed("acme", field.entry_id) for field in fields] == [[], [], []]
        assert store.list_sealed("acme", bobs.entry_id) == [bobs]

    def test_a_transaction_that_fails_leaves_nothing(self, store, list_entries) -> None:
        sealed = []

        def seal_and_fail() -> None:
            with store.transaction() as tx:
                sealed.append(register_in(tx))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            seal_and_fail()
        assert store.find_subject("acme", ADA) is None
        assert store.list_sealed("acme", sealed[0]) == []
        assert list_entries("acme") == []

    def test_an_erasure_that_does_not_stand_is_undone(self, store) -> None:
        for subject in ("sub_live", "sub_gone", "sub_back", "sub_box"):
            add(store, subject=subject)
        with store.transaction() as tx:
            for subject in ("sub_gone", "sub_back", "sub_box"):
                tx.destroy("acme", subject, at_ms=5)
            tx.add_sealed([box(subject="sub_box")])
        asked = [erasure(subject=name) for name in ("sub_gone", "sub_live", "sub_box", "sub_absent")]
        asked += [erasure("other", "sub_gone"), erasure("nobody", "sub_gone")]
        assert store.list_undone(asked) == asked[1:]

    def test_marked_subjects_are_listed_by_id_in_pages_also_when_their_keys_are_back(self, store) -> None:
        for subject in ("sub_a", "sub_b", "sub_c", "sub_live"):
            add(store, subject=subject)
        add(store, "other", subject="sub_theirs")
        with store.transaction() as tx:
            for at_ms, subject in enumerate(("sub_a", "sub_b", "sub_c"), start=5):
                tx.destroy("acme", subject, at_ms=at_ms)
            tx.add_sealed([box(subject="sub_b")])
            tx.destroy("other", "sub_theirs", at_ms=9)
        marked = [(each.id, each.erased_at_ms) for each in store.list_erased("acme", "", 9)]
        assert marked == [("sub_a", 5), ("sub_b", 6), ("sub_c", 7)]
        assert [each.id for each in store.list_erased("acme", "sub_a", 1)] == ["sub_b"]
        assert store.list_erased("acme", "sub_c", 9) == []

    def test_what_was_sealed_opens_and_only_in_its_tenant(self, store, list_entries) -> None:
        register(store)
        (entry,) = list_entries("acme")
        assert open_personal(store, "acme", entry) == Opened(PERSON)
        register(store, "other", personal={"name": "Another"})
        assert list_entries("other")[0].sealed != entry.sealed
        with pytest.raises(Exception, match="missing"):
            open_personal(store, "other", entry)

    def test_a_replayed_request_seals_nothing_more(self, store, list_entries) -> None:
        results = []
        for _ in range(2):
            with store.transaction() as tx:
                results.append(append_registered(tx, idem=b"i" * 32))
        assert [result.replayed for result in results] == [False, True]
        (entry,) = list_entries("acme")
        assert open_personal(store, "acme", entry) == Opened(PERSON)

    def test_erasing_twice_is_erasing_once_with_one_receipt(self, store, list_entries) -> None:
        journal = MemoryJournal()
        register(store)
        first = erase_subject(store, journal)
        second = erase_subject(store, journal)
        assert isinstance(first, Erased)
        assert first.fields == 2
        assert second == AlreadyErased(journal.erasures[0].at_ms)
        entry, receipt = list_entries("acme")
        assert open_personal(store, "acme", entry) == ErasedByPolicy(journal.erasures[0].at_ms)
        assert (receipt.action, receipt.subject, receipt.data) == (
            "subject.erased",
            ADA,
            {"fields": 2, "reason": "requested"},
        )
        assert receipt.id == f"ent_{first.receipt.hex}"

    def test_a_person_who_was_never_here_is_not_journalled(self, store) -> None:
        journal = MemoryJournal()
        register(store, "other")
        with pytest.raises(NotFound):
            erase_subject(store, journal, "acme")
        assert journal.erasures == []

    def test_nothing_is_sealed_to_an_erased_subject(self, store, list_entries) -> None:
        register(store)
        erase_subject(store, MemoryJournal())
        with pytest.raises(SubjectErasedError):
            register(store)
        assert [entry.action for entry in list_entries("acme")] == ["customer.registered", "subject.erased"]

    def test_the_replay_does_what_was_only_promised(self, store, list_entries) -> None:
        register(store)
        journal = MemoryJournal()
        journal.append(erasure())
        assert replay(store, journal) == Replay(erased=1, standing=0, strangers=0)
        assert replay(store, journal) == Replay(erased=0, standing=1, strangers=0)
        assert [entry.action for entry in list_entries("acme")] == ["customer.registered", "subject.erased"]
        assert list_entries("acme")[1].actor == "system:erasure-journal"

    def test_the_replay_shuts_the_door_on_a_subject_that_the_store_is_too_old_to_know(self, store) -> None:
        journal = MemoryJournal()
        journal.append(erasure())
        journal.append(erasure("nobody"))
        assert replay(store, journal) == Replay(erased=1, standing=0, strangers=1)
        with pytest.raises(SubjectErasedError):
            register(store)

    def test_racing_erasures_leave_one_receipt(self, store, list_entries) -> None:
        register(store)
        journal = MemoryJournal()
        together = threading.Barrier(4)

        def run(_: int) -> object:
            together.wait(PATIENCE_S)
            return erase_subject(store, journal)

        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(run, range(4)))
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyErased"] * 3 + ["Erased"]
        assert [entry.action for entry in list_entries("acme")] == ["customer.registered", "subject.erased"]

    def test_a_seal_that_races_with_an_erasure_is_erased_or_refused(self, store, list_entries) -> None:
        for number in range(6):
            subject = f"sub_{number}"
            register(store, subject=subject)
            together = threading.Barrier(4)

            def seal(subject=subject, together=together) -> bool:
                together.wait(PATIENCE_S)
                try:
                    register(store, subject=subject)
                except SubjectErasedError:
                    return False
                return True

            def wipe(subject=subject, together=together) -> Erased:
                together.wait(PATIENCE_S)
                return erase_subject(store, MemoryJournal(), subject=subject)

            with ThreadPoolExecutor(4) as pool:
                seals = [pool.submit(seal) for _ in range(3)]
                outcome = pool.submit(wipe).result(PATIENCE_S)
                sealed = 1 + sum(future.result(PATIENCE_S) for future in seals)
            mine = [entry for entry in list_entries("acme") if entry.subject == subject]
            assert outcome.fields == 2 * sealed
            assert [entry.action for entry in mine] == ["customer.registered"] * sealed + ["subject.erased"]
            assert all(isinstance(open_personal(store, "acme", entry), ErasedByPolicy) for entry in mine[:-1])

    def test_two_first_seals_at_once_share_one_key(self, store, list_entries) -> None:
        together = threading.Barrier(2)

        def seal(_: int) -> None:
            together.wait(PATIENCE_S)
            register(store)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(seal, range(2)))
        assert [open_personal(store, "acme", entry) for entry in list_entries("acme")] == [Opened(PERSON)] * 2
