"""The life of a bundle: what is refused leaves the active one as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.adapters.sql.policies import SqlBundleStore
from app.errors import AssayError, Broken, Conflict, NotFound, Refused, Rejected
from app.policy.evidence import REPORTS, Approval, Reports
from app.policy.kept import ASSAY, NEXT_STATES, State
from app.policy.library import LOOK_S, BundleLibrary
from app.policy.ports import CheckResult
from tests.parts.bundles import (
    AUTHOR,
    SECOND,
    TESTS,
    THIRD,
    WAIVE_ALL,
    full_reports,
    log_replay,
    make,
    make_life,
    make_signer,
)
from tests.parts.sql_stores import open_part, sqlite_url

FIRST, NEXT, LATER = make(1), make(2), make(3)
APPROVAL = Approval(replaces=FIRST.digest)


@pytest.fixture
def part(tmp_path):
    with open_part(sqlite_url(tmp_path / "ledger.db")) as part:
        yield part


@pytest.fixture
def store(part):
    return SqlBundleStore(part.store, part.engine)


@pytest.fixture
def life(store, tmp_path):
    life = make_life(store, tmp_path)
    life.adopt("acme", FIRST, TESTS)
    return life


def propose(life, reports: Reports, *, actor: str = AUTHOR, forbidden: int = 0):
    """Add the next bundle, and propose it on a replay that is logged."""
    life.add("acme", NEXT, TESTS, actor=AUTHOR)
    log_replay(life.store, NEXT.digest, FIRST.digest, forbidden=forbidden)
    return life.propose("acme", NEXT.digest, reports, actor=actor)


@pytest.fixture
def proposed(life):
    return propose(life, full_reports(FIRST.digest))


def active(store) -> str:
    return store.find_in_force("acme")[State.ACTIVE].digest


def refuse(code: str, kind: type[AssayError], call, *arguments, **named) -> None:
    with pytest.raises(kind) as refused:
        call(*arguments, **named)
    assert refused.value.code == code


def test_a_bundle_goes_from_draft_to_active_and_the_one_before_retires(life, proposed, store, part) -> None:
    assert (proposed.state, proposed.author, proposed.proposer) == (State.SHADOW, AUTHOR, AUTHOR)
    done = life.activate("acme", NEXT.digest, APPROVAL, actor=SECOND)
    assert (done.state, done.approver) == (State.ACTIVE, SECOND)
    assert store.find_bundle("acme", FIRST.digest).state is State.RETIRED
    entry = part.list_entries("acme")[-1]
    assert (entry.action, entry.actor, entry.ref) == ("policy.bundle_activated", SECOND, {"bundle": NEXT.digest})
    assert entry.data["replaces"] == FIRST.digest
    assert (entry.data["author"], entry.data["proposer"]) == (AUTHOR, AUTHOR)
    assert entry.data["tests"]["passed"] == len(TESTS)
    assert entry.data["reports"] == full_reports(FIRST.digest).to_json()
    assert (entry.data["waived"], entry.data["accepted_deny_to_allow"]) == ([], 0)


def test_the_author_cannot_approve_even_what_another_proposed(life, store) -> None:
    propose(life, full_reports(FIRST.digest), actor=SECOND)
    for alone in (AUTHOR, SECOND):
        refuse("approval_own_change", Refused, life.activate, "acme", NEXT.digest, APPROVAL, actor=alone)
    assert active(store) == FIRST.digest
    life.activate("acme", NEXT.digest, APPROVAL, actor=THIRD)


def test_the_way_back_needs_two_people_as_well(life, proposed, store) -> None:
    life.activate("acme", NEXT.digest, APPROVAL, actor=SECOND)
    log_replay(store, FIRST.digest, NEXT.digest)
    life.propose("acme", FIRST.digest, full_reports(NEXT.digest), actor=THIRD)
    back = Approval(replaces=NEXT.digest)
    refuse("approval_own_change", Refused, life.activate, "acme", FIRST.digest, back, actor=THIRD)
    life.activate("acme", FIRST.digest, back, actor=AUTHOR)
    assert active(store) == FIRST.digest
    assert store.find_bundle("acme", FIRST.digest).author == ASSAY


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_that_is_missing_must_be_waived_by_name(life, store, name) -> None:
    propose(life, replace(full_reports(FIRST.digest), **{name: None}))
    refuse("evidence_missing", Rejected, life.activate, "acme", NEXT.digest, APPROVAL, actor=SECOND)
    assert active(store) == FIRST.digest
    life.activate("acme", NEXT.digest, replace(APPROVAL, waived=[name]), actor=SECOND)


@pytest.mark.parametrize(
    ("reports", "approval", "refusal"),
    [
        (full_reports(FIRST.digest, differences=1), APPROVAL, ("evidence_parity", Rejected)),
        (full_reports(FIRST.digest, deny_to_allow=3), APPROVAL, ("sign_off_missing", Rejected)),
        (
            full_reports(FIRST.digest, deny_to_allow=3),
            replace(APPROVAL, accepted_deny_to_allow=2),
            ("sign_off_missing", Rejected),
        ),
        (full_reports(FIRST.digest), replace(APPROVAL, replaces=LATER.digest), ("bundle_superseded", Conflict)),
        (full_reports(FIRST.digest), WAIVE_ALL, ("bundle_superseded", Conflict)),
    ],
)
def test_an_approval_that_the_reports_do_not_carry_is_refused(life, store, reports, approval, refusal) -> None:
    propose(life, reports, forbidden=reports.impact.deny_to_allow)
    refuse(*refusal, life.activate, "acme", NEXT.digest, approval, actor=SECOND)
    assert active(store) == FIRST.digest


def test_deny_that_becomes_allow_is_accepted_by_its_number_and_logged(life, part) -> None:
    propose(life, full_reports(FIRST.digest, deny_to_allow=3), forbidden=3)
    life.activate("acme", NEXT.digest, replace(APPROVAL, accepted_deny_to_allow=3), actor=SECOND)
    assert part.list_entries("acme")[-1].data["accepted_deny_to_allow"] == 3


@pytest.mark.parametrize(
    "logged",
    [
        {"candidate": LATER.digest},
        {"candidate": None},
        {"base": LATER.digest},
        {"base": None},
        {"report_digest": "e" * 64},
        {"tenant": "other"},
        {"forbidden": 1},
        {"decisions": 51},
        {"transitions": {"allow_to_allow": 48, "allow_to_deny": 2}},
    ],
    ids=" ".join,
)
def test_a_report_on_impact_is_refused_unless_the_log_says_the_same_of_a_replay_of_this_bundle(life, store, logged):
    life.add("acme", NEXT, TESTS, actor=AUTHOR)
    log_replay(store, **({"candidate": NEXT.digest, "base": FIRST.digest} | logged))
    reports = full_reports(FIRST.digest)
    refuse("evidence_unproven", Rejected, life.propose, "acme", NEXT.digest, reports, actor=AUTHOR)
    assert store.find_bundle("acme", NEXT.digest).state is State.DRAFT


def test_an_impact_against_another_bundle_than_the_active_one_is_stale(life, store) -> None:
    life.add("acme", NEXT, TESTS, actor=AUTHOR)
    log_replay(store, NEXT.digest, LATER.digest)
    stale = full_reports(LATER.digest)
    refuse("evidence_stale", Conflict, life.propose, "acme", NEXT.digest, stale, actor=AUTHOR)


def test_the_sign_off_holds_against_the_log_whatever_became_of_the_report_beside_the_bundle(life, store) -> None:
    kept = propose(life, full_reports(FIRST.digest, deny_to_allow=3), forbidden=3)
    harmless = full_reports(FIRST.digest)
    with store.transaction() as tx:
        tx.lock_bundle("acme", NEXT.digest)
        tx.update_bundle(replace(kept, reports=harmless.to_json()))
    refuse("evidence_unproven", Rejected, life.activate, "acme", NEXT.digest, APPROVAL, actor=SECOND)
    assert active(store) == FIRST.digest


def test_a_bundle_that_fails_its_check_is_neither_kept_nor_activated(life, proposed, store, tmp_path) -> None:
    failing = make_life(store, tmp_path, check=lambda *_: CheckResult(problems=("a_test.test_x is not true",), tests=1))
    refuse("bundle_refused", Rejected, failing.add, "acme", LATER, TESTS, actor=AUTHOR)
    assert store.find_bundle("acme", LATER.digest) is None
    refuse("bundle_refused", Rejected, failing.activate, "acme", NEXT.digest, APPROVAL, actor=SECOND)
    assert active(store) == FIRST.digest
    assert store.find_in_force("acme")[State.SHADOW] == proposed


def test_a_bundle_signed_by_a_key_that_is_not_believed_is_not_activated(life, proposed, store, tmp_path) -> None:
    other = make_life(store, tmp_path, signer=make_signer(tmp_path / "other"))
    refuse("bundle_damaged", Broken, other.activate, "acme", NEXT.digest, APPROVAL, actor=SECOND)
    assert active(store) == FIRST.digest


def test_an_archive_that_was_exchanged_in_the_store_decides_nothing(life, store) -> None:
    class Exchanged:
        def read_archive(self, tenant: str, digest: str) -> bytes:
            return store.read_archive(tenant, LATER.digest)

    life.add("acme", LATER, TESTS, actor=AUTHOR)
    refuse("bundle_damaged", Broken, replace(life, store=Exchanged()).read, "acme", FIRST.digest)


def test_adding_a_bundle_again_changes_nothing_and_other_tests_are_refused(life, part) -> None:
    life.add("acme", NEXT, TESTS, actor=AUTHOR)
    before = part.list_entries("acme")
    kept, created = life.add("acme", NEXT, TESTS, actor=SECOND)
    assert (created, kept.author) == (False, AUTHOR)
    refuse("bundle_tests_differ", Conflict, life.add, "acme", NEXT, {}, actor=SECOND)
    assert part.list_entries("acme") == before


def test_a_second_proposal_sends_the_first_back_to_its_author(life, proposed, store) -> None:
    life.add("acme", LATER, TESTS, actor=AUTHOR)
    life.propose("acme", LATER.digest, Reports(), actor=AUTHOR)
    assert store.find_bundle("acme", NEXT.digest).state is State.DRAFT
    refuse("bundle_state", Conflict, life.activate, "acme", NEXT.digest, APPROVAL, actor=SECOND)


def test_the_active_bundle_is_not_retired_without_a_next_one(life, store) -> None:
    refuse("bundle_state", Conflict, life.retire, "acme", FIRST.digest, reason="wrong", actor=AUTHOR)
    assert active(store) == FIRST.digest


def test_a_draft_is_given_up_with_a_reason_that_is_a_code(life, proposed, part) -> None:
    refuse("reason_invalid", Rejected, life.retire, "acme", NEXT.digest, reason="Not nice", actor=AUTHOR)
    life.retire("acme", NEXT.digest, reason="not_needed", actor=AUTHOR)
    assert part.list_entries("acme")[-1].data == {"digest": NEXT.digest, "reason": "not_needed"}
    refuse("bundle_state", Conflict, life.retire, "acme", NEXT.digest, reason="again", actor=AUTHOR)


def test_another_tenants_bundle_looks_absent_at_every_step(life, proposed) -> None:
    absent = ("bundle_unknown", NotFound)
    refuse(*absent, life.propose, "other", NEXT.digest, Reports(), actor=AUTHOR)
    refuse(*absent, life.activate, "other", NEXT.digest, APPROVAL, actor=SECOND)
    refuse(*absent, life.retire, "other", NEXT.digest, reason="x", actor=AUTHOR)
    refuse(*absent, life.read, "other", NEXT.digest)


def test_a_draft_is_never_activated_without_having_been_proposed(life) -> None:
    life.add("acme", NEXT, TESTS, actor=AUTHOR)
    refuse(
        "bundle_state", Conflict, life.activate, "acme", NEXT.digest, replace(APPROVAL, waived=REPORTS), actor=SECOND
    )
    assert all(State.ACTIVE not in after for state, after in NEXT_STATES.items() if state is not State.SHADOW)


def test_the_library_asks_once_in_a_second_and_then_sees_a_promotion(life, proposed, store) -> None:
    clock, asked = [0.0], []

    def find_in_force(tenant):
        asked.append(tenant)
        return store.find_in_force(tenant)

    library = BundleLibrary(
        find_in_force=find_in_force, read=lambda t, d: life.read(t, d).bundle, monotonic_s=lambda: clock[0]
    )
    assert [library.active("acme") for _ in range(100)] == [FIRST] * 100
    assert library.find_shadow("acme") == NEXT
    life.activate("acme", NEXT.digest, APPROVAL, actor=SECOND)
    assert (library.active("acme"), len(asked)) == (FIRST, 1)
    clock[0] += LOOK_S
    assert (library.active("acme"), library.find_shadow("acme"), len(asked)) == (NEXT, None, 2)
    assert library.read("acme", FIRST.digest) == library.read_loaded(FIRST.digest) == FIRST


def test_the_library_gives_a_tenant_nothing_of_another(life, store) -> None:
    library = BundleLibrary(
        find_in_force=store.find_in_force, read=lambda t, d: life.read(t, d).bundle, monotonic_s=lambda: 0.0
    )
    library.active("acme")
    refuse("bundle_unknown", NotFound, library.read, "other", FIRST.digest)
    refuse("policies_missing", AssayError, library.active, "other")
    refuse("bundle_unknown", NotFound, library.read_loaded, LATER.digest)
