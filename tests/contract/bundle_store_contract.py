"""What every `BundleStore` promises. Run it by subclassing with `store`, `list_entries` and `freeze` fixtures."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from uuid_utils.compat import uuid7

from app.errors import Conflict, NotFound
from app.ledger.entry import Draft, parse_entry, time_of_id
from app.policy.evidence import Reports
from app.policy.kept import ASSAY, KeptBundle, State
from tests.fakes.people import ACTOR, append
from tests.parts.bundles import AUTHOR, DIGEST, SECOND, THIRD, WAIVE_ALL, log_replay, log_reverified, make, make_life

PATIENCE_S = 20
HELD_S = 0.5


def new_bundle(**changes) -> KeptBundle:
    fields = {"tenant": "acme", "digest": "a" * 64, "name": "assay", "state": State.DRAFT, "author": AUTHOR}
    added_id = uuid7()
    return KeptBundle(**(fields | {"added_id": added_id, "changed_at_ms": time_of_id(added_id)} | changes))


def add(store, kept: KeptBundle, archive: bytes = b"archive") -> KeptBundle:
    with store.transaction() as tx:
        tx.add_bundle(kept, archive)
    return kept


def change(store, kept: KeptBundle) -> None:
    with store.transaction() as tx:
        tx.lock_bundle(kept.tenant, kept.digest)
        tx.update_bundle(kept)


class BundleStoreContract:
    def test_a_bundle_and_its_archive_come_back_as_they_were_added(self, store) -> None:
        kept = add(store, new_bundle(base="b" * 64, reports={"coverage": {"digest": "c" * 64, "percent": 97}}))
        assert store.find_bundle("acme", kept.digest) == kept
        assert store.read_archive("acme", kept.digest) == b"archive"
        with store.transaction() as tx:
            assert tx.lock_bundle("acme", kept.digest) == (kept, {})

    def test_another_tenants_bundle_looks_absent(self, store) -> None:
        kept = add(store, new_bundle(tenant="other", state=State.ACTIVE, author=ASSAY, approver=ASSAY))
        assert store.find_bundle("acme", kept.digest) is None
        assert store.find_in_force("acme") == {}
        assert list(store.list_bundles("acme", before=None, limit=9)) == []
        with pytest.raises(NotFound) as absent:
            store.read_archive("acme", kept.digest)
        assert absent.value.code == "bundle_unknown"
        with pytest.raises(NotFound), store.transaction() as tx:
            tx.lock_bundle("acme", kept.digest)

    def test_tenants_may_keep_the_same_content_each_in_its_own_state(self, store) -> None:
        mine = add(store, new_bundle())
        theirs = add(store, new_bundle(tenant="other", state=State.SHADOW, proposer=SECOND))
        assert store.find_bundle("acme", mine.digest) == mine
        assert store.find_in_force("other") == {State.SHADOW: theirs}

    def test_no_bundle_is_added_twice_or_to_nobody(self, store) -> None:
        add(store, new_bundle())
        with pytest.raises(Conflict):
            add(store, new_bundle(state=State.RETIRED), b"other")
        assert store.read_archive("acme", "a" * 64) == b"archive"
        with pytest.raises(NotFound):
            add(store, new_bundle(tenant="nobody"))

    @pytest.mark.parametrize("state", [State.ACTIVE, State.SHADOW])
    def test_of_a_state_in_force_there_is_at_most_one(self, store, state) -> None:
        first = add(store, new_bundle(state=state, proposer=SECOND, approver=THIRD))
        second = add(store, new_bundle(digest="b" * 64, proposer=SECOND))
        with pytest.raises(Conflict):
            add(store, new_bundle(digest="c" * 64, state=state, proposer=SECOND, approver=THIRD))
        with pytest.raises(Conflict):
            change(store, replace(second, state=state, approver=THIRD))
        assert store.find_in_force("acme") == {state: first}

    @pytest.mark.parametrize(
        "alone",
        [
            {"proposer": SECOND, "approver": AUTHOR},
            {"proposer": SECOND, "approver": SECOND},
            {"approver": SECOND},
            {"proposer": SECOND, "approver": ASSAY},
            {"proposer": SECOND, "approver": None},
        ],
        ids=["author", "proposer", "not proposed", "assay", "nobody"],
    )
    def test_nobody_activates_a_bundle_alone_whatever_the_code_says(self, store, alone) -> None:
        kept = add(store, new_bundle(state=State.SHADOW, proposer=SECOND))
        changed = {"proposer": None} | alone
        with pytest.raises(Conflict):
            change(store, replace(kept, state=State.ACTIVE, **changed))
        assert store.find_bundle("acme", kept.digest) == kept
        with pytest.raises(Conflict):
            add(store, new_bundle(digest="b" * 64, state=State.ACTIVE, **changed))

    def test_bundles_are_listed_newest_first_in_pages(self, store) -> None:
        added = [add(store, new_bundle(digest=letter * 64)) for letter in "abcde"]
        add(store, new_bundle(tenant="other"))
        first = store.list_bundles("acme", before=None, limit=3)
        rest = store.list_bundles("acme", before=first[-1].added_id, limit=3)
        assert [*first, *rest] == added[::-1]

    def test_tenants_without_an_active_bundle_are_known_but_for_frozen_ones(self, store, freeze) -> None:
        assert list(store.list_without_active()) == ["acme", "other"]
        add(store, new_bundle(author=ASSAY, state=State.ACTIVE, approver=ASSAY))
        assert list(store.list_without_active()) == ["other"]
        freeze("other")
        assert list(store.list_without_active()) == []

    def test_a_life_leaves_one_entry_for_each_step_and_the_history_tells_them(self, store, tmp_path, list_entries):
        life = make_life(store, tmp_path)
        life.adopt("acme", make(1), {})
        kept, created = life.add("acme", make(2), {}, actor=AUTHOR)
        assert created
        life.propose("acme", kept.digest, Reports(), actor=AUTHOR)
        life.activate("acme", kept.digest, replace(WAIVE_ALL, replaces=make(1).digest), actor=SECOND)
        told = [(entry.action.removeprefix("policy.bundle_"), entry.actor) for entry in list_entries("acme")]
        assert told == [
            ("added", ASSAY),
            ("activated", ASSAY),
            ("added", AUTHOR),
            ("shadowed", AUTHOR),
            ("retired", SECOND),
            ("activated", SECOND),
        ]
        history = store.list_history("acme", before=None, limit=4)
        history = [*history, *store.list_history("acme", before=history[-1].seq, limit=4)]
        assert [parse_entry(each.body) for each in history] == list_entries("acme")[::-1]
        assert store.find_in_force("acme")[State.ACTIVE].digest == make(2).digest
        assert store.find_bundle("acme", make(1).digest).state is State.RETIRED

    def test_a_replay_is_found_by_its_report_in_its_own_log_whatever_else_refers_to_that(self, store) -> None:
        assert store.find_replay("acme", DIGEST) is None
        log_replay(store, "a" * 64, "b" * 64, report_digest="e" * 64)
        log_replay(store, "a" * 64, "b" * 64)
        log_replay(store, "f" * 64, "b" * 64, tenant="other")
        other = Draft(
            action="approval.given",
            actor=ACTOR,
            ref={"report": DIGEST},
            data={"what": "report", "verdict": "approved"},
        )
        with store.transaction() as tx:
            append(tx, "acme", other, uuid7())
        found = parse_entry(store.find_replay("acme", DIGEST).body)
        assert (found.action, found.data["candidate"]["digest"]) == ("policy.replayed", "a" * 64)
        assert found.data["report_digest"] == DIGEST

    def test_the_newest_reverification_of_a_log_is_found(self, store) -> None:
        assert store.find_reverified("acme") is None
        for tenant, decisions in (("acme", 1), ("acme", 2), ("other", 3)):
            log_reverified(store, tenant, decisions=decisions)
        log_replay(store, "a" * 64, "b" * 64)
        assert parse_entry(store.find_reverified("acme").body).data["decisions"] == 2

    def test_a_bundle_that_is_locked_is_seen_as_its_holder_leaves_it(self, store) -> None:
        kept = add(store, new_bundle())
        locked = threading.Event()

        def look() -> State:
            locked.wait(PATIENCE_S)
            with store.transaction() as tx:
                return tx.lock_bundle("acme", kept.digest)[0].state

        with ThreadPoolExecutor(1) as pool:
            seen = pool.submit(look)
            with store.transaction() as tx:
                tx.lock_bundle("acme", kept.digest)
                locked.set()
                with pytest.raises(TimeoutError):
                    seen.result(HELD_S)
                tx.update_bundle(replace(kept, state=State.SHADOW, proposer=SECOND))
        assert seen.result(PATIENCE_S) is State.SHADOW

    def test_of_racing_promotions_exactly_one_wins(self, store, tmp_path, list_entries) -> None:
        life = make_life(store, tmp_path)
        life.adopt("acme", make(1), {})
        kept, _ = life.add("acme", make(2), {}, actor=AUTHOR)
        life.propose("acme", kept.digest, Reports(), actor=AUTHOR)
        approval = replace(WAIVE_ALL, replaces=make(1).digest)
        together = threading.Barrier(4)

        def run(number: int) -> str:
            together.wait(PATIENCE_S)
            try:
                life.activate("acme", kept.digest, approval, actor=f"token:tok_{number}")
            except Conflict as error:
                return error.code
            return "won"

        with ThreadPoolExecutor(4) as pool:
            outcomes = sorted(pool.map(run, range(4)))
        assert outcomes == ["bundle_state", "bundle_state", "bundle_state", "won"]
        assert [entry.action for entry in list_entries("acme")].count("policy.bundle_activated") == 2

    def test_of_racing_adoptions_exactly_one_wins(self, store, tmp_path, list_entries) -> None:
        life = make_life(store, tmp_path)
        together = threading.Barrier(3)

        def run(number: int) -> bool:
            together.wait(PATIENCE_S)
            try:
                life.adopt("acme", make(number % 2), {})
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(3) as pool:
            assert sorted(pool.map(run, range(3))) == [False, False, True]
        assert len(list_entries("acme")) == 2

    def test_what_could_not_be_logged_was_not_done(self, store, tmp_path, list_entries) -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            make_life(store, tmp_path, append=fail).add("acme", make(), {}, actor=AUTHOR)
        assert store.find_bundle("acme", make().digest) is None
        with pytest.raises(NotFound):
            store.read_archive("acme", make().digest)
        kept, _ = make_life(store, tmp_path).add("acme", make(), {}, actor=AUTHOR)
        with pytest.raises(ZeroDivisionError):
            make_life(store, tmp_path, append=fail).propose("acme", kept.digest, Reports(), actor=AUTHOR)
        assert store.find_bundle("acme", kept.digest) == kept
        assert len(list_entries("acme")) == 1
