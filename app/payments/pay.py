"""Pay: decide, commit the attempt, send it with no transaction open, commit what came of it (DESIGN.md, flow Pay).

A crash leaves behind, by place: before the attempt is committed, an intent that never reached a PSP; after it, an
intent in PROCESSING, which `reconcile` treats as unknown and replays under the same key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from app.ledger.card import refuse_card_numbers
from app.payments.intent import Attempt, Intent, IntentState, plan_attempt
from app.payments.money import to_psp_amount
from app.payments.ports import (
    Clock,
    Connector,
    Decide,
    NotSent,
    Outcome,
    PaymentStore,
    PaymentTransaction,
    Unknown,
)
from app.payments.settle import PROCESSING_LEASE_S, Evidence, describe, settle, weigh
from app.policy.decision import Allow, Decision, Review

SENDS_PER_PAY_MAX: Final = 3
PAY_BUDGET_S: Final = 10.0
"""No send starts later than this; the last one may still take the connector's own timeouts."""

RETRY_PAUSE_S: Final = 0.2
RETRY_PAUSE_MAX_S: Final = 2.0


def open_intent(tx: PaymentTransaction, intent: Intent, *, actor: str) -> None:
    """Store a new intent, with its entry. Raises Rejected for a card number or an amount its PSP cannot charge."""
    refuse_card_numbers(intent.payment_method)
    to_psp_amount(intent.money, intent.psp)
    tx.insert_intent(intent)
    tx.append(
        "payment.created",
        tenant=intent.tenant,
        actor=actor,
        subject=intent.subject,
        ref={"payment": intent.id},
        data={
            "amount_minor": intent.money.amount_minor,
            "currency": intent.money.currency,
            "psp": intent.psp,
        },
    )


def pay(
    intent: Intent,
    *,
    store: PaymentStore,
    connectors: Mapping[str, Connector],
    decide: Decide,
    attempt_id: str,
    secret: bytes,
    clock: Clock,
    actor: str,
) -> Intent:
    """Carry out an intent that `open_intent` stored, and return it as it stands then.

    Safe to call again, at once or after a crash: only a CREATED intent is ever sent from here, and only by one
    caller. Raises what `decide` and the store raise; nothing was sent if `decide` did.
    """
    decision = decide(intent)  # an entry before anything acts on it
    obstacle = _find_obstacle(intent, decision, connectors)
    if obstacle is not None:
        with store.transaction() as tx:
            return _turn_away(tx, intent, decision, obstacle, clock=clock, actor=actor)

    deadline_s = clock.monotonic_s() + PAY_BUDGET_S
    with store.transaction() as tx:
        attempt = _begin(tx, intent, decision, attempt_id=attempt_id, secret=secret, clock=clock, actor=actor)
        if attempt is None:
            return tx.lock_intent(intent.tenant, intent.id)

    outcome = send_until(deadline_s, connectors[attempt.psp], attempt, clock=clock)  # no transaction is open here

    with store.transaction() as tx:
        return settle(tx, attempt, outcome, evidence=Evidence.REPLY, now=clock.now(), actor=actor)


def send_until(deadline_s: float, connector: Connector, attempt: Attempt, *, clock: Clock) -> Outcome:
    """Send `attempt`, again under the same key while its fate is open, and return what all the sends say together.

    At most `SENDS_PER_PAY_MAX` sends with full jitter between them. None starts after `deadline_s`, not even the first:
    a process that was stopped for an hour must not wake up and charge.
    """
    outcome: Outcome = NotSent(code="not_in_time")
    for send in range(SENDS_PER_PAY_MAX):
        if send:
            clock.sleep(clock.random() * min(RETRY_PAUSE_MAX_S, RETRY_PAUSE_S * 2**send))
        if clock.monotonic_s() >= deadline_s:
            break
        outcome = weigh(outcome, connector.charge(attempt, idempotency_key=attempt.key))
        if not _is_worth_resending(outcome):
            break
    return outcome


def _is_worth_resending(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) or (isinstance(outcome, NotSent) and not outcome.our_fault)


def _begin(
    tx: PaymentTransaction,
    intent: Intent,
    decision: Decision,
    *,
    attempt_id: str,
    secret: bytes,
    clock: Clock,
    actor: str,
) -> Attempt | None:
    """Commit to one attempt: fence, attempt and entry. None when somebody else has taken the intent on."""
    locked = tx.lock_intent(intent.tenant, intent.id)
    if locked.state is not IntentState.CREATED:
        return None
    now = clock.now()
    attempt = plan_attempt(locked, attempt_id=attempt_id, secret=secret, now=now)
    processing = replace(
        locked.to(IntentState.PROCESSING, now=now),
        decision_id=decision.decision_id,
        active_attempt_id=attempt.id,
        next_check_at=now + timedelta(seconds=PROCESSING_LEASE_S),
    )
    tx.update_intent(locked, processing)
    tx.insert_attempt(attempt)
    tx.append(
        "payment.attempted",
        tenant=attempt.tenant,
        actor=actor,
        subject=locked.subject,
        ref={"payment": attempt.intent_id, "attempt": attempt.id, "decision": decision.decision_id},
        data=describe(attempt) | {"request_hash": attempt.request_hash},
    )
    return attempt


def _find_obstacle(intent: Intent, decision: Decision, connectors: Mapping[str, Connector]) -> str | None:
    """Return why this intent must not be sent, as a code; None when it may.

    A PSP's token works at that PSP only, so a decision for another PSP cannot be carried out.
    """
    answer = decision.outcome
    if not isinstance(answer, Allow):
        return answer.reasons[0].code if answer.reasons else "no_reason_given"
    if answer.output.get("psp", intent.psp) != intent.psp:
        return "no_token_at_chosen_psp"
    return None if intent.psp in connectors else "psp_not_connected"


def _turn_away(
    tx: PaymentTransaction, intent: Intent, decision: Decision, code: str, *, clock: Clock, actor: str
) -> Intent:
    locked = tx.lock_intent(intent.tenant, intent.id)
    if locked.state is not IntentState.CREATED:
        return locked
    in_review = isinstance(decision.outcome, Review)
    state = IntentState.IN_REVIEW if in_review else IntentState.DENIED
    turned_away = replace(locked.to(state, now=clock.now(), code=code), decision_id=decision.decision_id)
    tx.update_intent(locked, turned_away)
    tx.append(
        f"payment.{state}",
        tenant=locked.tenant,
        actor=actor,
        subject=locked.subject,
        ref={"payment": locked.id, "decision": decision.decision_id},
        data={"code": code},
    )
    return turned_away
