"""What every `PaymentStore` promises. Run it by subclassing with a `store` and a `list_actions` fixture.

`list_actions` is a function `(tenant) -> list[str]` that returns the actions of all durable entries, in order.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from app.errors import Conflict, NotFound
from app.payments.intent import AttemptState, IntentState
from app.payments.ports import LiveAttemptError, StaleIntentError
from tests.fakes.payment_parts import ACTOR, START, make_attempt, make_intent

LOCK_WAIT_S = 0.2
PATIENCE_S = 20


def note(tx, intent) -> None:
    tx.append(
        "payment.denied",
        tenant=intent.tenant,
        actor=ACTOR,
        subject=intent.subject,
        ref={"payment": intent.id},
        data={"code": "because"},
    )


def store_intent(store, **values):
    intent = make_intent(**values)
    with store.transaction() as tx:
        tx.insert_intent(intent)
    return intent


def start_attempt(store, intent):
    attempt = make_attempt(intent)
    processing = replace(intent.to(IntentState.PROCESSING, now=START), active_attempt_id=attempt.id)
    with store.transaction() as tx:
        tx.update_intent(intent, processing)
        tx.insert_attempt(attempt)
    return processing, attempt


class PaymentStoreContract:
    def test_an_intent_comes_back_as_it_was_stored(self, store) -> None:
        intent = make_intent(
            subject="sub_1", next_check_at=START + timedelta(microseconds=1), code="c", decision_id="dec_1"
        )
        with store.transaction() as tx:
            tx.insert_intent(intent)
        with store.transaction() as tx:
            assert tx.lock_intent("acme", intent.id) == intent
        assert store.find_intent("acme", intent.id) == intent

    def test_an_attempt_comes_back_as_it_was_stored(self, store) -> None:
        _, attempt = start_attempt(store, store_intent(store))
        with store.transaction() as tx:
            assert tx.read_attempt("acme", attempt.id) == attempt
            assert tx.list_attempts("acme", attempt.intent_id) == [attempt]

    def test_a_tenant_never_sees_anothers_payment(self, store) -> None:
        intent, attempt = start_attempt(store, store_intent(store, tenant="acme"))
        assert store.find_intent("other", intent.id) is None
        with store.transaction() as tx:
            assert tx.list_attempts("other", intent.id) == []
            with pytest.raises(NotFound):
                tx.lock_intent("other", intent.id)
            with pytest.raises(NotFound):
                tx.read_attempt("other", attempt.id)

    def test_what_is_absent_is_not_found(self, store) -> None:
        assert store.find_intent("acme", "pi_absent") is None
        with store.transaction() as tx:
            with pytest.raises(NotFound):
                tx.lock_intent("acme", "pi_absent")
            with pytest.raises(NotFound):
                tx.read_attempt("acme", "pa_absent")

    def test_a_failed_transaction_leaves_nothing_behind(self, store, list_actions) -> None:
        intent = make_intent()
        with pytest.raises(ZeroDivisionError), store.transaction() as tx:  # noqa: PT012  the block is the transaction
            tx.insert_intent(intent)
            tx.insert_attempt(make_attempt(intent))
            note(tx, intent)
            raise ZeroDivisionError
        assert store.find_intent("acme", intent.id) is None
        with store.transaction() as tx:
            assert tx.list_attempts("acme", intent.id) == []
        assert list_actions("acme") == []

    def test_an_entry_is_durable_with_its_change(self, store, list_actions) -> None:
        intent = make_intent()
        with store.transaction() as tx:
            tx.insert_intent(intent)
            note(tx, intent)
        assert list_actions("acme") == ["payment.denied"]

    def test_an_intent_is_stored_once(self, store) -> None:
        intent = store_intent(store)
        with pytest.raises(Conflict), store.transaction() as tx:
            tx.insert_intent(intent)

    def test_a_second_live_attempt_is_refused(self, store) -> None:
        intent, _ = start_attempt(store, store_intent(store))
        with pytest.raises(LiveAttemptError), store.transaction() as tx:
            tx.insert_attempt(make_attempt(intent))

    @pytest.mark.parametrize("state", [AttemptState.UNKNOWN, AttemptState.REQUIRES_ACTION])
    def test_an_open_attempt_still_counts_as_live(self, store, state) -> None:
        intent, attempt = start_attempt(store, store_intent(store))
        with store.transaction() as tx:
            tx.update_attempt(attempt, attempt.to(state, code="c", psp_reference="psp_1"))
        with pytest.raises(LiveAttemptError), store.transaction() as tx:
            tx.insert_attempt(make_attempt(intent))

    def test_after_a_final_attempt_another_may_follow(self, store) -> None:
        intent, attempt = start_attempt(store, store_intent(store))
        second = make_attempt(intent, now=START + timedelta(seconds=1))
        with store.transaction() as tx:
            tx.update_attempt(attempt, attempt.to(AttemptState.NOT_SENT, code="c", psp_reference=None))
            tx.insert_attempt(second)
        with store.transaction() as tx:
            assert [it.id for it in tx.list_attempts("acme", intent.id)] == [attempt.id, second.id]

    def test_an_idempotency_key_is_used_by_one_attempt(self, store) -> None:
        _, attempt = start_attempt(store, store_intent(store))
        other = store_intent(store)
        with pytest.raises(Conflict), store.transaction() as tx:
            tx.insert_attempt(replace(make_attempt(other), key=attempt.key))

    def test_an_update_of_an_intent_that_moved_on_is_refused(self, store) -> None:
        stale = store_intent(store)
        moved, _ = start_attempt(store, stale)
        with pytest.raises(StaleIntentError), store.transaction() as tx:
            tx.update_intent(stale, stale.to(IntentState.DENIED, now=START))
        other = replace(moved, active_attempt_id="pa_other")
        with pytest.raises(StaleIntentError), store.transaction() as tx:
            tx.update_intent(other, other.to(IntentState.UNKNOWN, now=START))
        assert store.find_intent("acme", stale.id) == moved

    def test_an_update_of_an_attempt_that_moved_on_is_refused(self, store) -> None:
        _, stale = start_attempt(store, store_intent(store))
        sent = replace(stale, sends=2, last_sent_at=START + timedelta(seconds=5))
        with store.transaction() as tx:
            tx.update_attempt(stale, sent)
        with pytest.raises(StaleIntentError), store.transaction() as tx:
            tx.update_attempt(stale, stale.to(AttemptState.NOT_SENT, code="c", psp_reference=None))
        with store.transaction() as tx:
            assert tx.read_attempt("acme", stale.id) == sent

    def test_due_intents_are_listed_longest_due_first_within_the_limit(self, store) -> None:
        due = [store_intent(store, next_check_at=START + timedelta(seconds=s)) for s in (3, 1, 2)]
        store_intent(store, next_check_at=START + timedelta(seconds=11))
        store_intent(store, next_check_at=None)
        now = START + timedelta(seconds=10)
        assert [it.id for it in store.list_due("acme", now, 10)] == [due[1].id, due[2].id, due[0].id]
        assert [it.id for it in store.list_due("acme", now, 1)] == [due[1].id]

    def test_due_intents_are_listed_of_one_tenant_or_of_all(self, store) -> None:
        ours = store_intent(store, tenant="acme", next_check_at=START)
        theirs = store_intent(store, tenant="other", next_check_at=START + timedelta(seconds=1))
        now = START + timedelta(seconds=1)
        assert [it.id for it in store.list_due("acme", now, 10)] == [ours.id]
        assert [it.id for it in store.list_due(None, now, 10)] == [ours.id, theirs.id]

    def test_who_looks_neither_waits_for_a_writer_nor_sees_what_is_not_committed(self, store) -> None:
        intent = store_intent(store, next_check_at=START)
        with store.transaction() as tx:
            locked = tx.lock_intent("acme", intent.id)
            tx.update_intent(locked, locked.to(IntentState.DENIED, now=START))
            assert store.find_intent("acme", intent.id) == intent
            assert store.list_due("acme", START, 10) == [intent]
        assert store.find_intent("acme", intent.id).state is IntentState.DENIED

    def test_a_locked_intent_is_not_locked_by_anybody_else(self, store) -> None:
        intent = store_intent(store)
        started, got_lock = threading.Event(), threading.Event()
        seen = []

        def lock_too() -> None:
            started.set()
            with store.transaction() as tx:
                seen.append(tx.lock_intent("acme", intent.id).state)
                got_lock.set()

        with store.transaction() as tx:
            locked = tx.lock_intent("acme", intent.id)
            other = threading.Thread(target=lock_too)
            other.start()
            assert started.wait(PATIENCE_S)
            assert not got_lock.wait(LOCK_WAIT_S)
            tx.update_intent(locked, locked.to(IntentState.DENIED, now=START))
        other.join(PATIENCE_S)
        assert seen == [IntentState.DENIED]
