"""The record that today's customers have: in, parsed exactly; out, with the leaf hash as its hash."""

from __future__ import annotations

from decimal import Decimal

import orjson
import pytest

from app.payments.record import FUTURE_TOLERANCE_S
from tests.parts.web import WAIT, WebPart
from tests.web.problem import PAN, read_problem

RECORD = (
    '{{"tx_hash":"0xabc123","timestamp":{at},"user_id":"usr_42","action":"PAYMENT_PROCESSED",'
    '"metadata":{{"amount":{amount},"currency":"{currency}","compliance_status":"PASSED"}}}}'
)


def _post(web: WebPart, amount: str, currency: str = "USD", at: int = 1712345678):
    body = RECORD.format(amount=amount, currency=currency, at=at)
    headers = {**WAIT, "Accept": "application/json"}
    return web.post("/v1/entries", data=body.encode(), content_type="application/json", headers=headers)


@pytest.mark.parametrize(
    ("amount", "currency", "minor", "out"),
    [
        ("1499.99", "USD", 149999, "1499.99"),
        ("1499", "USD", 149900, "1499.00"),
        ("0.1", "EUR", 10, "0.10"),
        ("1.1e2", "EUR", 11000, "110.00"),
        ("1499", "JPY", 1499, "1499"),
        ("1.005", "KWD", 1005, "1.005"),
        ("9999999999.99", "EUR", 999_999_999_999, "9999999999.99"),
    ],
)
def test_an_amount_comes_back_exactly(web: WebPart, amount: str, currency: str, minor: int, out: str) -> None:
    accepted = _post(web, amount, currency)
    assert accepted.status_code == 201, accepted.data
    entry_id = accepted.json["id"]
    entry = web.get(f"/v1/entries/{entry_id}").json
    assert entry["entry"]["data"]["amount_minor"] == minor
    record = web.get(f"/v1/entries/{entry_id}?view=record")
    assert f'"amount":{out},'.encode() in record.data
    assert orjson.loads(record.data) == {
        "tx_hash": f"0x{entry['leaf_hash']}",
        "timestamp": 1712345678,
        "user_id": "usr_42",
        "action": "PAYMENT_PROCESSED",
        "metadata": {"amount": float(Decimal(out)), "currency": currency, "compliance_status": "PASSED"},
    }
    proven = web.get(f"/v1/proofs/inclusion?leaf_hash={record.json['tx_hash'][2:]}").json
    assert proven["index"] == entry["index"]


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        ("0.30000000000000004", "USD", "bad_amount"),
        ("-1", "USD", "bad_amount"),
        ("-0.01", "USD", "bad_amount"),
        ("0", "USD", "bad_amount"),
        ("0.00", "USD", "bad_amount"),
        ("1499.999", "USD", "bad_amount"),
        ("1.001", "JPY", "bad_amount"),
        ("1.5", "JPY", "bad_amount"),
        ("1.0", "JPY", "bad_amount"),
        ("1e400", "USD", "bad_amount"),
        ("1e-400", "USD", "bad_amount"),
        ("99999999999.99", "USD", "bad_amount"),
        ("true", "USD", "bad_amount"),
        ('"1499.99"', "USD", "bad_amount"),
        ("null", "USD", "bad_amount"),
        ("[]", "USD", "bad_amount"),
        ("1", "XXX", "unknown_currency"),
        ("1", "ZZZ", "unknown_currency"),
        ("1", "usd", "unknown_currency"),
    ],
)
def test_an_amount_that_is_not_exactly_money_is_refused(web: WebPart, amount: str, currency: str, code: str) -> None:
    problem = read_problem(_post(web, amount, currency), 422, code)
    field = "currency" if code == "unknown_currency" else "amount"
    assert problem["errors"][0]["pointer"] == f"/metadata/{field}"


def test_a_record_of_the_future_is_refused_and_one_of_a_fast_clock_is_not(web: WebPart) -> None:
    now_s = web.services.now_ms() // 1000
    assert _post(web, "1", at=now_s + FUTURE_TOLERANCE_S - 30).status_code == 201
    problem = read_problem(_post(web, "1", at=now_s + FUTURE_TOLERANCE_S + 30), 422, "timestamp_in_future")
    assert problem["errors"][0]["pointer"] == "/timestamp"
    read_problem(_post(web, "1", at=10**15), 422, "record_invalid")
    read_problem(_post(web, "1", at=-1), 422, "record_invalid")


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "Ada Example"},
        {"user_id": 7},
        {"tx_hash": "abc"},
        {"tx_hash": "0x" + "z" * 4},
        {"action": "payment processed"},
        {"action": None},
        {"extra": 1},
        {"metadata": []},
        {"metadata": {"amount": 1}},
        {"metadata": {"amount": 1, "currency": "USD", "compliance_status": "PASSED", "name": "Ada"}},
        {"metadata": {"amount": 1, "currency": "USD", "compliance_status": {"x": 1}}},
        {"metadata": {"amount": 1, "currency": ["USD"], "compliance_status": "PASSED"}},
        {"timestamp": "1712345678"},
        {"timestamp": 1712345678.5},
        {"timestamp": True},
    ],
)
def test_what_is_not_the_record_is_refused(web: WebPart, change: dict[str, object]) -> None:
    record = orjson.loads(RECORD.format(amount="1", currency="USD", at=1712345678)) | change
    answer = web.post("/v1/entries", data=orjson.dumps(record), content_type="application/json")
    assert answer.status_code in {400, 422}
    read_problem(answer, answer.status_code, answer.json["code"])


@pytest.mark.parametrize("field", ["user_id", "tx_hash", "action", "compliance_status", "currency"])
def test_a_card_number_in_a_record_is_refused_and_not_repeated(web: WebPart, field: str) -> None:
    record = orjson.loads(RECORD.format(amount="1", currency="USD", at=1712345678))
    value = {"user_id": f"usr_{PAN}", "tx_hash": f"0x{PAN}"}.get(field, PAN)
    place = record if field in record else record["metadata"]
    place[field] = value
    answer = web.post("/v1/entries", data=orjson.dumps(record), content_type="application/json")
    assert answer.status_code == 422
    assert PAN.encode() not in answer.data


def test_an_entry_that_is_no_payment_has_no_record_view(web: WebPart) -> None:
    entry_id = web.append().json["id"]
    read_problem(web.get(f"/v1/entries/{entry_id}?view=record"), 422, "no_record_view")
    read_problem(web.get(f"/v1/entries/{entry_id}?view=html"), 422, "request_invalid")
