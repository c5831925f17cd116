"""A card number is refused wherever it stands and kept nowhere; tokens and keys never reach an answer or a log line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from werkzeug.test import TestResponse

from tests.parts.web import APPROVAL, WebPart, open_web
from tests.web.problem import PAN

SPACED = "4242 4242 4242 4242"
DASHED = "4242-4242-4242-4242"
KEY = "an-idempotency-key-of-mine"
PAYER = {"name": "Ada Example", "email": "ada@example.com", "country": "DE"}
PAYMENT: dict[str, Any] = {
    "amount_minor": 1499,
    "currency": "EUR",
    "country": "DE",
    "payment_method": {"stripe": "pm_card_visa"},
    "payer": PAYER,
}
ENTRIES: list[dict[Any, Any]] = [
    {**APPROVAL, "ref": {"card": PAN}},
    {**APPROVAL, "ref": {f"a{PAN}": "x"}},
    {**APPROVAL, "data": {"what": SPACED, "verdict": "approved"}},
    {**APPROVAL, "data": {"what": f"card {DASHED} 12/30", "verdict": "approved"}},
    {**APPROVAL, "data": {"what": "x", "verdict": PAN}},
    {**APPROVAL, "data": {"what": "x", "verdict": "approved", PAN: 1}},
    {**APPROVAL, "data": {"what": "x", "verdict": "approved", "n": int(PAN)}},
    {**APPROVAL, "data": {"what": [{"deep": [PAN]}], "verdict": "approved"}},
    {**APPROVAL, "subject": f"sub_{PAN}"},
    {**APPROVAL, PAN: 1},
    {**APPROVAL, PAN: {PAN: PAN}},
    {"action": PAN},
    {"action": f"approval.{PAN}"},
    {"action": "customer.registered", "data": {"country": "SE"}, "personal": {"name": SPACED}},
    {"action": "customer.registered", "data": {"country": "SE"}, "personal": {"email": f"{PAN}@example.com"}},
    {"action": "customer.registered", "data": {"country": "SE"}, "personal": {PAN: "x"}},
    {"action": "record.logged", "data": {"record_action": PAN}},
]
PAYMENTS: list[dict[Any, Any]] = [
    {**PAYMENT, "payer": {**PAYER, "name": f"Ada {SPACED}"}},
    {**PAYMENT, "payer": {**PAYER, "email": f"{PAN}@example.com"}},
    {**PAYMENT, "payer": {**PAYER, PAN: "x"}},
    {**PAYMENT, "payer": {**PAYER, "country": PAN}},
    {**PAYMENT, "payment_method": {"stripe": PAN}},
    {**PAYMENT, "payment_method": {"stripe": "pm_card_visa", "adyen": DASHED}},
    {**PAYMENT, "payment_method": {f"p{PAN}": "x"}},
    {**PAYMENT, "subject": f"sub_{PAN}"},
    {**PAYMENT, "currency": PAN},
    {**PAYMENT, "country": PAN},
    {**PAYMENT, "amount_minor": PAN},
    {**PAYMENT, "amount_minor": int(PAN)},
    {**{name: value for name, value in PAYMENT.items() if name != "amount_minor"}, "amount": PAN},
    {**PAYMENT, "card": {"number": PAN}},
]
PATHS = [
    ("GET", f"/v1/entries?ref={PAN}"),
    ("GET", f"/v1/entries?subject=sub_{PAN}"),
    ("GET", f"/v1/entries?{PAN}=1"),
    ("GET", f"/v1/entries?action={PAN}"),
    ("GET", f"/v1/entries/{PAN}"),
    ("GET", f"/v1/entries/{PAN}/receipt"),
    ("GET", f"/v1/payments/{PAN}"),
    ("GET", f"/{PAN}/checkpoint"),
    ("GET", f"/acme/tile/0/{PAN}"),
    ("GET", f"/v1/proofs/inclusion?index={PAN}"),
    ("GET", f"/v1/proofs/inclusion?leaf_hash={PAN}"),
    ("DELETE", f"/v1/subjects/{PAN}"),
    ("DELETE", f"/v1/subjects/sub_{PAN}"),
    ("DELETE", f"/v1/subjects/sub_x?reason={PAN}"),
    ("PATCH", f"/v1/{PAN}"),
]
HEADERS = [{"Idempotency-Key": PAN}, {"Idempotency-Key": DASHED}, {"Idempotency-Key": f'"pay-{PAN}"'}]
HEADERS += [{"X-Request-Id": PAN}, {"X-Request-Id": DASHED}, {"Prefer": f"wait={PAN}"}, {"If-None-Match": PAN}]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebPart]:
    with open_web(tmp_path_factory.mktemp("secrets")) as part:
        yield part


@pytest.fixture(autouse=True)
def no_card_number_is_kept(web: WebPart, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After each test: none in a log line or in a file of the installation, the database's own among them."""
    caplog.set_level(logging.DEBUG)
    yield
    found = [place for place in _list_places(web, caplog) if _holds(place[1])]
    assert [name for name, _ in found] == []


def _list_places(web: WebPart, caplog: pytest.LogCaptureFixture) -> Iterator[tuple[str, bytes]]:
    for record in caplog.records:
        yield f"log line of {record.name}", caplog.handler.format(record).encode()
    folder: Path = web.database.parent
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()


def _holds(data: bytes) -> bool:
    return any(form.encode() in data for form in (PAN, SPACED, DASHED))


def _check(answer: TestResponse) -> None:
    assert 400 <= answer.status_code < 500, answer.data
    assert not _holds(answer.data)
    assert not _holds(repr(answer.headers).encode())


@pytest.mark.parametrize("body", ENTRIES, ids=range(len(ENTRIES)))
def test_a_card_number_in_an_entry_is_refused_and_not_repeated(web: WebPart, body: dict[str, Any]) -> None:
    _check(web.post("/v1/entries", json=body))
    batch = web.post("/v1/entries:batch", data=orjson.dumps(body), content_type="application/x-ndjson")
    assert "error" in orjson.loads(batch.data)
    assert not _holds(batch.data)


@pytest.mark.parametrize("body", PAYMENTS, ids=range(len(PAYMENTS)))
def test_a_card_number_in_a_payment_is_refused_and_not_repeated(web: WebPart, body: dict[str, Any]) -> None:
    _check(web.post("/v1/payments", json=body, headers={"Idempotency-Key": "k"}))


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_card_number_in_an_address_is_not_repeated(web: WebPart, method: str, path: str) -> None:
    answer = web.call(method, path)
    assert answer.status_code < 500
    assert not _holds(answer.data)
    assert not _holds(repr(answer.headers).encode())


@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: next(iter(headers.items())))
def test_a_card_number_in_a_header_is_not_repeated(web: WebPart, headers: dict[str, str]) -> None:
    answer = web.post("/v1/entries", json=APPROVAL, headers=headers)
    if "Idempotency-Key" in headers:
        assert answer.json["code"] == "card_number"
        payment = web.post("/v1/payments", json=PAYMENT, headers=headers)
        assert payment.json["code"] == "card_number"
        assert not _holds(payment.data)
    assert not _holds(answer.data)
    assert not _holds(repr(answer.headers).encode())


def test_a_card_number_in_a_token_is_not_repeated(web: WebPart) -> None:
    for kind in (f"Bearer {PAN}", f"Basic {PAN}", PAN):
        _check(web.call("GET", "/v1/entries", token=None, headers={"Authorization": kind}))


def test_tokens_and_keys_reach_neither_answers_nor_log_lines(
    web: WebPart, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("a bug")

    answers = [web.append(key=KEY), web.append({"action": "no.such"}, key=KEY), web.get("/nothing")]
    monkeypatch.setattr(web.services.store, "find_entry", break_down)
    answers.append(web.get("/v1/entries/ent_01a20994cc90715490c6ae3748cc1e29", headers={"Idempotency-Key": KEY}))
    assert [answer.status_code for answer in answers] == [201, 422, 404, 500]
    assert "unexpected error" in caplog.text
    secrets = (web.token, KEY, web.services.settings.stripe_api_key.get_secret_value())
    for secret in secrets:
        assert secret not in caplog.text
        assert not [answer for answer in answers if secret in answer.text or secret in repr(answer.headers)]


def test_a_bug_is_a_bare_500_and_the_trace_is_in_our_log_alone(
    web: WebPart, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ZeroDivisionError("inner words")

    monkeypatch.setattr(web.services.store, "find_entry", break_down)
    answer = web.get("/v1/entries/ent_01a20994cc90715490c6ae3748cc1e29")
    assert answer.json == {
        "type": "/docs/errors#internal_error",
        "title": "Internal Server Error",
        "status": 500,
        "code": "internal_error",
        "detail": "The service failed; it has been logged under this request id.",
        "instance": f"urn:assay:request:{answer.headers['X-Request-Id']}",
        "retryable": False,
    }
    assert "ZeroDivisionError: inner words" in caplog.text
    logged = [record.getMessage() for record in caplog.records if record.name == "assay.web"]
    assert logged == [f"request {answer.headers['X-Request-Id']}: unexpected error"]
