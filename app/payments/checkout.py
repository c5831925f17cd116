"""Checkout: what a merchant's request for a payment sets off, from the idempotency key to the outcome.

One request, in steps that each survive a crash:

    open      one transaction: key, intent, payer sealed, entry `payment.created`
    decide    one transaction: entry `decision.recorded`, its input sealed; only then is it acted on
    pay       app.payments.pay: attempt, PSP, outcome

A repeated request finds its key and answers with the payment as it stands; one that crashed in between is carried on
from where it stopped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

from app.errors import Conflict, Rejected
from app.ledger.card import refuse_card_numbers
from app.ledger.entry import Draft
from app.payments.intent import Intent, IntentState
from app.payments.money import Money
from app.payments.pay import PAY_BUDGET_S, open_intent, pay
from app.payments.ports import Clock, Connector, PaymentStore, PaymentTransaction
from app.policy.decision import Decision
from app.policy.query import payment_query
from app.subjects.decider import Case
from app.subjects.personal import append_personal
from app.subjects.ports import Append, SubjectTransaction
from app.subjects.seal import RandomBytes

IN_FLIGHT_S: Final = 2 * PAY_BUDGET_S
"""How long a payment that is not yet decided is left to the request that opened it, in seconds."""
_COUNTRY: Final = re.compile(r"[A-Z]{2}")


class IdempotencyMismatchError(Rejected):
    """The key was used with another request."""

    code = "idempotency_mismatch"


class InFlightError(Conflict):
    """The same payment is being made by another request right now; asked again, it is answered."""

    code = "payment_in_flight"
    retry_after_s = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRequest:
    """What a merchant asks for. `payment_methods` maps a PSP to its own token, `payer` holds name and e-mail.

    `idem` is the SHA-256 of the idempotency key. `fingerprint` tells the request from another one under that key; it is
    keyed, because it outlives the payer's data.
    """

    tenant: str
    actor: str
    money: Money
    country: str
    payment_methods: Mapping[str, str]
    payer: Mapping[str, str]
    payer_country: str
    subject: str
    idem: bytes
    fingerprint: bytes

    def __post_init__(self) -> None:
        """Refuse what no policy could judge."""
        for field in ("country", "payer_country"):
            if not _COUNTRY.fullmatch(getattr(self, field)):
                raise Rejected(
                    "a country is two capital letters (ISO 3166-1)", code="country_invalid", pointer=f"/{field}"
                )
        refuse_card_numbers(dict(self.payer))


class CheckoutTransaction(PaymentTransaction, SubjectTransaction, Protocol):
    """A transaction that holds payments, people and their entries together."""

    def claim_key(self, tenant: str, idem: bytes, fingerprint: bytes, intent_id: str) -> tuple[str, bytes] | None:
        """Bind an idempotency key to a new intent, or return the id and fingerprint that it is bound to."""
        ...


class CheckoutStore(PaymentStore, Protocol):
    """Where checkouts are kept."""

    def transaction(self) -> AbstractContextManager[CheckoutTransaction]:
        """Open a transaction, as PaymentStore and SubjectStore promise."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The payment as it stands. `replayed`: an earlier request with this key made it."""

    intent: Intent
    replayed: bool


class Checkout:
    """Makes payments. One per process; safe for threads."""

    def __init__(
        self,
        *,
        store: CheckoutStore,
        append: Append,
        decide: Callable[[Case], Decision],
        connectors: Mapping[str, Connector],
        secret: bytes,
        clock: Clock,
        new_id: Callable[[], UUID],
        random_bytes: RandomBytes,
    ) -> None:
        """`decide` asks the policies in force, and returns once the decision is on the log.

        `secret` keys the idempotency keys that PSPs see; losing it is safe, the attempts keep theirs.
        """
        self._store = store
        self._append = append
        self._decide_case = decide
        self._connectors = connectors
        self._secret = secret
        self._clock = clock
        self._new_id = new_id
        self._random_bytes = random_bytes

    def make(self, request: PaymentRequest) -> Outcome:
        """Make the payment, or find the one that this key made.

        Raises IdempotencyMismatchError for another request under the key, InFlightError while an earlier one is being
        worked on, Rejected for what cannot be charged, and what the store raises.
        """
        intent, replayed = self._open(request)
        if replayed and self._is_in_flight(intent):
            raise InFlightError("this payment is being made by another request; ask again in a moment")
        if intent.state is not IntentState.CREATED:
            return Outcome(intent=intent, replayed=replayed)
        paid = pay(
            intent,
            store=self._store,
            connectors=self._connectors,
            decide=lambda wish: self._decide(wish, request),
            attempt_id=f"pa_{self._new_id().hex}",
            secret=self._secret,
            clock=self._clock,
            actor=request.actor,
        )
        return Outcome(intent=paid, replayed=replayed)

    def _is_in_flight(self, intent: Intent) -> bool:
        """Say whether some request is likely still at work on it; one that crashed is carried on later."""
        young = abs(self._clock.now() - intent.updated_at) < timedelta(seconds=IN_FLIGHT_S)  # clocks step back too
        return young and intent.state in {IntentState.CREATED, IntentState.PROCESSING}

    def _open(self, request: PaymentRequest) -> tuple[Intent, bool]:
        """Store the intent, its payer and their entries, or return the intent that the key is bound to."""
        intent = self._plan(request)
        with self._store.transaction() as tx:
            bound = tx.claim_key(request.tenant, request.idem, request.fingerprint, intent.id)
            if bound is None:
                open_intent(tx, intent, actor=request.actor)
                draft = Draft(
                    action="payer.recorded",
                    actor=request.actor,
                    subject=request.subject,
                    ref={"payment": intent.id},
                    data={"country": request.payer_country},
                )
                self._append_sealed(tx, request, draft, request.payer)
                return intent, False
            earlier_id, fingerprint = bound
            if fingerprint != request.fingerprint:
                raise IdempotencyMismatchError(
                    "this Idempotency-Key made another payment; use a new key for a new payment"
                )
            return tx.lock_intent(request.tenant, earlier_id), True

    def _plan(self, request: PaymentRequest) -> Intent:
        """Return the intent; its PSP is the first that is connected and for which the merchant gave a token."""
        psp = next((name for name in sorted(request.payment_methods) if name in self._connectors), None)
        if psp is None:
            raise Rejected(
                f"no token for a connected PSP; connected are: {', '.join(sorted(self._connectors))}",
                code="payment_method_missing",
                pointer="/payment_method",
            )
        now = self._clock.now()
        return Intent(
            id=f"pi_{self._new_id().hex}",
            tenant=request.tenant,
            money=request.money,
            psp=psp,
            payment_method=request.payment_methods[psp],
            created_at=now,
            updated_at=now,
            subject=request.subject,
        )

    def _decide(self, intent: Intent, request: PaymentRequest) -> Decision:
        """Decide, and put the decision on the log with its input sealed. If that fails, this raises."""
        case = Case(
            tenant=request.tenant,
            actor=request.actor,
            subject=intent.subject or request.subject,  # of the request that opened the payment under this key
            ref={"payment": intent.id},
            query=payment_query(
                amount_minor=intent.money.amount_minor,
                currency=intent.money.currency,
                country=request.country,
                payer_name=request.payer["name"],
                payer_country=request.payer_country,
                payment_id=intent.id,
            ),
        )
        return self._decide_case(case)

    def _append_sealed(
        self, tx: CheckoutTransaction, request: PaymentRequest, draft: Draft, personal: Mapping[str, object]
    ) -> None:
        append_personal(
            tx,
            request.tenant,
            draft,
            personal,
            entry_id=self._new_id(),
            append=self._append,
            random_bytes=self._random_bytes,
        )
