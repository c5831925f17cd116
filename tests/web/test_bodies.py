"""Bodies that are no request of ours: refused with a stable code, never a 500, and never echoed."""

from __future__ import annotations

import pytest

from tests.parts.web import APPROVAL, WebPart
from tests.web.problem import check_headers, read_problem

MIB = 1024 * 1024
JSON = "application/json"
NESTED = b'{"action":"approval.given","data":' + b'{"a":' * 1000 + b"1" + b"}" * 1001

MALFORMED = [
    pytest.param(b"", "json_malformed", id="empty"),
    pytest.param(b'{"action":"\xff\xfe"}', "json_malformed", id="invalid-utf-8"),
    pytest.param(b'{"action":"approval.given","data":{"what":NaN}}', "json_malformed", id="nan"),
    pytest.param(b'{"action":"approval.given","data":{"what":-Infinity}}', "json_malformed", id="infinity"),
    pytest.param(b'{"action":"approval.given","action":"approval.given"}', "json_malformed", id="duplicate-key"),
    pytest.param(b'{"action":"approval.given","data":{"a":1,"\\u0061":2}}', "json_malformed", id="duplicate-escaped"),
    pytest.param(b'{"action":"\\ud800"}', "json_malformed", id="lone-surrogate"),
    pytest.param(b'{"action":"approval.given"} {}', "json_malformed", id="two-values"),
    pytest.param(b'{"action":"approval.given"', "json_malformed", id="cut-off"),
    pytest.param(b"[]", "json_malformed", id="array"),
    pytest.param(b"null", "json_malformed", id="null"),
    pytest.param(b'"{\\"action\\":\\"approval.given\\"}"', "json_malformed", id="json-in-a-string"),
    pytest.param(b"\xef\xbb\xbf{}", "json_malformed", id="byte-order-mark"),
]


@pytest.mark.parametrize("path", ["/v1/entries", "/v1/payments"])
@pytest.mark.parametrize(("body", "code"), MALFORMED)
def test_what_is_not_one_json_object_is_refused(web: WebPart, path: str, body: bytes, code: str) -> None:
    answer = web.post(path, data=body, content_type=JSON, headers={"Idempotency-Key": "k"})
    read_problem(answer, 400, code)


@pytest.mark.parametrize("path", ["/v1/entries", "/v1/payments"])
def test_a_body_nested_1000_deep_is_refused(web: WebPart, path: str) -> None:
    answer = web.post(path, data=NESTED, content_type=JSON, headers={"Idempotency-Key": "k"})
    problem = read_problem(answer, 400, "json_too_deep" if b"deeper" in answer.data else "json_malformed")
    assert problem["retryable"] is False


@pytest.mark.parametrize("number", ["1e400", "0.30000000000000004", "1.0", "9007199254740993"])
def test_a_number_that_a_double_cannot_hold_is_refused_in_data(web: WebPart, number: str) -> None:
    body = f'{{"action":"document.recorded","data":{{"kind":"x","sha256":"{"0" * 64}","size_bytes":{number}}}}}'
    answer = web.post("/v1/entries", data=body.encode(), content_type=JSON)
    assert answer.status_code in {400, 422}
    read_problem(answer, answer.status_code, answer.get_json()["code"])
    assert number.encode() not in answer.data


@pytest.mark.parametrize("path", ["/v1/entries", "/v1/payments", "/v1/entries:batch"])
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/json-seq"])
def test_another_content_type_is_refused(web: WebPart, path: str, kind: str) -> None:
    answer = web.post(path, data=b"{}", content_type=kind, headers={"Idempotency-Key": "k"})
    read_problem(answer, 415, "content_type")


@pytest.mark.parametrize("path", ["/v1/entries", "/v1/payments", "/v1/entries:batch"])
def test_a_body_over_1_mib_is_refused(web: WebPart, path: str) -> None:
    kind = "application/x-ndjson" if path.endswith("batch") else JSON
    answer = web.post(path, data=b" " * (MIB + 1), content_type=kind, headers={"Idempotency-Key": "k"})
    read_problem(answer, 413, "body_too_large")


def test_an_entry_over_16_kib_is_refused(web: WebPart) -> None:
    body = {**APPROVAL, "ref": {"contract": "x" * 128}, "data": {**APPROVAL["data"], "what": "a" * 20_000}}
    read_problem(web.post("/v1/entries", json=body), 422, "data_invalid")


BAD_ENTRIES = [
    pytest.param({"action": "no.such"}, "action_unknown", "/action", id="unknown-action"),
    pytest.param({"action": "decision.recorded"}, "action_internal", "/action", id="internal-action"),
    pytest.param({"action": "key.added", "data": {"vkey": "x"}}, "action_internal", "/action", id="forged-key"),
    pytest.param({**APPROVAL, "extra": 1}, "request_invalid", "/extra", id="extra-field"),
    pytest.param({**APPROVAL, "actor": "system:assay"}, "request_invalid", "/actor", id="actor-of-its-own"),
    pytest.param({**APPROVAL, "id": "ent_1"}, "request_invalid", "/id", id="id-of-its-own"),
    pytest.param({**APPROVAL, "time": 0}, "request_invalid", "/time", id="time-of-its-own"),
    pytest.param({**APPROVAL, "sealed": {"name": "x"}}, "request_invalid", "/sealed", id="commitment-of-its-own"),
    pytest.param({"action": 7}, "request_invalid", "/action", id="action-is-a-number"),
    pytest.param({}, "request_invalid", "/action", id="no-action"),
    pytest.param({**APPROVAL, "subject": "Ada Example"}, "subject_invalid", "/subject", id="subject-is-a-name"),
    pytest.param({**APPROVAL, "ref": {"Kind": "x"}}, "ref_invalid", "/ref", id="reference-kind"),
    pytest.param({**APPROVAL, "ref": {"kind": "a b"}}, "ref_invalid", "/ref", id="reference-with-space"),
    pytest.param({**APPROVAL, "ref": {"kind": "e\u0301"}}, "ref_invalid", "/ref", id="reference-not-ascii"),
    pytest.param(
        {"action": "customer.registered", "data": {"country": "SE", "name": "Ada"}},
        "data_invalid",
        "/data",
        id="personal-field-inside-data",
    ),
    pytest.param(
        {"action": "approval.given", "data": {"what": "x", "verdict": "maybe"}},
        "data_invalid",
        "/data/verdict",
        id="enum",
    ),
]


def count_appended(web: WebPart) -> int:
    """Return how many entries are there, published or not."""
    with web.installation.engine.connect() as connection:
        counted: int = connection.exec_driver_sql("SELECT count(*) FROM entry WHERE tenant = 'acme'").scalar_one()
        return counted


@pytest.mark.parametrize(("body", "code", "pointer"), BAD_ENTRIES)
def test_an_entry_that_the_registry_does_not_allow_is_refused_at_its_field(
    web: WebPart, body: dict[str, object], code: str, pointer: str
) -> None:
    before = count_appended(web)
    problem = read_problem(web.post("/v1/entries", json=body), 422, code)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert count_appended(web) == before


@pytest.mark.parametrize(
    "body", [{"action": "no.such-SECRETVALUE"}, {**APPROVAL, "data": {"what": "\u0000SECRETVALUE"}}]
)
def test_a_refusal_never_repeats_a_value(web: WebPart, body: dict[str, object]) -> None:
    answer = web.post("/v1/entries", json=body)
    assert answer.status_code == 422
    assert b"SECRETVALUE" not in answer.data


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "BREW", "PROPFIND"])
def test_a_method_that_an_endpoint_does_not_have_is_405_with_those_it_has(web: WebPart, method: str) -> None:
    answer = web.call(method, "/v1/entries")
    read_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


def test_head_answers_as_get_without_a_body(web: WebPart) -> None:
    web.append()
    for path in ("/acme/checkpoint", "/acme/tile/0/000.p/1", "/v1/entries", "/livez"):
        whole, head = web.get(path), web.call("HEAD", path)
        assert (head.status_code, head.data) == (200, b"")
        assert head.headers["Content-Type"] == whole.headers["Content-Type"]
        check_headers(head)


def test_options_says_what_there_is_and_does_nothing(web: WebPart) -> None:
    answer = web.call("OPTIONS", "/v1/payments")
    assert answer.status_code == 200
    assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
    check_headers(answer)


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/nothing", "/v1/entries/", "/acme", "/..%2f..%2fetc/passwd", "/\u00e9"]
)
def test_an_unknown_path_is_a_problem_too(web: WebPart, path: str) -> None:
    read_problem(web.get(path), 404, "not_found")


NUL = ["/v1/entries?action=%00", "/v1/entries?ref=%00", "/v1/entries?subject=sub_%00", "/%00/checkpoint"]
NUL += ["/v1/payments/%00", "/%00/tile/0/000", "/v1/proofs/inclusion?leaf_hash=%00", "/a%00/keys"]


@pytest.mark.parametrize("path", NUL)
def test_a_nul_in_an_address_never_reaches_the_database(web: WebPart, path: str) -> None:
    read_problem(web.get(path), 422, "request_invalid")


@pytest.mark.parametrize("name", ["X-Request-Id", "Prefer", "Accept", "If-None-Match", "Idempotency-Key"])
@pytest.mark.parametrize("value", ["", "\x7f", "\u00ff" * 40, "a" * 8000, '"', ",;=", "wait=-1", "wait=99999"])
def test_strange_header_values_break_nothing(web: WebPart, name: str, value: str) -> None:
    answer = web.post("/v1/entries", json=APPROVAL, headers={name: value})
    assert answer.status_code in {201, 202, 400}
    check_headers(answer)


def test_a_request_id_of_ones_own_is_repeated_if_it_is_a_plain_one(web: WebPart) -> None:
    assert web.get("/livez", headers={"X-Request-Id": "mine-0001"}).headers["X-Request-Id"] == "mine-0001"
    for strange in ("short", "a" * 65, "with space", "4242-4242-4242-4242", "<script>aaa"):
        assert web.get("/livez", headers={"X-Request-Id": strange}).headers["X-Request-Id"].startswith("req_")
