"""Idempotency-Key: the same request is done once, whoever sends it however often; another request is refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from werkzeug.test import TestResponse

from tests.parts.web import APPROVAL, OTHER, WebPart, open_web
from tests.web.problem import read_problem

CLIENTS = 32
REPLAYED = "Idempotency-Replayed"


def test_the_same_key_with_another_body_is_refused(web: WebPart) -> None:
    assert web.append(key="other-body").status_code == 201
    other = {**APPROVAL, "ref": {"contract": "c-2"}}
    read_problem(web.append(other, key="other-body"), 422, "idempotency_mismatch")


def test_the_same_key_with_the_same_body_is_the_same_entry_and_marked(web: WebPart) -> None:
    first, again = web.append(key="same-body"), web.append(key="same-body")
    assert (first.status_code, again.status_code) == (201, 201)
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert (again.json["id"], again.json["index"]) == (first.json["id"], first.json["index"])


def test_the_order_of_the_fields_does_not_make_another_request(web: WebPart) -> None:
    first = web.append(key="field-order")
    body = b'{"data":{"verdict":"approved","what":"a limit"}, "action" : "approval.given"}'
    headers = {"Idempotency-Key": "field-order"}
    again = web.post("/v1/entries", data=body, content_type="application/json", headers=headers)
    assert again.json["id"] == first.json["id"]


def test_quotes_around_a_key_are_the_headers_own(web: WebPart) -> None:
    assert web.append(key='"quoted"').json["id"] == web.append(key="quoted").json["id"]


def test_a_key_is_of_one_tenant(web: WebPart) -> None:
    own = web.append(key="of-one-tenant")
    other = web.append(key="of-one-tenant", token=web.tokens[OTHER])
    assert other.status_code == 201
    assert REPLAYED not in other.headers
    assert other.json["id"] != own.json["id"]


def test_a_key_gives_the_same_index_after_a_restart(tmp_path: Path) -> None:
    with open_web(tmp_path) as web:
        first = web.append(key="before-restart")
        web.append()
    with open_web(tmp_path) as web:
        again = web.append(key="before-restart")
    assert again.headers[REPLAYED] == "true"
    assert (again.json["id"], again.json["index"]) == (first.json["id"], first.json["index"])


def test_32_clients_with_one_key_make_one_entry(web: WebPart) -> None:
    start = threading.Barrier(CLIENTS)

    def append(_: int) -> TestResponse:
        start.wait()
        return web.append({**APPROVAL, "ref": {"contract": "raced"}}, key="raced")

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(append, range(CLIENTS)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({(answer.json["id"], answer.json["index"]) for answer in answers}) == 1
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert len(web.list_entries("&ref=raced")) == 1


def test_a_refused_request_does_not_use_its_key_up(web: WebPart) -> None:
    assert web.append({**APPROVAL, "extra": 1}, key="refused-first").status_code == 422
    accepted = web.append(key="refused-first")
    assert accepted.status_code == 201
    assert REPLAYED not in accepted.headers


def test_a_key_that_is_none_is_refused(web: WebPart) -> None:
    for key in ("", '""', "with space", "a" * 256, "caf\u00e9"):
        answer = web.post("/v1/entries", json=APPROVAL, headers={"Idempotency-Key": key})
        read_problem(answer, 400, "idempotency_key_invalid")


def test_the_key_itself_is_stored_nowhere(web: WebPart) -> None:
    key = "a-key-nobody-should-find"
    web.append(key=key)
    files = [path for path in web.database.parent.rglob("*") if path.is_file()]
    assert not [path for path in files if key.encode() in path.read_bytes()]
