"""Reconciling: unknown payments move by evidence, and by nothing else."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from app.errors import Broken, Unavailable
from app.payments.intent import AttemptState, IntentState
from app.payments.ports import Captured, Declined
from app.payments.reconcile import SENDS_MAX, may_replay, reconcile, reconcile_intent
from app.payments.settle import CHECK_AFTER_MAX_S, CHECK_AFTER_MIN_S, PROCESSING_LEASE_S, Evidence, check_after, settle
from tests.fakes.payment_parts import ACTOR, START, Watch, make_attempt, make_intent, pay_now, read_state, start
from tests.fakes.payment_store import MemoryPaymentStore
from tests.fakes.psp import Crash, FakePsp

DAY_S = 24 * 3600


@pytest.fixture
def store():
    return MemoryPaymentStore()


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def psp(watch):
    return FakePsp(lambda: watch.true_at)


def run(store, psp, watch, **options):
    return reconcile(store=store, connectors={"stripe": psp}, clock=watch.clock(), actor="system:reconcile", **options)


def crash(store, psp, watch, fault, **values):
    """Leave behind a payment whose process died while sending."""
    psp.faults.append(fault)
    intent = start(store, make_intent(**values))
    with pytest.raises(Crash):
        pay_now(store, intent, psp, watch)
    watch.advance(PROCESSING_LEASE_S)
    return intent


@pytest.mark.parametrize("fault", ["crash_before", "crash_after"])
def test_a_crashed_payment_is_replayed_under_its_key(store, psp, watch, fault) -> None:
    intent = crash(store, psp, watch, fault)
    (found,) = run(store, psp, watch)
    assert found.state is IntentState.SUCCEEDED
    assert len(psp.requests) == 1
    assert len(psp.live_charges(intent.id)) == 1
    assert store.list_actions(intent.id)[-2:] == ["payment.attempted", "payment.reconciled"]
    assert store.tables.entries[-1][1].data["evidence"] == "replay"


def test_a_payment_that_cannot_be_looked_into_is_named_and_holds_up_no_other(store, psp, watch) -> None:
    broken, sound = (crash(store, psp, watch, "crash_after") for _ in range(2))
    (attempt,) = (each for each in store.tables.attempts.values() if each.intent_id == broken.id)
    store.tables.attempts["acme", attempt.id] = replace(attempt, payment_method="pm_other")
    with pytest.raises(Broken):
        run(store, psp, watch)
    named = []
    (found,) = run(store, psp, watch, report=lambda intent, error: named.append((intent.id, error.code)))
    assert (found.id, found.state) == (sound.id, IntentState.SUCCEEDED)
    assert named == [(broken.id, "request_changed")]
    assert read_state(store, broken) is IntentState.PROCESSING


def test_a_store_that_is_away_is_no_fault_of_a_payment(store, psp, watch) -> None:
    crash(store, psp, watch, "crash_after")

    def go_away(_when: str) -> None:
        raise Unavailable("the database is away")

    store.around_commit = go_away
    with pytest.raises(Unavailable):
        run(store, psp, watch, report=lambda *_: pytest.fail("the payment is sound"))


def test_who_is_stopping_takes_no_other_payment(store, psp, watch) -> None:
    for _ in range(3):
        crash(store, psp, watch, "crash_after")
    asked = iter([False, True])
    assert len(run(store, psp, watch, is_stopping=lambda: next(asked))) == 1


def test_nobody_looks_before_the_sender_had_its_time(store, psp, watch) -> None:
    crash(store, psp, watch, "crash_after")
    watch.advance(-1)
    assert run(store, psp, watch) == []


def test_a_psp_that_only_repeats_its_own_failure_is_asked_by_our_reference(store, psp, watch) -> None:
    psp.faults.append("failed_after")
    intent = start(store, make_intent())
    pay_now(store, intent, psp, watch)
    watch.advance(CHECK_AFTER_MAX_S)
    (found,) = run(store, psp, watch)
    assert found.state is IntentState.SUCCEEDED
    assert store.tables.entries[-1][1].data["evidence"] == "lookup"


def test_absence_is_evidence_only_after_the_settle_delay(store, psp, watch) -> None:
    intent = crash(store, psp, watch, "crash_before")
    psp.faults.extend(["failed_before"])
    watch.advance(DAY_S - 2 * PROCESSING_LEASE_S - psp.settle_delay_s + 3600)  # the key is no longer fresh
    with store.transaction() as tx:
        (attempt,) = tx.list_attempts("acme", intent.id)
        tx.update_attempt(attempt, replace(attempt, sends=2, last_sent_at=watch.now_at))
    run(store, psp, watch)
    assert read_state(store, intent) is IntentState.UNKNOWN
    watch.advance(psp.settle_delay_s)
    (found,) = run(store, psp, watch)
    assert (found.state, found.code) == (IntentState.FAILED, "no_such_reference")


def test_a_key_the_psp_may_have_forgotten_is_never_sent_again(store, psp, watch) -> None:
    intent = crash(store, psp, watch, "crash_after")
    watch.advance(DAY_S)
    (found,) = run(store, psp, watch)
    assert sum(psp.requests.values()) == 1
    assert found.state is IntentState.SUCCEEDED
    assert len(psp.live_charges(intent.id)) == 1


def test_no_time_at_all_makes_an_unanswered_question_a_failure(store, psp, watch) -> None:
    intent = crash(store, psp, watch, "crash_after")
    psp.lookups_fail = True
    watch.advance(DAY_S)
    for _ in range(50):
        run(store, psp, watch)
        watch.advance(DAY_S)
    assert read_state(store, intent) is IntentState.UNKNOWN
    assert store.list_actions(intent.id).count("payment.unknown") == 1


def test_replays_are_bounded(store, psp, watch) -> None:
    psp.faults.append("failed_before")
    psp.lookups_fail = True
    pay_now(store, start(store, make_intent()), psp, watch)
    sent = sum(psp.requests.values())
    for _ in range(3 * SENDS_MAX):
        watch.advance(CHECK_AFTER_MAX_S)
        run(store, psp, watch)
    assert sum(psp.requests.values()) == sent + SENDS_MAX - 1


def test_a_clock_that_stepped_back_forbids_a_replay(psp) -> None:
    attempt = make_attempt()
    assert may_replay(attempt, psp, START)
    assert not may_replay(attempt, psp, START - timedelta(seconds=1))
    assert not may_replay(attempt, psp, START + timedelta(seconds=psp.key_fresh_s))
    assert not may_replay(replace(attempt, sends=SENDS_MAX), psp, START)
    assert not may_replay(replace(attempt, state=AttemptState.REQUIRES_ACTION), psp, START)


def test_a_challenge_is_looked_up_and_never_replayed(store, psp, watch) -> None:
    intent = start(store, make_intent(payment_method="pm_challenge"))
    pay_now(store, intent, psp, watch)
    for _ in range(4):
        watch.advance(DAY_S)
        run(store, psp, watch)
    assert sum(psp.requests.values()) == 1
    assert read_state(store, intent) is IntentState.REQUIRES_ACTION


def test_what_was_committed_to_is_what_is_replayed(store, psp, watch) -> None:
    intent = crash(store, psp, watch, "crash_before")
    key, attempt = next(iter(store.tables.attempts.items()))
    store.tables.attempts[key] = replace(attempt, payment_method="pm_other")
    with pytest.raises(Broken):
        run(store, psp, watch)
    assert sum(psp.requests.values()) == 1
    assert read_state(store, intent) is IntentState.PROCESSING


def test_a_psp_that_is_not_connected_leaves_the_payment_due(store, psp, watch) -> None:
    crash(store, psp, watch, "crash_after")
    assert reconcile(store=store, connectors={}, clock=watch.clock(), actor=ACTOR) == []
    assert len(run(store, psp, watch)) == 1


def test_one_round_is_bounded_and_of_one_tenant_if_asked(store, psp, watch) -> None:
    for tenant in ("acme", "acme", "other"):
        crash(store, psp, watch, "crash_after", tenant=tenant)
    assert len(run(store, psp, watch, limit=1)) == 1
    assert [intent.tenant for intent in run(store, psp, watch, tenant="other")] == ["other"]
    assert len(run(store, psp, watch)) == 1


def test_an_intent_that_another_reconciler_took_is_left_alone(store, psp, watch) -> None:
    intent = crash(store, psp, watch, "crash_after")
    others = []

    def look_too(attempt) -> None:
        psp.on_request = lambda attempt: None
        clock = watch.clock()
        others.append(reconcile_intent(intent, store=store, connector=psp, clock=clock, actor=ACTOR))

    psp.on_request = look_too
    (found,) = run(store, psp, watch)
    assert others == [None]
    assert found.state is IntentState.SUCCEEDED
    assert sum(psp.requests.values()) == 2


def test_many_reconcilers_at_once_send_one_replay(store, psp, watch) -> None:
    intent = crash(store, psp, watch, "crash_after")
    ready = threading.Barrier(16)

    def work() -> None:
        ready.wait(20)
        run(store, psp, watch)

    workers = [threading.Thread(target=work) for _ in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert sum(psp.requests.values()) == 2
    assert len(psp.live_charges(intent.id)) == 1
    assert store.list_actions(intent.id).count("payment.reconciled") == 1


def test_a_sender_whose_knowledge_is_old_cannot_call_a_charged_payment_failed(store, psp, watch) -> None:
    """It was refused, slept past its lease, and meanwhile a reconciler's replay charged without an answer."""
    intent = start(store, make_intent())
    psp.faults.extend(["refused", "refused", "refused", "lost_after"])
    psp.lookups_fail = True

    original = psp.charge

    def charge(attempt, *, idempotency_key):
        outcome = original(attempt, idempotency_key=idempotency_key)
        if len(psp.faults) == 1:  # the last refusal: the sender sleeps here
            watch.advance(PROCESSING_LEASE_S)
            psp.charge = original
            run(store, psp, watch)
        return outcome

    psp.charge = charge
    assert pay_now(store, intent, psp, watch).state is IntentState.UNKNOWN
    assert len(psp.live_charges(intent.id)) == 1
    psp.lookups_fail = False
    watch.advance(CHECK_AFTER_MAX_S)
    run(store, psp, watch)
    assert read_state(store, intent) is IntentState.SUCCEEDED


@pytest.mark.parametrize(
    ("method", "outcome"),
    [("pm_declined", Captured(psp_reference="psp_1")), ("pm_card_visa", Declined(code="card_declined"))],
)
def test_an_answer_that_contradicts_a_final_state_is_put_on_record(store, psp, watch, method, outcome) -> None:
    intent = start(store, make_intent(payment_method=method))
    final = pay_now(store, intent, psp, watch)
    (attempt,) = store.tables.attempts.values()
    with store.transaction() as tx:
        after = settle(tx, attempt, outcome, evidence=Evidence.REPLY, now=watch.now_at, actor=ACTOR)
    assert after == final
    assert store.list_actions(intent.id)[-1] == "payment.contradicted"


def test_the_pause_between_checks_doubles_with_age_within_bounds() -> None:
    attempt = make_attempt()
    ages_s = [0, 10, 60, 100_000]
    pauses = [check_after(attempt, START + timedelta(seconds=age)) - START for age in ages_s]
    waits = [pause.total_seconds() - age for pause, age in zip(pauses, ages_s, strict=True)]
    assert waits == [CHECK_AFTER_MIN_S, CHECK_AFTER_MIN_S, 60, CHECK_AFTER_MAX_S]
