"""`POST /v1/decisions`: whoever must decide by the rules, and prove it, asks here; the answer is on the log first.

The packs that no part of Assay asks by itself (due diligence, screening hits, retention) are asked this way.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Any, Final

import orjson
from flask import Response

from app.errors import Broken, Rejected, TooLarge
from app.ledger.canonical import canonical
from app.ledger.card import refuse_card_numbers
from app.ledger.entry import format_entry_id, parse_entry
from app.ledger.wait import Position
from app.policy.decision import Decision, Reason
from app.policy.query import Query
from app.policy.record import SHADOW_OF
from app.subjects.decider import DECISION_REF, Case
from app.subjects.group import Logged
from app.subjects.subject import format_subject_id
from app.web.auth import caller
from app.web.decision_models import DecideIn
from app.web.later import answer_later
from app.web.merchant import read_wait_s
from app.web.wire import Whole
from app.wiring import Services

INPUT_LIMIT_BYTES: Final = 60 * 1024
"""Of the input; the engines take 64 KiB, with what we add."""
_OURS: Final = {DECISION_REF, SHADOW_OF}


class Deciding:
    """The view, over one set of services."""

    def __init__(self, services: Services) -> None:
        """Remember the services."""
        self._services = services

    def decide(self, body: DecideIn) -> Response:
        """Decide, put it on the log, and answer; with `Prefer: wait` with the receipt."""
        services, principal = self._services, caller()
        wait_s = read_wait_s(services.settings.wait_limit_s)
        case = Case(
            tenant=principal.tenant,
            actor=principal.actor,
            subject=body.subject or format_subject_id(services.new_entry_id()),
            ref=_check_ref(body.ref),
            query=Query(entrypoint=body.entrypoint, document=_check_input(body.input)),
        )
        return self._decide_known(case, wait_s) if body.subject else self._decide_newcomer(case, wait_s)

    def _decide_newcomer(self, case: Case, wait_s: int | None) -> Response:
        """Decide about somebody nobody knows yet: many of them are decided and committed together."""
        services = self._services
        shadowed = services.shadow.is_wanted(case.tenant)

        def respond(logged: Logged) -> Response:
            if shadowed:
                services.shadow.ask(case, logged.decision)
            answer = _render(case, logged.decision, format_entry_id(logged.row.id))
            return self._answer(answer, case.tenant, logged.row.body, logged.position, wait_s)

        return answer_later(partial(services.group_decide.decide_then, case, wait_s=wait_s or None), respond)

    def _decide_known(self, case: Case, wait_s: int | None) -> Response:
        """Decide about a subject that may have a key already, under its lock, in a transaction of its own."""
        services = self._services
        decision = services.decide(case)
        stored = services.store.find_newest(case.tenant, decision.decision_id)
        if stored is None:
            raise Broken("a decision was made and is not on the log")
        answer = _render(case, decision, parse_entry(stored.body).id)
        if not wait_s:
            return _respond(answer, HTTPStatus.ACCEPTED)
        return answer_later(
            partial(services.watch.wait_then, case.tenant, stored.seq, timeout_s=wait_s),
            lambda position: self._answer(answer, case.tenant, stored.body, position, wait_s),
        )

    def _answer(
        self, answer: dict[str, Any], tenant: str, body: bytes, position: Position | None, wait_s: int | None
    ) -> Response:
        """Return the decision with its receipt, or with the place of that if it took too long or was not asked for."""
        if position is None:
            return _respond(answer, HTTPStatus.ACCEPTED)
        receipt = self._services.prover.receipt(tenant, position.index, body, position.published).decode()
        whole = answer | {"index": position.index, "receipt": receipt}
        return _respond(whole, HTTPStatus.CREATED, ("Preference-Applied", f"wait={wait_s}"))


def _respond(answer: dict[str, Any], status: HTTPStatus, *headers: tuple[str, str]) -> Response:
    return Whole(orjson.dumps(answer), status, [("Location", f"/v1/decisions/{answer['id']}"), *headers])


def _render(case: Case, decision: Decision, entry_id: str) -> dict[str, Any]:
    return {
        "id": decision.decision_id,
        "entry": entry_id,
        "subject": case.subject,
        "entrypoint": decision.entrypoint,
        "verdict": decision.result["verdict"],
        "reasons": [render_reason(each) for each in decision.outcome.reasons],
        "output": dict(decision.outcome.output),
        "bundle": {"name": decision.bundle.name, "digest": decision.bundle.digest},
        "index": None,
        "receipt": f"/v1/entries/{entry_id}/receipt",
    }


def render_reason(reason: Reason) -> dict[str, Any]:
    """Return a reason as the API shows it."""
    return {
        "code": reason.code,
        "message": reason.message,
        "control": reason.control,
        "statute": reason.statute,
    }


def _check_ref(ref: dict[str, str]) -> dict[str, str]:
    """Refuse names that are ours: who looks for a decision finds it by them."""
    if taken := _OURS & ref.keys():
        raise Rejected(f"{min(taken)} is set by Assay", code="ref_invalid", pointer=f"/ref/{min(taken)}")
    return ref


def _check_input(document: dict[str, Any]) -> dict[str, Any]:
    """Refuse what no engine would be asked, and card numbers. Raises Rejected."""
    if len(canonical(document, plain=True)) > INPUT_LIMIT_BYTES:
        raise TooLarge(f"the input has more than {INPUT_LIMIT_BYTES:,} bytes", code="body_too_large", pointer="/input")
    refuse_card_numbers(document)
    return document
