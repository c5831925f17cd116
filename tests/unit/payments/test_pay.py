"""Paying: what reaches a PSP, when, and what is on record by then."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from app.errors import Broken, Conflict, Rejected
from app.payments.intent import NEXT_STATES, AttemptState, IntentState, make_key
from app.payments.pay import PAY_BUDGET_S, SENDS_PER_PAY_MAX
from app.payments.settle import PROCESSING_LEASE_S
from app.policy.decision import Allow, Deny, Review
from tests.fakes.payment_parts import (
    SECRET,
    Watch,
    decide_with,
    make_attempt,
    make_intent,
    pay_now,
    read_state,
    start,
)
from tests.fakes.payment_store import MemoryPaymentStore
from tests.fakes.psp import Crash, FakePsp


@pytest.fixture
def store():
    return MemoryPaymentStore()


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def psp(watch):
    return FakePsp(lambda: watch.true_at)


def test_an_allowed_payment_is_charged_once_and_every_step_is_on_record(store, psp, watch) -> None:
    intent = start(store, make_intent(subject="sub_1"))
    paid = pay_now(store, intent, psp, watch)
    assert paid.state is IntentState.SUCCEEDED
    assert paid.next_check_at is None
    assert len(psp.live_charges(intent.id)) == 1
    assert store.list_actions(intent.id) == ["payment.created", "payment.attempted", "payment.succeeded"]
    drafts = [draft for _, draft in store.tables.entries]
    assert {draft.subject for draft in drafts} == {"sub_1"}
    assert drafts[1].ref.keys() == {"payment", "attempt", "decision"}
    assert drafts[2].data == {
        "amount_minor": 1099,
        "currency": "EUR",
        "psp": "stripe",
        "code": "captured",
        "psp_reference": f"psp_{paid.active_attempt_id}",
    }


@pytest.mark.parametrize(
    ("answer", "state"),
    [(Deny, IntentState.DENIED), (Review, IntentState.IN_REVIEW)],
)
def test_a_payment_that_is_not_allowed_never_reaches_a_psp(store, psp, watch, answer, state) -> None:
    intent = start(store, make_intent())
    stopped = pay_now(store, intent, psp, watch, decide=decide_with(answer, code="sanctions_hit"))
    assert (stopped.state, stopped.code) == (state, "sanctions_hit")
    assert stopped.decision_id is not None
    assert not psp.requests
    assert store.list_actions(intent.id) == ["payment.created", f"payment.{state}"]


def test_a_decision_for_a_psp_whose_token_we_lack_is_not_carried_out_elsewhere(store, psp, watch) -> None:
    intent = start(store, make_intent())
    decide = decide_with(Allow, output={"psp": "braintree"})
    assert pay_now(store, intent, psp, watch, decide=decide).code == "no_token_at_chosen_psp"
    assert not psp.requests


def test_a_decision_that_fails_leaves_the_payment_unsent(store, psp, watch) -> None:
    def decide(intent):
        raise Broken("the decision could not be logged")

    intent = start(store, make_intent())
    with pytest.raises(Broken):
        pay_now(store, intent, psp, watch, decide=decide)
    assert not psp.requests
    assert read_state(store, intent) is IntentState.CREATED


def test_no_transaction_is_open_while_a_psp_is_called(store, watch) -> None:
    seen = []
    psp = FakePsp(lambda: watch.true_at, on_request=lambda attempt: seen.append(store.open_transactions))
    pay_now(store, start(store, make_intent()), psp, watch)
    assert seen == [0]


def test_the_attempt_and_its_entry_are_durable_before_the_psp_hears_of_it(store, watch) -> None:
    def check(attempt) -> None:
        assert store.tables.attempts["acme", attempt.id] == attempt
        assert store.list_actions(attempt.intent_id)[-1] == "payment.attempted"

    psp = FakePsp(lambda: watch.true_at, on_request=check)
    pay_now(store, start(store, make_intent()), psp, watch)
    assert sum(psp.requests.values()) == 1


def test_a_decline_is_final(store, psp, watch) -> None:
    intent = start(store, make_intent(payment_method="pm_declined"))
    declined = pay_now(store, intent, psp, watch)
    assert (declined.state, declined.code) == (IntentState.FAILED, "card_declined")
    assert sum(psp.requests.values()) == 1


def test_a_challenge_waits_for_the_payer(store, psp, watch) -> None:
    waiting = pay_now(store, start(store, make_intent(payment_method="pm_challenge")), psp, watch)
    assert waiting.state is IntentState.REQUIRES_ACTION
    assert waiting.next_check_at is not None


@pytest.mark.parametrize("fault", ["lost_before", "lost_after"])
def test_a_lost_answer_is_replayed_under_the_same_key(store, psp, watch, fault) -> None:
    psp.faults.append(fault)
    paid = pay_now(store, start(store, make_intent()), psp, watch)
    assert paid.state is IntentState.SUCCEEDED
    assert len(psp.requests) == 1
    assert len(psp.live_charges(paid.id)) == 1


def test_unknown_is_held_and_never_called_a_failure(store, psp, watch) -> None:
    psp.faults.extend(["failed_after"])
    held = pay_now(store, start(store, make_intent()), psp, watch)
    assert held.state is IntentState.UNKNOWN
    assert held.next_check_at is not None
    assert sum(psp.requests.values()) == SENDS_PER_PAY_MAX
    assert store.list_actions(held.id)[-1] == "payment.unknown"


def test_a_refused_replay_after_an_unknown_send_proves_nothing(store, psp, watch) -> None:
    psp.faults.extend(["lost_after", "refused", "refused"])
    assert pay_now(store, start(store, make_intent()), psp, watch).state is IntentState.UNKNOWN


def test_a_payment_that_certainly_never_left_has_failed(store, psp, watch) -> None:
    psp.faults.extend(["refused"] * SENDS_PER_PAY_MAX)
    failed = pay_now(store, start(store, make_intent()), psp, watch)
    assert (failed.state, failed.code) == (IntentState.FAILED, "refused")
    assert store.list_actions(failed.id)[-1] == "payment.not_sent"
    assert not psp.charges


def test_a_process_that_slept_past_its_budget_does_not_wake_up_and_charge(store, psp, watch) -> None:
    intent = start(store, make_intent())

    def sleep_after_the_attempt(when) -> None:
        if when == "after" and len(store.tables.attempts) == 1:
            watch.advance(PAY_BUDGET_S)

    store.around_commit = sleep_after_the_attempt
    assert pay_now(store, intent, psp, watch).code == "not_in_time"
    assert not psp.requests


def test_a_budget_ends_the_replays(store, psp, watch) -> None:
    psp.on_request = lambda attempt: watch.advance(PAY_BUDGET_S)
    psp.faults.extend(["lost_after"] * 9)
    pay_now(store, start(store, make_intent()), psp, watch)
    assert sum(psp.requests.values()) == 1


def test_a_crash_while_sending_leaves_the_payment_processing_and_due(store, psp, watch) -> None:
    psp.faults.append("crash_after")
    intent = start(store, make_intent())
    with pytest.raises(Crash):
        pay_now(store, intent, psp, watch)
    assert read_state(store, intent) is IntentState.PROCESSING
    watch.advance(PROCESSING_LEASE_S)
    assert [due.id for due in store.list_due(None, watch.now_at, 10)] == [intent.id]


def test_paying_twice_sends_once(store, psp, watch) -> None:
    intent = start(store, make_intent())
    first = pay_now(store, intent, psp, watch)
    assert pay_now(store, intent, psp, watch) == first
    assert pay_now(store, intent, psp, watch, decide=decide_with(Deny)) == first
    assert sum(psp.requests.values()) == 1


def test_many_workers_paying_one_intent_send_it_once(store, psp, watch) -> None:
    intent = start(store, make_intent())
    ready = threading.Barrier(16)

    def work() -> None:
        ready.wait(20)
        pay_now(store, intent, psp, watch)

    workers = [threading.Thread(target=work) for _ in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert sum(psp.requests.values()) == 1
    assert len(psp.live_charges(intent.id)) == 1


def test_a_card_number_is_refused_before_anything_is_stored(store) -> None:
    with pytest.raises(Rejected) as caught:
        start(store, make_intent(payment_method="4242424242424242"))
    assert caught.value.code == "card_number"
    assert not store.tables.intents


def test_an_amount_the_psp_cannot_charge_is_refused_before_anything_is_stored(store) -> None:
    with pytest.raises(Rejected):
        start(store, make_intent(amount_minor=5124, currency="KWD"))
    assert not store.tables.entries


def test_an_intent_is_opened_once(store) -> None:
    intent = start(store, make_intent())
    with pytest.raises(Conflict):
        start(store, intent)
    assert store.list_actions(intent.id) == ["payment.created"]


def test_a_final_state_has_no_way_out() -> None:
    for state in (IntentState.DENIED, IntentState.SUCCEEDED, IntentState.FAILED):
        assert NEXT_STATES[state] == frozenset()
    intent = replace(make_intent(), state=IntentState.SUCCEEDED)
    with pytest.raises(Broken):
        intent.to(IntentState.FAILED, now=intent.created_at)


def test_an_attempt_does_not_return_to_unknown() -> None:
    attempt = replace(make_attempt(), state=AttemptState.CAPTURED)
    with pytest.raises(Broken):
        attempt.to(AttemptState.UNKNOWN, code="c", psp_reference=None)


def test_a_key_depends_on_every_part_and_on_the_secret() -> None:
    parts = ("acme", "pi_1", "pa_1", "stripe", "charge")
    keys = {make_key(SECRET, *parts), make_key(b"j" * 32, *parts)}
    keys |= {make_key(SECRET, *parts[:n], "other", *parts[n + 1 :]) for n in range(5)}
    assert len(keys) == 7
    assert {len(key) for key in keys} == {32}


def test_a_short_key_secret_is_refused() -> None:
    with pytest.raises(Broken):
        make_key(b"short", "acme")
