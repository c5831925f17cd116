"""What one outcome changes: the attempt, its intent and the entry that says so, in one transaction.

Pure judgement first (`weigh`, `judge`), then one writer (`settle`), which payment and reconciliation share. It may
run twice, late and in any order: a final state stays, and an answer that contradicts it is put on record.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from app.payments.intent import INTENT_STATE_AFTER, NEXT_ATTEMPT_STATES, Attempt, AttemptState, Intent, IntentState
from app.payments.ports import (
    Captured,
    Declined,
    NotSent,
    Outcome,
    PaymentTransaction,
    RequiresAction,
    Unknown,
)

CHECK_AFTER_MIN_S: Final = 15
CHECK_AFTER_MAX_S: Final = 900
PROCESSING_LEASE_S: Final = 120
"""How long an attempt is left to whoever is sending it; longer than any send and its retries take."""

OUTCOME_STATES: Final[dict[type[Outcome], AttemptState]] = {
    Captured: AttemptState.CAPTURED,
    Declined: AttemptState.DECLINED,
    NotSent: AttemptState.NOT_SENT,
    Unknown: AttemptState.UNKNOWN,
    RequiresAction: AttemptState.REQUIRES_ACTION,
}

OUTCOME_ACTIONS: Final[dict[type[Outcome], str]] = {
    Captured: "payment.succeeded",
    Declined: "payment.declined",
    NotSent: "payment.not_sent",
    Unknown: "payment.unknown",
    RequiresAction: "payment.requires_action",
}


class Evidence(StrEnum):
    """How we came to know: the answer to the payment itself, a same-key replay, or a look-up by our reference."""

    REPLY = "reply"
    REPLAY = "replay"
    LOOKUP = "lookup"


def weigh(earlier: Outcome | None, later: Outcome) -> Outcome:
    """Return what two sends under one key say together.

    Unknown is sticky: a later send that was turned away proves nothing about the earlier one.
    """
    if isinstance(earlier, Unknown) and isinstance(later, NotSent):
        return earlier
    return later


def judge(seen: Attempt, current: Attempt, outcome: Outcome) -> Outcome:
    """Return what `outcome` proves now, when the attempt was `seen` at the time and is `current` under lock.

    "Not sent" is about what its observer knew: if somebody else has sent or judged since, it proves nothing.
    """
    moved_on = (seen.sends, seen.state) != (current.sends, current.state)
    if isinstance(outcome, NotSent) and moved_on:
        return Unknown(code=outcome.code, message=outcome.message)
    return outcome


def settle(
    tx: PaymentTransaction,
    seen: Attempt,
    outcome: Outcome,
    *,
    evidence: Evidence,
    now: datetime,
    actor: str,
) -> Intent:
    """Apply `outcome` to the attempt that was sent as `seen`, and return the intent as it stands then."""
    intent = tx.lock_intent(seen.tenant, seen.intent_id)
    attempt = tx.read_attempt(seen.tenant, seen.id)
    outcome = judge(seen, attempt, outcome)
    state = OUTCOME_STATES[type(outcome)]

    if attempt.is_final or intent.active_attempt_id != attempt.id:
        _record_contradiction(tx, intent, attempt, outcome, actor=actor)
        return intent

    if state not in NEXT_ATTEMPT_STATES[attempt.state]:  # nothing new was learnt
        return _look_again(tx, intent, attempt, now=now)

    after = attempt.to(state, code=outcome.code, psp_reference=outcome.psp_reference)
    tx.update_attempt(attempt, after)
    moved = _move(intent, after, now=now)
    tx.update_intent(intent, moved)
    _record(tx, moved, after, outcome, evidence=evidence, actor=actor)
    return moved


def check_after(attempt: Attempt, now: datetime) -> datetime:
    """Return when to look for evidence next: at intervals that double with the attempt's age, within bounds."""
    age_s = (now - attempt.created_at).total_seconds()
    return now + timedelta(seconds=min(max(age_s, CHECK_AFTER_MIN_S), CHECK_AFTER_MAX_S))


def _move(intent: Intent, attempt: Attempt, *, now: datetime) -> Intent:
    moved = intent.to(INTENT_STATE_AFTER[attempt.state], now=now, code=attempt.code)
    return replace(moved, next_check_at=None if moved.is_final else check_after(attempt, now))


def _look_again(tx: PaymentTransaction, intent: Intent, attempt: Attempt, *, now: datetime) -> Intent:
    later = replace(intent, next_check_at=check_after(attempt, now))
    tx.update_intent(intent, later)
    return later


def _record(
    tx: PaymentTransaction,
    intent: Intent,
    attempt: Attempt,
    outcome: Outcome,
    *,
    evidence: Evidence,
    actor: str,
) -> None:
    data = describe(attempt, outcome)
    action = OUTCOME_ACTIONS[type(outcome)]
    if evidence is not Evidence.REPLY and not isinstance(outcome, Unknown):
        action = "payment.reconciled"
        data |= {"state": str(intent.state), "evidence": str(evidence)}
    tx.append(
        action,
        tenant=intent.tenant,
        actor=actor,
        subject=intent.subject,
        ref={"payment": intent.id, "attempt": attempt.id},
        data=data,
    )


def _record_contradiction(
    tx: PaymentTransaction, intent: Intent, attempt: Attempt, outcome: Outcome, *, actor: str
) -> None:
    """Put on record that the PSP says what our final state denies: a person must look (a late charge, above all)."""
    denied = (isinstance(outcome, Captured) and intent.state is not IntentState.SUCCEEDED) or (
        isinstance(outcome, Declined) and attempt.state is AttemptState.CAPTURED
    )
    if denied:
        tx.append(
            "payment.contradicted",
            tenant=intent.tenant,
            actor=actor,
            subject=intent.subject,
            ref={"payment": intent.id, "attempt": attempt.id},
            data=describe(attempt, outcome) | {"state": str(intent.state)},
        )


def describe(attempt: Attempt, outcome: Outcome | None = None) -> dict[str, str | int | bool]:
    """Return the facts of an attempt, and of its outcome, that an entry carries. None of them is personal."""
    data: dict[str, str | int | bool] = {
        "amount_minor": attempt.money.amount_minor,
        "currency": attempt.money.currency,
        "psp": attempt.psp,
    }
    if outcome is not None:
        data["code"] = outcome.code
        reference = outcome.psp_reference or attempt.psp_reference
        if reference is not None:
            data["psp_reference"] = reference
    if isinstance(outcome, NotSent):
        data["our_fault"] = outcome.our_fault
    return data
