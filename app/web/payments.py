"""For merchants: make payments, look at them, erase a payer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from uuid import UUID

import orjson
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import Tag

from app.credentials.ports import Scope
from app.errors import NotFound, Rejected
from app.ledger.canonical import canonical
from app.ledger.card import refuse_card_numbers
from app.ledger.entry import format_entry_id
from app.ledger.ports import StoredEntry
from app.payments.checkout import PaymentRequest
from app.payments.intent import Intent, IntentState
from app.payments.money import Money, format_decimal, parse_decimal
from app.subjects.erase import Erased
from app.subjects.subject import format_subject_id, parse_personal, parse_subject_id
from app.web.auth import caller, needs
from app.web.merchant import digest_key, read_idempotency_key, read_wait_s
from app.web.models import ErasedOut, EraseQuery, PaymentIn, PaymentOut, PaymentPath, SubjectPath
from app.web.wire import Answer
from app.wiring import Services

_TAG = Tag(name="payments", description="Payments: decided, charged once, logged at every step.")
_OPEN_STATES = {IntentState.UNKNOWN, IntentState.PROCESSING, IntentState.CREATED}


class Payments:
    """The views, over one set of services."""

    def __init__(self, services: Services) -> None:
        """Remember the services."""
        self._services = services

    def make(self, body: PaymentIn) -> Response:
        """Make a payment, at most once for each Idempotency-Key."""
        services = self._services
        wait_s = read_wait_s(services.settings.wait_limit_s)
        outcome = services.checkout.make(self._parse(body, read_idempotency_key(required=True) or ""))
        answer = _render(outcome.intent)
        if wait_s:
            newest = services.store.find_newest(caller().tenant, outcome.intent.id)
            answer["receipt"] = self._wait_for_receipt(newest, wait_s)
        status = HTTPStatus.ACCEPTED if outcome.intent.state in _OPEN_STATES else HTTPStatus.CREATED
        response = Answer(orjson.dumps(answer), status, mimetype="application/json")
        response.headers["Location"] = f"/v1/payments/{outcome.intent.id}"
        if answer.get("receipt"):
            response.headers["Preference-Applied"] = f"wait={wait_s}"
        if outcome.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return response

    def read(self, payment_id: str) -> Response:
        """Return a payment as it stands."""
        intent = self._services.payment_store.find_intent(caller().tenant, payment_id)
        if intent is None:
            raise NotFound("there is no such payment", code="payment_unknown")
        return Answer(orjson.dumps(_render(intent)), mimetype="application/json")

    def erase(self, subject_id: str, reason: str) -> Response:
        """Erase a person's data for ever; with `Prefer: wait` answer with the receipt of that."""
        principal = caller()
        wait_s = read_wait_s(self._services.settings.wait_limit_s)
        outcome = self._services.erase(
            principal.tenant, parse_subject_id(subject_id), reason=reason, actor=principal.actor
        )
        body: dict[str, Any] = {"subject": subject_id, "status": "already_erased", "fields": 0, "receipt": None}
        headers: dict[str, str] = {}
        if isinstance(outcome, Erased):
            body |= {"status": "erased", "fields": outcome.fields}
            if outcome.receipt is not None:
                body["receipt"], headers = self._answer_with_receipt(outcome.receipt, wait_s)
        return Answer(orjson.dumps(body), headers=headers, mimetype="application/json")

    def _parse(self, body: PaymentIn, key: str) -> PaymentRequest:
        services, principal = self._services, caller()
        refuse_card_numbers(request.get_json())
        money = _parse_money(body)
        payer = parse_personal({"name": body.payer.name, "email": body.payer.email})
        subject = parse_subject_id(body.subject) if body.subject else None
        said = [
            money.amount_minor,
            money.currency,
            body.country,
            body.payment_method,
            payer,
            body.payer.country,
            subject,
        ]
        return PaymentRequest(
            tenant=principal.tenant,
            actor=principal.actor,
            money=money,
            country=body.country,
            payment_methods=body.payment_method,
            payer=payer,
            payer_country=body.payer.country,
            subject=subject or format_subject_id(services.new_entry_id()),
            idem=digest_key(key),
            fingerprint=services.fingerprint(canonical(said)),
        )

    def _answer_with_receipt(self, entry_id: UUID, wait_s: int | None) -> tuple[str, dict[str, str]]:
        """Return the entry's receipt, or its place if that was not to be waited for; and the headers that say which."""
        shown = format_entry_id(entry_id)
        headers = {"Assay-Entry": shown}
        if wait_s:
            receipt = self._wait_for_receipt(self._services.store.find_entry(caller().tenant, entry_id), wait_s)
            if receipt is not None:
                return receipt, headers | {"Preference-Applied": f"wait={wait_s}"}
        return f"/v1/entries/{shown}/receipt", headers

    def _wait_for_receipt(self, entry: StoredEntry | None, wait_s: int) -> str | None:
        """Return the receipt of the caller's entry once that is published; None if it takes too long."""
        if entry is None:
            return None
        tenant = caller().tenant
        position = self._services.watch.wait(tenant, entry.seq, timeout_s=wait_s)
        if position is None:
            return None
        return self._services.prover.receipt(tenant, position.index, entry.body, position.published).decode()


def _parse_money(body: PaymentIn) -> Money:
    if (body.amount is None) == (body.amount_minor is None):
        raise Rejected("give either amount_minor or amount", code="bad_amount", pointer="/amount_minor")
    if body.amount is not None:
        return parse_decimal(body.amount, body.currency)
    return Money(amount_minor=body.amount_minor or 0, currency=body.currency)


def _render(intent: Intent) -> dict[str, Any]:
    return {
        "id": intent.id,
        "status": str(intent.state),
        "code": intent.code,
        "amount_minor": intent.money.amount_minor,
        "amount": format_decimal(intent.money),
        "currency": intent.money.currency,
        "psp": intent.psp,
        "decision": intent.decision_id,
        "subject": intent.subject,
        "created_at": intent.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "entries": f"/v1/entries?ref={intent.id}",
    }


def create_blueprint(services: Services) -> APIBlueprint:
    """Return the payments API."""
    api = APIBlueprint("payments", __name__, abp_tags=[_TAG], abp_security=[{"token": []}])
    payments = Payments(services)

    @api.post("/v1/payments", responses={"201": PaymentOut, "202": PaymentOut})
    @needs(Scope.PAYMENTS_WRITE)
    def make_payment(body: PaymentIn) -> Response:
        """Make a payment: decided by policy, charged once, every step an entry. Needs an Idempotency-Key header."""
        return payments.make(body)

    @api.get("/v1/payments/<payment_id>", responses={"200": PaymentOut})
    @needs(Scope.PAYMENTS_READ)
    def read_payment(path: PaymentPath) -> Response:
        """Return a payment as it stands."""
        return payments.read(path.payment_id)

    @api.delete("/v1/subjects/<subject_id>", responses={"200": ErasedOut})
    @needs(Scope.SUBJECTS_ERASE)
    def erase_subject(path: SubjectPath, query: EraseQuery) -> Response:
        """Erase a person's data: key and salts are destroyed, commitments and proofs stay.

        `Prefer: wait=N` answers with the receipt of the erasure once it is published.
        """
        return payments.erase(path.subject_id, query.reason)

    return api
