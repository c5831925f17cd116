"""Payments over HTTP, decided by the shipped policies, charged over a socket at the sandbox PSP."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from app.adapters.connectors.sandbox import StripeSandbox
from app.errors import Unavailable
from app.ledger import wait
from app.ledger.entry import Draft
from app.ledger.verify.receipt import verify_receipt_file
from app.ledger.verify.report import Outcome
from app.ledger.verify.trust import read_trust
from app.payments import checkout
from app.payments.checkout import IN_FLIGHT_S
from app.payments.intent import Intent
from app.subjects import decider
from app.tlog.receipt import parse_receipt
from tests.e2e.conftest import PAYER, Shop, make_payment, open_shop
from tests.parts.web import TENANT, WAIT
from tests.web.problem import read_problem

CLIENTS = 32
REPLAYED = "Idempotency-Replayed"


def test_a_payment_is_decided_charged_once_and_every_step_is_an_entry(shop: Shop) -> None:
    answer = shop.pay("ok")
    assert answer.status_code == 201
    paid = answer.json
    assert (paid["status"], paid["code"], paid["amount"], paid["psp"]) == ("succeeded", "captured", "14.99", "stripe")
    assert answer.headers["Location"] == f"/v1/payments/{paid['id']}"
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert shop.list_actions(paid["id"]) == [
        "payment.created",
        "payer.recorded",
        "decision.recorded",
        "payment.attempted",
        "payment.succeeded",
    ]
    assert shop.list_charges() == [(paid["id"], 1499, "eur")]
    assert shop.read(paid["id"]) == {name: value for name, value in paid.items() if name != "receipt"}


def test_a_receipt_of_each_entry_verifies_offline_before_and_after_the_payer_is_erased(shop: Shop) -> None:
    paid = shop.pay("erased-later").json
    trust = read_trust(None, [shop.web.vkeys[TENANT]])
    entries = shop.list_entries(paid["id"])
    before = {entry["id"]: shop.web.get(f"/v1/entries/{entry['id']}/receipt").data for entry in entries}
    assert verify_receipt_file(paid["receipt"].encode(), trust).outcome is Outcome.VALID

    erased = shop.web.call("DELETE", f"/v1/subjects/{paid['subject']}?reason=gdpr.art17").json
    assert (erased["status"], erased["fields"]) == ("erased", 3), "name, e-mail and the decision's input"
    shop.web.append()
    after = {entry["id"]: shop.web.get(f"/v1/entries/{entry['id']}/receipt").data for entry in entries}
    for receipts in (before, after):
        assert {verify_receipt_file(each, trust).outcome for each in receipts.values()} == {Outcome.VALID}

    erasure = shop.web.get(erased["receipt"]).data
    for entry in entries:
        if sealed := entry["entry"]["sealed"]:
            report = verify_receipt_file(
                after[entry["id"]], trust, openings=dict.fromkeys(sealed), erasure=erasure, require_quorum=False
            )
            assert report.outcome is Outcome.ERASED

    again = shop.web.call("DELETE", f"/v1/subjects/{paid['subject']}").json
    assert again == {"subject": paid["subject"], "status": "already_erased", "fields": 0, "receipt": None}


def test_an_erased_payers_payment_is_still_found_by_its_key_and_no_new_one_is_made(shop: Shop) -> None:
    body = make_payment(subject="sub_ada")
    paid = shop.pay("once", body).json
    shop.web.call("DELETE", "/v1/subjects/sub_ada")
    again = shop.pay("once", body)
    assert (again.status_code, again.json["id"], again.headers[REPLAYED]) == (201, paid["id"], "true")
    read_problem(shop.pay("twice", body), 403, "subject_erased")
    assert len(shop.list_charges()) == 1


def test_a_decline_is_an_answer_and_nothing_is_charged(shop: Shop) -> None:
    answer = shop.pay("declined", make_payment("pm_card_chargeDeclinedInsufficientFunds"))
    assert answer.status_code == 201
    assert (answer.json["status"], answer.json["code"]) == ("failed", "card_declined")
    assert shop.list_actions(answer.json["id"])[-1] == "payment.declined"
    assert shop.list_charges() == []


@pytest.mark.parametrize(
    ("payer", "status", "code"),
    [
        ({"name": "Marisol Tvekkander"}, "denied", "sanctions_name_match"),
        ({"name": "TVEKKANDER, Marisol"}, "denied", "sanctions_name_match"),
        ({"name": "Marisol Ana Tvekkander"}, "in_review", "sanctions_name_near"),
        ({"country": "MM"}, "in_review", "country_review"),
        ({"country": "BR"}, "in_review", "country_unknown"),
        ({"country": "KP"}, "denied", "country_blocked"),
    ],
)
def test_what_the_policy_does_not_allow_is_on_the_log_and_never_reaches_the_psp(
    open_all_day: Shop, payer: dict[str, str], status: str, code: str
) -> None:
    shop = open_all_day
    answer = shop.pay(f"policy-{payer}".replace(" ", "-"), make_payment(payer={**PAYER, **payer}))
    assert (answer.status_code, answer.json["status"], answer.json["code"]) == (201, status, code)
    entries = {entry["entry"]["action"]: entry["entry"] for entry in shop.list_entries(answer.json["id"])}
    assert entries["decision.recorded"]["data"]["decision_id"] == answer.json["decision"]
    assert f"payment.{status}" in entries
    assert "payment.attempted" not in entries
    assert answer.json["id"] not in {payment for payment, _, _ in shop.list_charges()}
    said = json.dumps(answer.json | {"receipt": None})
    entry = json.loads(parse_receipt(answer.json["receipt"].encode()).extra) | {"sealed": None}
    for name in payer.get("name", "Ada").split():  # the base64 of a receipt spells three letters by chance
        assert name not in said
        assert name not in json.dumps(entry)


def test_over_10000_the_decision_names_the_psp_it_would_have_chosen(shop: Shop) -> None:
    answer = shop.pay("large", make_payment(amount_minor=1_000_001))
    assert answer.json["status"] == "succeeded"
    decision = _find(shop, answer.json["id"], "decision.recorded")["data"]
    assert decision["result"]["output"] == {
        "psp": "stripe",
        "would_have_chosen": "braintree",
        "route": "large",
        "region": "EU",
    }
    small = shop.pay("small", make_payment(amount_minor=1_000_000))
    output = _find(shop, small.json["id"], "decision.recorded")["data"]["result"]["output"]
    assert output["would_have_chosen"] == "stripe"


def _find(shop: Shop, payment_id: str, action: str) -> dict[str, Any]:
    [found] = [entry["entry"] for entry in shop.list_entries(payment_id) if entry["entry"]["action"] == action]
    return found


@pytest.mark.parametrize("amount", [{"amount_minor": 1500}, {"amount_minor": None, "amount": "1500"}])
def test_a_currency_without_decimals_is_charged_in_its_own_units(shop: Shop, amount: dict[str, Any]) -> None:
    answer = shop.pay("yen", make_payment(currency="JPY", **amount))
    assert (answer.json["status"], answer.json["amount"]) == ("succeeded", "1500")
    assert shop.list_charges() == [(answer.json["id"], 1500, "jpy")]


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"amount_minor": None, "amount": "0.30000000000000004"}, "bad_amount", "/amount"),
        ({"amount_minor": None, "amount": 0.1 + 0.2}, "request_invalid", "/amount"),
        ({"amount_minor": None, "amount": 14.99}, "request_invalid", "/amount"),
        ({"amount_minor": None, "amount": 15}, "request_invalid", "/amount"),
        ({"amount_minor": None, "amount": "-14.99"}, "bad_amount", "/amount"),
        ({"amount_minor": None, "amount": "0"}, "bad_amount", "/amount_minor"),
        ({"amount_minor": None, "amount": "1e3"}, "bad_amount", "/amount"),
        ({"amount_minor": None, "amount": "14.999"}, "bad_amount", "/amount"),
        ({"amount_minor": None, "amount": "1.001", "currency": "JPY"}, "bad_amount", "/amount"),
        ({"amount_minor": None, "amount": "1.0", "currency": "JPY"}, "bad_amount", "/amount"),
        ({"amount_minor": None, "amount": "1,499"}, "bad_amount", "/amount"),
        ({"amount_minor": None, "amount": "\u0661"}, "bad_amount", "/amount"),
        ({"amount_minor": None}, "bad_amount", "/amount_minor"),
        ({"amount": "14.99"}, "bad_amount", "/amount_minor"),
        ({"amount_minor": 0}, "request_invalid", "/amount_minor"),
        ({"amount_minor": -1}, "request_invalid", "/amount_minor"),
        ({"amount_minor": 1499.0}, "request_invalid", "/amount_minor"),
        ({"amount_minor": 1499.5}, "request_invalid", "/amount_minor"),
        ({"amount_minor": True}, "request_invalid", "/amount_minor"),
        ({"amount_minor": "1499"}, "request_invalid", "/amount_minor"),
        ({"amount_minor": 10**12}, "request_invalid", "/amount_minor"),
        ({"currency": "ZZZ"}, "unknown_currency", "/currency"),
        ({"currency": "XXX"}, "unknown_currency", "/currency"),
        ({"currency": "eur"}, "request_invalid", "/currency"),
        ({"currency": "ISK", "amount_minor": None, "amount": "5.1"}, "bad_amount", "/amount"),
        ({"currency": "KWD", "amount_minor": 5124}, "amount_not_chargeable", "/amount"),
        ({"country": "Germany"}, "request_invalid", "/country"),
        ({"payment_method": {}}, "request_invalid", "/payment_method"),
        ({"payment_method": {"adyen": "x"}}, "payment_method_missing", "/payment_method"),
        ({"payment_method": {"stripe": "with space"}}, "request_invalid", "/payment_method/stripe"),
        ({"subject": "Ada"}, "subject_invalid", "/subject"),
        ({"payer": {**PAYER, "email": "nobody"}}, "personal_invalid", "/personal/email"),
        ({"payer": {**PAYER, "name": " "}}, "personal_invalid", "/personal/name"),
        ({"payer": {**PAYER, "born": "1815"}}, "request_invalid", "/payer/born"),
        ({"capture": False}, "request_invalid", "/capture"),
    ],
)
def test_what_cannot_be_charged_exactly_as_asked_is_refused(
    open_all_day: Shop, changes: dict[str, Any], code: str, pointer: str
) -> None:
    before = open_all_day.list_states()
    problem = read_problem(open_all_day.pay("bad", make_payment(**changes)), 422, code)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert open_all_day.list_states() == before


def test_a_refused_request_does_not_use_its_key_up(shop: Shop) -> None:
    assert shop.pay("refused-first", make_payment(amount_minor=0)).status_code == 422
    assert shop.pay("refused-first").json["status"] == "succeeded"


def test_without_a_key_no_payment_is_made(shop: Shop) -> None:
    answer = shop.web.post("/v1/payments", json=make_payment())
    read_problem(answer, 400, "idempotency_key_missing")
    assert shop.list_charges() == []


def test_the_same_key_finds_the_payment_also_after_a_restart(tmp_path: Path, sandbox: StripeSandbox) -> None:
    with open_shop(tmp_path, sandbox) as shop:
        first = shop.pay("again")
        assert REPLAYED not in first.headers
    with open_shop(tmp_path, sandbox) as shop:
        again = shop.pay("again")
        assert shop.list_charges() == [(first.json["id"], 1499, "eur")]
    assert (again.status_code, again.headers[REPLAYED]) == (201, "true")
    for name in ("id", "status", "decision", "subject", "created_at"):
        assert again.json[name] == first.json[name]


@pytest.mark.parametrize(
    "changes",
    [{"amount_minor": 1500}, {"currency": "USD"}, {"payer": {**PAYER, "name": "Bob"}}, {"subject": "sub_bob"}],
)
def test_the_same_key_with_another_payment_is_refused(shop: Shop, changes: dict[str, Any]) -> None:
    shop.pay("taken")
    read_problem(shop.pay("taken", make_payment(**changes)), 422, "idempotency_mismatch")
    assert len(shop.list_charges()) == 1


def test_a_name_as_a_mac_writes_it_is_the_same_name(shop: Shop) -> None:
    composed, decomposed = "Zo\u00eb Example", "Zoe\u0308 Example"
    first = shop.pay("nfc", make_payment(payer={**PAYER, "name": decomposed}))
    again = shop.pay("nfc", make_payment(payer={**PAYER, "name": composed}))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json["id"] == first.json["id"]


def test_32_clients_with_one_key_make_one_payment_and_one_charge(shop: Shop) -> None:
    start = threading.Barrier(CLIENTS)

    def pay(_: int) -> TestResponse:
        start.wait()
        return shop.pay("raced")

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(pay, range(CLIENTS)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    paid = {answer.json["id"] for answer in answers if answer.status_code == 201}
    for answer in answers:
        if answer.status_code == 409:
            assert read_problem(answer, 409, "payment_in_flight")["retryable"] is True
    assert len(paid) == 1
    assert [payment for payment, _, _ in shop.list_charges()] == list(paid)
    assert shop.list_actions(paid.pop()).count("payment.attempted") == 1


def test_while_a_payment_is_being_made_its_key_is_409_and_then_finds_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, released = threading.Event(), threading.Event()
    pay = checkout.pay

    def pay_when_released(*arguments: Any, **named: Any) -> Intent:
        opened.set()
        assert released.wait(20)
        return pay(*arguments, **named)

    monkeypatch.setattr(checkout, "pay", pay_when_released)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(shop.pay, "slow")
        assert opened.wait(20)
        problem = read_problem(shop.pay("slow"), 409, "payment_in_flight")
        assert problem["retryable"] is True
        released.set()
        paid = first.result()
    assert (paid.status_code, paid.json["status"]) == (201, "succeeded")
    assert shop.pay("slow").json["id"] == paid.json["id"]
    assert len(shop.list_charges()) == 1


def _pay_until_unknown(shop: Shop, fault: str, times: int) -> dict[str, Any]:
    shop.break_sends(fault, times)
    answer = shop.pay("unknown")
    assert (answer.status_code, answer.json["status"]) == (202, "unknown")
    paid: dict[str, Any] = answer.json
    return paid


@pytest.mark.parametrize("fault", ["timeout_before", "timeout_after", "drop_before", "drop_after", "half_body"])
def test_what_is_unknown_is_settled_by_reconciling_with_one_live_charge(shop: Shop, fault: str) -> None:
    paid = _pay_until_unknown(shop, fault, 3)
    again = shop.pay("unknown")
    assert (again.status_code, again.json["status"], again.headers[REPLAYED]) == (202, "unknown", "true")
    assert shop.reconcile() == [], "it is not due yet"

    shop.watch.advance(20)
    [settled] = shop.reconcile()
    assert settled.id == paid["id"]
    assert shop.read(paid["id"])["status"] == "succeeded"
    assert shop.list_charges() == [(paid["id"], 1499, "eur")]
    actions = shop.list_actions(paid["id"])
    assert actions[-2:] == ["payment.unknown", "payment.reconciled"]
    assert shop.pay("unknown").json["status"] == "succeeded"


def test_one_broken_send_is_sent_again_under_the_same_key(shop: Shop) -> None:
    for fault in ("timeout_after", "drop_after", "503_before", "html_502_after"):
        shop.break_sends(fault, 1)
        answer = shop.pay(f"once-{fault}")
        assert (answer.status_code, answer.json["status"]) == (201, "succeeded"), fault
        assert [payment for payment, _, _ in shop.list_charges()].count(answer.json["id"]) == 1


def test_unknown_stays_unknown_however_much_time_passes_without_evidence(shop: Shop) -> None:
    shop.break_sends("timeout_before", 100)
    answer = shop.pay("silent")
    assert answer.json["status"] == "unknown"
    for _ in range(3):
        shop.watch.advance(600)
        shop.reconcile()
        assert shop.read(answer.json["id"])["status"] == "unknown"
    assert shop.list_charges() == []


def test_a_payment_whose_process_died_before_deciding_is_carried_on_by_the_same_key(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = make_payment()

    def die(*_: object, **__: object) -> None:
        raise RuntimeError("killed between opening and paying")

    monkeypatch.setattr(checkout, "pay", die)
    assert shop.pay("crashed", body).status_code == 500
    monkeypatch.undo()
    read_problem(shop.pay("crashed", body), 409, "payment_in_flight")

    shop.watch.advance(IN_FLIGHT_S + 1)
    resumed = shop.pay("crashed", body)
    assert (resumed.status_code, resumed.json["status"], resumed.headers[REPLAYED]) == (201, "succeeded", "true")
    assert shop.list_charges() == [(resumed.json["id"], 1499, "eur")]
    subjects = {entry["entry"].get("subject") for entry in shop.list_entries(resumed.json["id"])}
    assert subjects == {resumed.json["subject"]}, "all that is sealed goes when the payer is erased"
    assert shop.web.call("DELETE", f"/v1/subjects/{resumed.json['subject']}").json["fields"] == 3


def test_a_clock_that_stepped_back_does_not_lock_a_payment_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise RuntimeError("killed between opening and paying")

    monkeypatch.setattr(checkout, "pay", die)
    assert shop.pay("stepped").status_code == 500
    monkeypatch.undo()
    shop.watch.advance(-3600)
    assert shop.pay("stepped").json["status"] == "succeeded"
    assert len(shop.list_charges()) == 1


def test_a_decision_that_cannot_be_logged_is_not_acted_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    append_personal = decider.append_personal

    def refuse_decisions(tx: Any, tenant: str, draft: Draft, *arguments: Any, **named: Any) -> Any:
        if draft.action == "decision.recorded":
            raise Unavailable("the log is away")
        return append_personal(tx, tenant, draft, *arguments, **named)

    monkeypatch.setattr(decider, "append_personal", refuse_decisions)
    assert shop.pay("unlogged").status_code == 503
    assert shop.list_states() == ["created"]
    assert shop.list_charges() == []


def test_an_erasure_that_waits_answers_with_its_receipt_and_one_that_cannot_with_its_place(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for subject in ("sub_waits", "sub_hurries"):
        assert shop.pay(subject, make_payment(subject=subject)).status_code == 201
    waited = shop.web.call("DELETE", "/v1/subjects/sub_waits", headers=WAIT)
    assert (waited.status_code, waited.headers["Preference-Applied"]) == (200, "wait=20")
    report = verify_receipt_file(waited.json["receipt"].encode(), read_trust(None, [shop.web.vkeys[TENANT]]))
    assert report.outcome is Outcome.VALID
    assert report.summary.startswith(f"{waited.headers['Assay-Entry']} (subject.erased) is entry ")

    monkeypatch.setattr(wait, "WAITERS_LIMIT", 0)
    hurried = shop.web.call("DELETE", "/v1/subjects/sub_hurries", headers=WAIT)
    assert hurried.json["receipt"] == f"/v1/entries/{hurried.headers['Assay-Entry']}/receipt"
    assert (hurried.json["status"], "Preference-Applied" in hurried.headers) == ("erased", False)


def test_erasing_nobody_is_404_and_repeats_nothing(shop: Shop) -> None:
    answer = shop.web.call("DELETE", "/v1/subjects/sub_nobody")
    read_problem(answer, 404, "not_found")
    assert b"sub_nobody" not in answer.data
