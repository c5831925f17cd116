"""The sandbox PSP keeps Stripe's rules, so that a test against it means something."""

from __future__ import annotations

import contextlib
import socket

import pytest
import requests

from app.adapters.connectors.sandbox import StripeSandbox
from app.errors import Rejected

HEADERS = {"Authorization": "Bearer sk_test_1"}
CHARGE = {"amount": "1099", "currency": "eur", "payment_method": "pm_card_visa", "confirm": "true"}


@pytest.fixture(scope="module")
def sandbox():
    with StripeSandbox(hold_s=2, slow_s=0.2) as running:
        yield running


@pytest.fixture
def send(sandbox):
    with requests.Session() as session:
        session.trust_env = False

        def send(method, path, data=None, *, key=None, **options):
            headers = HEADERS | ({"Idempotency-Key": key} if key else {})
            return session.request(
                method, sandbox.url + path, **({"data": data, "headers": headers, "timeout": 5} | options)
            )

        yield send


def test_a_stored_reply_is_replayed_and_marked(send) -> None:
    first = send("POST", "/v1/payment_intents", CHARGE, key="k1")
    again = send("POST", "/v1/payment_intents", CHARGE, key="k1")
    assert first.json() == again.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.headers["Request-Id"] != again.headers["Request-Id"]


def test_a_decline_is_stored_with_its_status(send) -> None:
    declined = CHARGE | {"payment_method": "pm_card_chargeDeclined"}
    replies = [send("POST", "/v1/payment_intents", declined, key="k2") for _ in range(2)]
    assert [reply.status_code for reply in replies] == [402, 402]
    assert replies[0].json() == replies[1].json()
    error = replies[0].json()["error"]
    assert (error["type"], error["code"], error["decline_code"]) == ("card_error", "card_declined", "generic_decline")


def test_a_key_with_other_parameters_is_an_idempotency_error(send) -> None:
    send("POST", "/v1/payment_intents", CHARGE, key="k3")
    other = send("POST", "/v1/payment_intents", CHARGE | {"amount": "1"}, key="k3")
    assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error")


def test_a_request_that_fails_validation_leaves_its_key_free(send) -> None:
    wrong = send("POST", "/v1/payment_intents", CHARGE | {"amount": "-1"}, key="k4")
    right = send("POST", "/v1/payment_intents", CHARGE, key="k4")
    assert (wrong.status_code, right.status_code) == (400, 200)


def test_an_authorised_payment_is_captured_in_part_and_refunded_no_further(send) -> None:
    manual = send("POST", "/v1/payment_intents", CHARGE | {"capture_method": "manual"}).json()
    assert (manual["status"], manual["amount_capturable"]) == ("requires_capture", 1099)
    path = f"/v1/payment_intents/{manual['id']}/capture"
    assert send("POST", path, {"amount_to_capture": "1100"}).status_code == 400
    captured = send("POST", path, {"amount_to_capture": "700"}).json()
    assert (captured["status"], captured["amount_received"]) == ("succeeded", 700)
    assert send("POST", path).json()["error"]["code"] == "payment_intent_unexpected_state"
    refund = {"payment_intent": manual["id"], "amount": "400"}
    assert send("POST", "/v1/refunds", refund).json()["amount"] == 400
    assert send("POST", "/v1/refunds", refund).json()["error"]["code"] == "amount_too_large"
    assert send("POST", "/v1/refunds", {"payment_intent": manual["id"]}).json()["amount"] == 300
    assert send("POST", "/v1/refunds", refund).json()["error"]["code"] == "charge_already_refunded"


def test_an_intent_is_created_confirmed_and_not_canceled_any_more(send) -> None:
    created = send("POST", "/v1/payment_intents", {"amount": "5", "currency": "eur"}).json()
    assert created["status"] == "requires_payment_method"
    path = f"/v1/payment_intents/{created['id']}"
    assert send("POST", f"{path}/confirm").json()["error"]["code"] == "parameter_missing"
    assert send("POST", f"{path}/confirm", {"payment_method": "pm_card_visa"}).json()["status"] == "succeeded"
    assert send("POST", f"{path}/cancel").status_code == 400
    assert send("GET", path).json()["status"] == "succeeded"


def test_a_waiting_intent_can_be_canceled(send) -> None:
    waiting = send("POST", "/v1/payment_intents", CHARGE | {"payment_method": "pm_card_authenticationRequired"}).json()
    assert waiting["status"] == "requires_action"
    canceled = send("POST", f"/v1/payment_intents/{waiting['id']}/cancel").json()
    assert canceled["status"] == "canceled"
    assert send("POST", f"/v1/payment_intents/{waiting['id']}/confirm").status_code == 400


def test_intents_are_listed_newest_first_and_searched_by_metadata(send) -> None:
    ids = [
        send("POST", "/v1/payment_intents", CHARGE | {"metadata[assay_attempt]": f"pa_{n}"}).json()["id"]
        for n in range(2)
    ]
    assert [it["id"] for it in send("GET", "/v1/payment_intents?limit=2").json()["data"]] == ids[::-1]
    found = send("GET", "/v1/payment_intents/search", params={"query": "metadata['assay_attempt']:'pa_1'"}).json()
    assert (found["object"], [it["id"] for it in found["data"]]) == ("search_result", [ids[1]])


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"amount": "1.5"}, "parameter_invalid_integer"),
        ({"amount": "0"}, "parameter_invalid_integer"),
        ({"currency": "EUR"}, "parameter_invalid_string"),
        ({"currency": "isk", "amount": "150"}, "invalid_charge_amount_no_decimal_compatible"),
        ({"currency": "kwd", "amount": "5124"}, "invalid_charge_amount_no_decimal_compatible"),
        ({"payment_method": "pm_nobody"}, "resource_missing"),
        ({"payment_method_types[0]": "card"}, "parameter_unknown"),
        ({"card[number]": "4242424242424242"}, "parameter_unknown"),
    ],
)
def test_what_stripe_refuses_is_refused(send, change, code) -> None:
    reply = send("POST", "/v1/payment_intents", CHARGE | change)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)
    assert "4242" not in reply.text


@pytest.mark.parametrize("authorization", [{}, {"Authorization": "Bearer sk_live_1"}, {"Authorization": "Basic x"}])
def test_only_test_keys_are_let_in(send, authorization) -> None:
    assert send("POST", "/v1/payment_intents", CHARGE, headers=authorization).status_code == 401


def test_a_scripted_fault_strikes_so_many_times_and_can_be_cleared(send) -> None:
    assert send("POST", "/_sandbox/faults", json={"fault": "503_before", "times": 2}, data=None).json() == {
        "scripted": 2
    }
    assert [send("POST", "/v1/payment_intents", CHARGE).status_code for _ in range(3)] == [503, 503, 200]
    send("POST", "/_sandbox/faults", json={"fault": "503_before", "times": 9}, data=None)
    assert send("POST", "/_sandbox/faults", json={}, data=None).json() == {"scripted": 0}
    assert send("POST", "/v1/payment_intents", CHARGE).status_code == 200


def test_an_always_method_breaks_every_replay(send) -> None:
    broken = CHARGE | {"payment_method": "pm_sandbox_503_before_always"}
    assert {send("POST", "/v1/payment_intents", broken, key="k5").status_code for _ in range(3)} == {503}


@pytest.mark.parametrize("order", ["", "[]", "[" * 9999, '{"fault": "nothing"}', '{"fault": "429", "times": 1e9}'])
def test_a_fault_order_that_makes_no_sense_is_refused(send, order) -> None:
    assert send("POST", "/_sandbox/faults", order).status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"a" * 100, 400),
        (b"a[b=1", 400),
        (b"a=1&a[b]=2", 400),
        (b"a[b][c][d][e][f][g]=1", 400),
        (b"&".join(b"k%d=1" % n for n in range(300)), 400),
        (b"\xff=1", 400),
        (b"x" * (1 << 21), 413),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(send, body, status) -> None:
    with contextlib.suppress(requests.ConnectionError):  # it may hang up before a large body is all sent
        assert send("POST", "/v1/payment_intents", body).status_code == status


def test_a_body_without_a_length_is_refused(sandbox) -> None:
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(b"POST /v1/refunds HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 411"


@pytest.mark.parametrize("path", ["/", "/v1/nothing", "/v1/payment_intents/pi_absent", "/_sandbox/nothing"])
def test_what_is_not_there_is_not_found(send, path) -> None:
    assert send("GET", path).status_code == 404


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "psp.example"])  # noqa: S104  refused
def test_the_sandbox_listens_on_loopback_only(host) -> None:
    with pytest.raises(Rejected):
        StripeSandbox(host=host)
