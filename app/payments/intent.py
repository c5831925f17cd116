"""A payment intent and its attempts: what they hold, and which states follow which.

The rules (DESIGN.md, invariants 3 and 4): at most one live attempt per intent; UNKNOWN is left by evidence
alone, never because time passed; a final state stays.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

import rfc8785

from app.errors import Broken
from app.payments.money import Money, to_psp_amount

KEY_HEX_DIGITS: Final = 32
"""Idempotency keys are 128 bits: fits the shortest limit of the PSPs we know (Adyen, 64 characters)."""

KEY_SECRET_BYTES_MIN: Final = 32
CHARGE: Final = "charge"


class IntentState(StrEnum):
    """Where a payment stands, as its merchant sees it."""

    CREATED = "created"
    DENIED = "denied"
    IN_REVIEW = "in_review"
    PROCESSING = "processing"
    UNKNOWN = "unknown"
    REQUIRES_ACTION = "requires_action"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class AttemptState(StrEnum):
    """What is known about one try at one PSP. SENT is committed before the socket opens."""

    SENT = "sent"
    UNKNOWN = "unknown"
    REQUIRES_ACTION = "requires_action"
    CAPTURED = "captured"
    DECLINED = "declined"
    NOT_SENT = "not_sent"


_LEARNT: Final = frozenset({IntentState.SUCCEEDED, IntentState.FAILED, IntentState.REQUIRES_ACTION})

NEXT_STATES: Final = {
    IntentState.CREATED: frozenset({IntentState.PROCESSING, IntentState.DENIED, IntentState.IN_REVIEW}),
    IntentState.PROCESSING: _LEARNT | {IntentState.UNKNOWN},
    IntentState.UNKNOWN: _LEARNT,  # by evidence alone
    IntentState.REQUIRES_ACTION: frozenset({IntentState.SUCCEEDED, IntentState.FAILED}),
    IntentState.IN_REVIEW: frozenset(),  # until reviews can be answered
    IntentState.DENIED: frozenset(),
    IntentState.SUCCEEDED: frozenset(),
    IntentState.FAILED: frozenset(),
}

NEXT_ATTEMPT_STATES: Final = {
    AttemptState.SENT: frozenset(AttemptState) - {AttemptState.SENT},
    AttemptState.UNKNOWN: frozenset(AttemptState) - {AttemptState.SENT, AttemptState.UNKNOWN},
    AttemptState.REQUIRES_ACTION: frozenset({AttemptState.CAPTURED, AttemptState.DECLINED}),
    AttemptState.CAPTURED: frozenset(),
    AttemptState.DECLINED: frozenset(),
    AttemptState.NOT_SENT: frozenset(),
}

INTENT_STATE_AFTER: Final = {
    AttemptState.SENT: IntentState.PROCESSING,
    AttemptState.UNKNOWN: IntentState.UNKNOWN,
    AttemptState.REQUIRES_ACTION: IntentState.REQUIRES_ACTION,
    AttemptState.CAPTURED: IntentState.SUCCEEDED,
    AttemptState.DECLINED: IntentState.FAILED,
    AttemptState.NOT_SENT: IntentState.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """The wish to be paid `money` once.

    `payment_method` is a token of `psp`, never a card. `active_attempt_id` is the fence: only that attempt may
    move the intent. `next_check_at` is when somebody must look for evidence; None when nobody has to.
    `code` says why the state is what it is, in words of ours or the PSP's, safe to show.
    """

    id: str
    tenant: str
    money: Money
    psp: str
    payment_method: str
    created_at: datetime
    updated_at: datetime
    subject: str | None = None
    state: IntentState = IntentState.CREATED
    code: str | None = None
    decision_id: str | None = None
    active_attempt_id: str | None = None
    next_check_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing follows this state."""
        return not NEXT_STATES[self.state]

    def to(self, state: IntentState, *, now: datetime, code: str | None = None) -> Intent:
        """Return the intent in `state`. Raises Broken when the table has no such step."""
        if state not in NEXT_STATES[self.state]:
            raise Broken(f"no step from {self.state} to {state}", code="bad_transition")
        return replace(self, state=state, code=code, updated_at=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try to charge an intent at one PSP: all that a replay needs, committed before the first byte is sent.

    `key` is the PSP's idempotency key. `sends` counts how often it was handed to the connector, retries within one
    call not included; it is raised and committed *before* each time, so two senders always see each other.
    """

    id: str
    intent_id: str
    tenant: str
    psp: str
    money: Money
    payment_method: str
    key: str
    request_hash: str
    created_at: datetime
    last_sent_at: datetime
    sends: int = 1
    state: AttemptState = AttemptState.SENT
    code: str | None = None
    psp_reference: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing follows this state."""
        return not NEXT_ATTEMPT_STATES[self.state]

    def to(self, state: AttemptState, *, code: str | None, psp_reference: str | None) -> Attempt:
        """Return the attempt in `state`, keeping a known PSP reference. Raises Broken on an impossible step."""
        if state not in NEXT_ATTEMPT_STATES[self.state]:
            raise Broken(f"no step from {self.state} to {state}", code="bad_transition")
        return replace(self, state=state, code=code, psp_reference=psp_reference or self.psp_reference)


def plan_attempt(intent: Intent, *, attempt_id: str, secret: bytes, now: datetime) -> Attempt:
    """Return the attempt that charges `intent` at its PSP. Raises Rejected if the PSP cannot charge the amount."""
    return Attempt(
        id=attempt_id,
        intent_id=intent.id,
        tenant=intent.tenant,
        psp=intent.psp,
        money=intent.money,
        payment_method=intent.payment_method,
        key=make_key(secret, intent.tenant, intent.id, attempt_id, intent.psp, CHARGE),
        request_hash=hash_request(intent.money, intent.payment_method, intent.psp),
        created_at=now,
        last_sent_at=now,
    )


def make_key(secret: bytes, *parts: str) -> str:
    """Return the idempotency key of `tenant, payment, attempt, psp, operation`: the same after any crash."""
    if len(secret) < KEY_SECRET_BYTES_MIN:
        raise Broken(f"the key secret has fewer than {KEY_SECRET_BYTES_MIN} bytes", code="weak_secret")
    return hmac.new(secret, "|".join(parts).encode(), hashlib.sha256).hexdigest()[:KEY_HEX_DIGITS]


def hash_request(money: Money, payment_method: str, psp: str) -> str:
    """Return the SHA-256, in hex, of the canonical form (RFC 8785) of what `psp` is asked to charge."""
    request: dict[str, str | int] = {
        "operation": CHARGE,
        "psp": psp,
        "amount": to_psp_amount(money, psp),
        "currency": money.currency,
        "payment_method": payment_method,
    }
    return hashlib.sha256(rfc8785.dumps(request)).hexdigest()
