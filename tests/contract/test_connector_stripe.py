"""The real Stripe SDK over a socket: what each fault proves, and that money arrives in Stripe's own units."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import threading
import time
from dataclasses import replace

import pycountry
import pytest
import requests

from app.adapters.connectors.sandbox import StripeSandbox
from app.adapters.connectors.stripe import StripeConnector
from app.errors import Rejected
from app.payments.money import NOT_MONEY, Money, from_psp_amount, read_psp_unit, to_psp_amount
from app.payments.ports import Captured, Declined, NotSent, RequiresAction, Unknown
from tests.fakes.payment_parts import make_attempt, make_intent

CONNECT_TIMEOUT_S = 0.3
READ_TIMEOUT_S = 0.3
SLOW_S = 0.8
PATIENCE_S = 20

UNKNOWN_AND_CHARGED = (
    "timeout_after",
    "drop_after",
    "half_body",
    "garbage",
    "500_after",
    "502_after",
    "503_after",
    "504_after",
    "html_502_after",
)
UNKNOWN_AND_NOT_CHARGED = (
    "timeout_before",
    "drop_before",
    "500_before",
    "502_before",
    "503_before",
    "504_before",
    "html_502_before",
    "409",
)


@pytest.fixture(scope="module")
def sandbox():
    with StripeSandbox(hold_s=5, slow_s=SLOW_S) as running:
        yield running


@pytest.fixture
def connect():
    opened = []

    def connect(address, key="sk_test_1"):
        connector = StripeConnector(
            key, base_address=address, connect_timeout_s=CONNECT_TIMEOUT_S, read_timeout_s=READ_TIMEOUT_S
        )
        opened.append(connector)
        return connector

    yield connect
    for connector in opened:
        connector.close()


@pytest.fixture
def connector(sandbox, connect):
    return connect(sandbox.url)


def attempt_with(method="pm_card_visa", **values):
    return make_attempt(make_intent(payment_method=method, **values))


def charge(connector, attempt):
    return connector.charge(attempt, idempotency_key=attempt.key)


def count_charges(sandbox, attempt) -> int:
    live = requests.get(f"{sandbox.url}/_sandbox/charges", timeout=5).json()
    return len(live.get(attempt.intent_id, []))


def test_a_charge_is_captured_and_found_by_our_reference(sandbox, connector) -> None:
    attempt = attempt_with()
    captured = charge(connector, attempt)
    assert isinstance(captured, Captured)
    assert connector.find_by_reference(attempt) == captured
    assert count_charges(sandbox, attempt) == 1


def test_one_key_charges_once_however_often_it_is_sent(sandbox, connector) -> None:
    attempt = attempt_with()
    assert len({charge(connector, attempt) for _ in range(5)}) == 1
    assert count_charges(sandbox, attempt) == 1


def test_one_key_charges_once_from_many_threads(sandbox, connector) -> None:
    attempt = attempt_with()
    outcomes = []
    workers = [threading.Thread(target=lambda: outcomes.append(charge(connector, attempt))) for _ in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
    assert count_charges(sandbox, attempt) == 1
    assert {type(outcome) for outcome in outcomes} <= {Captured, Unknown}


@pytest.mark.parametrize(
    ("method", "code"),
    [("pm_card_chargeDeclined", "card_declined"), ("pm_card_chargeDeclinedExpiredCard", "expired_card")],
)
def test_a_decline_is_definite(sandbox, connector, method, code) -> None:
    attempt = attempt_with(method)
    declined = charge(connector, attempt)
    assert isinstance(declined, Declined)
    assert declined.code == code
    assert charge(connector, attempt) == declined
    found = connector.find_by_reference(attempt)
    assert isinstance(found, Declined)
    assert found.psp_reference == declined.psp_reference
    assert count_charges(sandbox, attempt) == 0


def test_a_challenge_waits_for_the_payer_uncharged(sandbox, connector) -> None:
    attempt = attempt_with("pm_card_authenticationRequired")
    assert isinstance(charge(connector, attempt), RequiresAction)
    assert isinstance(connector.find_by_reference(attempt), RequiresAction)
    assert count_charges(sandbox, attempt) == 0


@pytest.mark.parametrize("fault", UNKNOWN_AND_CHARGED)
def test_an_answer_lost_after_the_charge_is_unknown_until_evidence(sandbox, connector, fault) -> None:
    attempt = attempt_with(f"pm_sandbox_{fault}")
    assert isinstance(charge(connector, attempt), Unknown)
    assert count_charges(sandbox, attempt) == 1
    assert isinstance(charge(connector, attempt), Unknown if fault == "500_after" else Captured)
    assert isinstance(connector.find_by_reference(attempt), Captured)
    assert count_charges(sandbox, attempt) == 1


@pytest.mark.parametrize("fault", UNKNOWN_AND_NOT_CHARGED)
def test_a_request_lost_before_the_charge_is_just_as_unknown(sandbox, connector, fault) -> None:
    attempt = attempt_with(f"pm_sandbox_{fault}")
    assert isinstance(charge(connector, attempt), Unknown)
    assert connector.find_by_reference(attempt) is None
    assert count_charges(sandbox, attempt) == 0
    assert isinstance(charge(connector, attempt), Captured)
    assert count_charges(sandbox, attempt) == 1


@pytest.mark.parametrize(("fault", "our_fault"), [("429", False), ("401", True)])
def test_a_request_turned_away_unread_was_not_sent(sandbox, connector, fault, our_fault) -> None:
    attempt = attempt_with(f"pm_sandbox_{fault}")
    assert charge(connector, attempt) == NotSent(code=f"http_{fault}", our_fault=our_fault)
    assert count_charges(sandbox, attempt) == 0


def test_a_twin_of_a_request_in_flight_is_unknown(sandbox, connector) -> None:
    attempt = attempt_with("pm_sandbox_slow")
    assert charge(connector, attempt) == Unknown(code="read_timeout")
    assert charge(connector, attempt) == Unknown(code="idempotency_key_in_use")
    wait_for(lambda: isinstance(charge(connector, attempt), Captured))
    assert count_charges(sandbox, attempt) == 1


def test_a_request_that_arrives_after_its_replay_does_not_charge_again(sandbox, connector) -> None:
    attempt = attempt_with("pm_sandbox_late")
    assert charge(connector, attempt) == Unknown(code="read_timeout")
    assert isinstance(charge(connector, attempt), Captured)
    time.sleep(SLOW_S)  # the late original arrives meanwhile, and leaves no trace to wait for
    assert count_charges(sandbox, attempt) == 1


def test_a_key_used_for_something_else_is_unknown(sandbox, connector) -> None:
    first, second = attempt_with(), attempt_with()
    charge(connector, first)
    assert connector.charge(second, idempotency_key=first.key) == Unknown(code="idempotency_error")
    assert count_charges(sandbox, second) == 0


def test_a_request_stripe_refuses_to_read_is_our_fault(connector) -> None:
    assert charge(connector, attempt_with("pm_nobody")) == NotSent(code="resource_missing", our_fault=True)


def test_a_key_that_is_no_key_is_our_fault(sandbox, connect) -> None:
    assert charge(connect(sandbox.url, "pk_wrong"), attempt_with()) == NotSent(code="http_401", our_fault=True)


def test_a_refused_connection_was_not_sent(connect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = charge(connect(f"http://127.0.0.1:{unused.getsockname()[1]}"), attempt_with())
    assert outcome == NotSent(code="not_connected")


def test_a_connection_that_is_never_accepted_was_not_sent(connect) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        outcome = charge(connect(f"http://127.0.0.1:{full.getsockname()[1]}"), attempt_with())
        for client in waiting:
            client.close()
    assert outcome == NotSent(code="connect_timeout")


def test_a_name_that_does_not_resolve_was_not_sent(connect, monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert charge(connect("https://psp.invalid"), attempt_with()) == NotSent(code="dns")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"[]"),
        (200, b'"succeeded"'),
        (200, b"null"),
        (200, b"{}"),
        (200, b'{"object":"payment_intent","id":7,"status":"succeeded"}'),
        (200, b'{"object":"payment_intent","id":"pi_1","status":"succeeded","amount":1,"amount_received":1}'),
        (200, b'{"object":"charge","id":"ch_1","status":"succeeded"}'),
        (200, b"\xff\xfe"),
        (200, b""),
        (302, b""),
        (401, b"<html>"),
        (402, b"{}"),
        (402, b'{"error":"no"}'),
        (429, b"slow down"),
        (404, b"no such page"),
    ],
)
def test_an_answer_that_is_not_stripes_is_unknown(connect, status, body) -> None:
    with stranger(status, body) as (address, _):
        connector = connect(address)
        assert isinstance(charge(connector, attempt_with()), Unknown)
        assert isinstance(connector.find_by_reference(attempt_with()), Unknown)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(connect, status) -> None:
    with stranger(status, b"") as (address, paths):
        assert isinstance(charge(connect(address), attempt_with()), Unknown)
    assert paths == ["/v1/payment_intents"]


@pytest.mark.parametrize("fault", ["timeout_before", "drop_before", "500_before", "garbage", "429", "401", "half_body"])
def test_a_look_up_that_fails_is_unknown_and_not_absence(sandbox, connector, fault) -> None:
    attempt = attempt_with()
    charge(connector, attempt)
    requests.post(f"{sandbox.url}/_sandbox/faults", json={"fault": fault, "method": "GET"}, timeout=5)
    assert isinstance(connector.find_by_reference(attempt), Unknown)
    assert isinstance(connector.find_by_reference(attempt), Captured)


@pytest.mark.parametrize("currency", sorted({c.alpha_3 for c in pycountry.currencies} - NOT_MONEY))
def test_the_amount_at_the_psp_is_the_amount_on_record(sandbox, connector, currency) -> None:
    try:
        unit = read_psp_unit(currency, "stripe")
    except Rejected:
        return  # never sent at all: test_payment_money
    money = from_psp_amount(1200 if unit.step > 1 else 12, currency, "stripe")
    attempt = attempt_with(amount_minor=money.amount_minor, currency=currency)
    captured = charge(connector, attempt)
    assert isinstance(captured, Captured)
    at_psp = sandbox.api.book.intents[captured.psp_reference]
    assert (at_psp["amount_received"], at_psp["currency"]) == (to_psp_amount(money, "stripe"), currency.lower())


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"status": "canceled"}, Declined(code="canceled", psp_reference="pi_1")),
        ({"status": "requires_payment_method"}, Declined(code="declined", psp_reference="pi_1")),
        ({"status": "processing"}, Unknown(code="processing", psp_reference="pi_1")),
        ({"status": "a new state"}, Unknown(code="unreadable_reply", psp_reference="pi_1")),
        ({"amount_received": 1098}, Unknown(code="succeeded", psp_reference="pi_1")),
        ({"amount": 1098}, Unknown(code="reply_is_not_ours", psp_reference="pi_1")),
        ({"currency": "usd"}, Unknown(code="reply_is_not_ours", psp_reference="pi_1")),
        ({"metadata": None}, Unknown(code="reply_is_not_ours", psp_reference="pi_1")),
        ({}, Captured(psp_reference="pi_1")),
    ],
)
def test_a_found_payment_is_read_for_what_it_says(connect, change, outcome) -> None:
    attempt = attempt_with()
    with stranger(200, json.dumps(found_intent(attempt) | change).encode()) as (address, _):
        assert connect(address).find_by_reference(replace(attempt, psp_reference="pi_1")) == outcome


@pytest.mark.parametrize(
    ("copies", "has_more", "code"), [(2, False, "more_than_one_found"), (1, True, "too_many_found")]
)
def test_an_ambiguous_search_is_unknown(connect, copies, has_more, code) -> None:
    attempt = attempt_with()
    page = {"object": "search_result", "has_more": has_more, "data": [found_intent(attempt)] * copies}
    with stranger(200, json.dumps(page).encode()) as (address, _):
        assert connect(address).find_by_reference(attempt) == Unknown(code=code)


def test_a_search_result_that_is_not_ours_is_not_taken_for_ours(connect) -> None:
    attempt = attempt_with()
    page = {"object": "search_result", "has_more": False, "data": [found_intent(attempt_with())]}
    with stranger(200, json.dumps(page).encode()) as (address, _):
        assert connect(address).find_by_reference(attempt) is None


def found_intent(attempt):
    return {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 1099,
        "amount_received": 1099,
        "currency": "eur",
        "metadata": {"assay_attempt": attempt.id},
        "status": "succeeded",
    }


def test_an_answer_about_another_amount_is_not_believed(sandbox, connector) -> None:
    attempt = attempt_with()
    reference = charge(connector, attempt).psp_reference
    other = replace(attempt, psp_reference=reference, money=Money(amount_minor=9, currency="EUR"))
    assert connector.find_by_reference(other) == Unknown(code="reply_is_not_ours", psp_reference=reference)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("http://psp.example", "sk_test_1"),
        ("ftp://127.0.0.1", "sk_test_1"),
        ("file:///etc/passwd", "sk_test_1"),
        ("https://user:secret@psp.example", "sk_test_1"),
        ("https://psp.example/v1", "sk_test_1"),
        ("https://psp.example?x=1", "sk_test_1"),
        ("https://", "sk_test_1"),
        ("http://127.0.0.1.psp.example", "sk_test_1"),
        ("http://127.0.0.1:8420", "sk_live_1"),
        ("http://127.0.0.1:8420", "rk_live_1"),
        ("", "sk_test_1"),
    ],
)
def test_a_psp_address_that_could_leak_the_key_is_refused(address, key) -> None:
    with pytest.raises(Rejected):
        StripeConnector(key, base_address=address)


def test_the_environments_proxy_is_not_used(sandbox, connect, monkeypatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert isinstance(charge(connect(sandbox.url), attempt_with()), Captured)


def wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def stranger(status, body):
    """A server that is not Stripe; yields its address and the paths that it was asked for."""
    paths = []

    class Stranger(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815  the base class's names

        def log_message(self, *args) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", paths
        finally:
            server.shutdown()
