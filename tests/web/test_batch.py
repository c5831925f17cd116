"""POST /v1/entries:batch: one result a line, in order; good lines are stored whatever the others are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from werkzeug.test import TestResponse

from app.ledger.verify import Outcome, read_trust, verify_receipt_file
from tests.parts.web import APPROVAL, TENANT, WAIT, WebPart, open_web, publishing
from tests.web.problem import PAN, check_headers, read_problem

LIMIT = 1000


def _line(ref: str) -> bytes:
    return orjson.dumps({**APPROVAL, "ref": {"contract": ref}})


def _send(web: WebPart, data: bytes, **headers: str) -> TestResponse:
    return web.post("/v1/entries:batch", data=data, content_type="application/x-ndjson", headers=headers)


def _read(answer: TestResponse) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.data
    assert answer.content_type == "application/x-ndjson"
    check_headers(answer)
    results = [orjson.loads(line) for line in answer.data.splitlines()]
    assert [result["line"] for result in results] == list(range(1, len(results) + 1))
    return results


def test_good_lines_are_stored_and_bad_ones_reported_each_in_its_place(web: WebPart) -> None:
    lines = [
        _line("mixed"),
        b"{not json",
        b'{"action":"no.such"}',
        b'{"action":"approval.given","data":{"what":"x","verdict":"approved"},"action":"approval.given"}',
        _line("mixed"),
        b'{"action":"approval.given","unknown":1}',
        orjson.dumps({"action": "decision.recorded"}),
        orjson.dumps({**APPROVAL, "ref": {"card": PAN}}),
        b"[1]",
        b"\xff",
        _line("mixed"),
    ]
    answer = _send(web, b"\n".join(lines))
    results = _read(answer)
    codes = [result["error"]["code"] if "error" in result else result["status"] for result in results]
    assert codes == [
        "appended",
        "json_malformed",
        "action_unknown",
        "json_malformed",
        "appended",
        "request_invalid",
        "action_internal",
        "card_number",
        "request_invalid",
        "json_malformed",
        "appended",
    ]
    assert PAN.encode() not in answer.data
    assert results[5]["error"]["errors"][0]["pointer"] == "/unknown"
    web.append()
    stored = [entry["id"] for entry in web.list_entries("&ref=mixed")]
    assert stored == [results[at]["id"] for at in (0, 4, 10)]


def test_lines_may_end_as_on_any_machine(web: WebPart) -> None:
    for ends in (b"\n", b"\r\n"):
        for last in (b"", ends):
            results = _read(_send(web, ends.join([_line("ends")] * 3) + last))
            assert [result["status"] for result in results] == ["appended"] * 3


def test_an_empty_line_is_a_bad_line(web: WebPart) -> None:
    results = _read(_send(web, _line("gap") + b"\n\n" + _line("gap") + b"\n"))
    assert [result.get("status") for result in results] == ["appended", None, "appended"]
    assert results[1]["error"]["code"] == "json_malformed"


def test_a_batch_without_a_line_is_refused(web: WebPart) -> None:
    read_problem(_send(web, b""), 400, "batch_empty")


def test_1000_lines_are_taken_and_1001_are_not(web: WebPart) -> None:
    before = len(web.list_entries("&ref=full"))
    read_problem(_send(web, b"\n".join([_line("full")] * (LIMIT + 1))), 413, "batch_too_large")
    web.append()
    assert len(web.list_entries("&ref=full")) == before, "nothing of a refused batch is stored"
    results = _read(_send(web, b"\n".join([_line("full")] * LIMIT)))
    assert [result["status"] for result in results] == ["appended"] * LIMIT
    assert len({result["id"] for result in results}) == LIMIT


def test_a_line_over_64_kib_is_refused_and_the_others_stored(web: WebPart) -> None:
    long = b'{"action":"' + b"a" * 70_000 + b'"}'
    results = _read(_send(web, b"\n".join([_line("long"), long, _line("long")])))
    assert [result.get("status") for result in results] == ["appended", None, "appended"]
    assert results[1]["error"]["code"] == "body_too_large"


def test_a_batch_sent_again_under_its_key_changes_nothing(web: WebPart) -> None:
    data = b"\n".join([_line("again"), b"{bad", _line("again")])
    first = _read(_send(web, data, **{"Idempotency-Key": "batch-1"}))
    again = _read(_send(web, data, **{"Idempotency-Key": "batch-1"}))
    assert [result.get("id") for result in again] == [result.get("id") for result in first]
    assert [result.get("replayed") for result in first] == [False, None, False]
    assert [result.get("replayed") for result in again] == [True, None, True]
    web.append()
    assert len(web.list_entries("&ref=again")) == 2


def test_a_batch_that_waits_says_the_index_of_each_line_and_where_its_receipt_is(web: WebPart) -> None:
    data = b"\n".join([_line("waited"), b"{bad", _line("waited")])
    headers = {**WAIT, "Idempotency-Key": "batch-waits"}
    answer = _send(web, data, **headers)
    results = _read(answer)
    assert answer.headers["Preference-Applied"] == "wait=20"
    assert [result.get("status") for result in results] == ["published", None, "published"]
    assert results[2]["index"] == results[0]["index"] + 1
    for result in (results[0], results[2]):
        report = verify_receipt_file(web.get(result["receipt"]).data, read_trust(None, [web.vkeys[TENANT]]))
        assert report.outcome is Outcome.VALID
        assert f"{result['id']} (approval.given) is entry {result['index']} of" in report.summary
    again = _read(_send(web, data, **headers))
    assert [result.get("index") for result in again] == [result.get("index") for result in results]


def test_a_batch_without_a_good_line_does_not_wait(web: WebPart) -> None:
    answer = _send(web, b"{bad", **WAIT)
    assert _read(answer)[0]["error"]["code"] == "json_malformed"
    assert "Preference-Applied" not in answer.headers


def test_a_batch_that_waits_in_vain_is_durable_and_says_no_more(tmp_path: Path) -> None:
    with open_web(tmp_path, published=False) as web:
        answer = _send(web, _line("patient"), Prefer="wait=1")
        [result] = _read(answer)
        assert (result["status"], result.keys()) == ("appended", {"line", "id", "status", "replayed"})
        assert "Preference-Applied" not in answer.headers
        with publishing(web.installation):
            web.append()
        assert web.list_entries("&ref=patient")[0]["id"] == result["id"]


def test_another_line_under_the_same_key_is_refused_alone(web: WebPart) -> None:
    first = b"\n".join([_line("one"), _line("two")])
    second = b"\n".join([_line("one"), _line("three"), _line("four")])
    key = {"Idempotency-Key": "batch-2"}
    _read(_send(web, first, **key))
    results = _read(_send(web, second, **key))
    assert results[0]["replayed"] is True
    assert results[1]["error"]["code"] == "idempotency_mismatch"
    assert results[2]["replayed"] is False


def test_personal_facts_are_refused_in_a_batch_with_the_way_to_go(web: WebPart) -> None:
    person = {"action": "customer.registered", "data": {"country": "SE"}, "personal": {"name": "Ada Example"}}
    answer = _send(web, orjson.dumps(person) + b"\n" + _line("beside"))
    results = _read(answer)
    assert results[0]["error"]["code"] == "personal_in_batch"
    assert "POST /v1/entries" in results[0]["error"]["detail"]
    assert results[1]["status"] == "appended"
    assert b"Ada" not in answer.data


def test_records_and_entries_may_be_mixed(web: WebPart) -> None:
    record = (
        b'{"timestamp":1712345678,"user_id":"usr_1","action":"PAYMENT_PROCESSED",'
        b'"metadata":{"amount":1499.99,"currency":"USD","compliance_status":"PASSED"}}'
    )
    results = _read(_send(web, record + b"\n" + _line("beside")))
    assert [result["status"] for result in results] == ["appended", "appended"]
