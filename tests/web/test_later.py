"""A request that waits holds no thread, and is answered as one that does (ADR 17)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.test import EnvironBuilder

from app.errors import Unavailable
from app.web import server
from app.web.later import LATER
from tests.parts.assay import Assay, wait_until
from tests.parts.web import APPROVAL, WAIT

PATIENCE_S = 20.0
OF_ITS_OWN = {"x-request-id", "location", "assay-entry", "assay-index", "content-length"}


class Exchange:
    """The server's side of one request, in the place of granian's."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.thread: threading.Thread | None = None

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.thread = threading.current_thread()
        self.answers.append((status, {name.lower(): value for name, value in headers}, body))
        self.answered.set()

    def response_iter(self, status: int, headers: list[tuple[str, str]], body: Any) -> None:
        parts = []
        while True:
            try:
                parts.append(body.__next__())
            except StopIteration:
                break
        body.close()
        self.response_bytes(status, headers, b"".join(parts))


def begin(web, body: Any = APPROVAL, *, path: str = "/v1/entries", **headers: str) -> Exchange:
    """Send one request through the wrapper that granian calls, and return at once."""
    sent = {"Authorization": f"Bearer {web.token}", **headers}
    environ = EnvironBuilder(path=path, method="POST", json=body, headers=sent).get_environ()
    exchange = Exchange()
    server.wrap(web.app)(exchange, environ)
    return exchange


def finish(exchange: Exchange) -> tuple[int, dict[str, str], bytes]:
    assert exchange.answered.wait(PATIENCE_S)
    assert len(exchange.answers) == 1
    return exchange.answers[0]


@pytest.mark.parametrize("prefer", [WAIT, {}], ids=["receipt", "durable"])
@pytest.mark.parametrize("accept", [{}, {"Accept": "application/json"}], ids=["text", "json"])
def test_an_answer_that_comes_later_has_the_headers_of_one_that_was_waited_for(web, prefer, accept) -> None:
    status, headers, body = finish(exchange := begin(web, **prefer, **accept))
    waited = web.post("/v1/entries", json=APPROVAL, headers=prefer | accept)
    assert status == waited.status_code
    theirs = {name.lower(): value for name, value in waited.headers.items()}
    assert {n: v for n, v in headers.items() if n not in OF_ITS_OWN} == {
        n: v for n, v in theirs.items() if n not in OF_ITS_OWN
    }
    assert headers.keys() == theirs.keys()
    assert int(headers["content-length"]) == len(body)
    assert exchange.thread is not threading.current_thread()


def test_the_request_returns_before_the_entry_is_durable_and_is_answered_after(web, monkeypatch) -> None:
    gate = threading.Event()
    appending = web.services.group._store.appending

    def held():
        assert gate.wait(PATIENCE_S)
        return appending()

    monkeypatch.setattr(web.services.group._store, "appending", held)
    exchange = begin(web)
    assert not exchange.answered.wait(0.05)
    gate.set()
    assert finish(exchange)[0] == 202


def test_a_wait_that_is_too_short_is_answered_with_what_is_durable(web, monkeypatch) -> None:
    monkeypatch.setattr(web.services.watch, "_answer_tenant", lambda _exposed: None)
    status, headers, _ = finish(begin(web, Prefer="wait=1"))
    assert status == 202
    assert "location" in headers


@pytest.mark.parametrize("prefer", [WAIT, {}], ids=["receipt", "durable"])
def test_what_goes_wrong_later_is_a_problem_like_any_other(web, monkeypatch, prefer) -> None:
    def away():
        raise Unavailable("the database is away", code="store_unavailable")

    monkeypatch.setattr(web.services.group._store, "appending", away)
    status, headers, body = finish(begin(web, **{**prefer, "X-Request-Id": "request-17"}))
    waited = web.post("/v1/entries", json=APPROVAL, headers={**prefer, "X-Request-Id": "request-17"})
    assert (status, body) == (503, waited.data)
    assert headers["retry-after"] == waited.headers["Retry-After"]


def test_a_full_queue_is_a_problem_at_once(web, monkeypatch) -> None:
    monkeypatch.setattr("app.ledger.wait.WAITERS_LIMIT", 0)
    exchange = begin(web, **WAIT)
    status, _, body = finish(exchange)
    assert status == 503
    assert b'"overloaded"' in body
    assert exchange.thread is threading.current_thread()


def test_another_request_under_one_key_is_refused_later_too(web) -> None:
    assert finish(begin(web, **WAIT, **{"Idempotency-Key": "k-17"}))[0] == 201
    again = finish(begin(web, **WAIT, **{"Idempotency-Key": "k-17"}))
    assert again[0] == 201
    assert again[1]["idempotency-replayed"] == "true"
    other = {**APPROVAL, "data": {**APPROVAL["data"], "what": "something else"}}
    status, headers, body = finish(begin(web, other, **WAIT, **{"Idempotency-Key": "k-17"}))
    assert (status, headers["content-type"]) == (422, "application/problem+json")
    assert b'"idempotency_mismatch"' in body


def test_a_bug_while_answering_is_a_bare_500_and_the_next_caller_is_answered(web, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(web.services.prover, "receipt", lambda *_: 1 / 0)
        status, _, body = finish(begin(web, **WAIT))
    assert status == 500
    assert b"ZeroDivision" not in body
    assert finish(begin(web, **WAIT))[0] == 201


def test_an_answer_in_parts_is_sent_in_parts() -> None:
    closed = []

    class Parts:
        def __iter__(self):
            return iter([b"one ", b"two"])

        def close(self) -> None:
            closed.append(True)

    def application(environ, start_response):
        assert LATER in environ
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Parts()

    exchange = Exchange()
    server.wrap(application)(exchange, {"REQUEST_METHOD": "GET"})
    assert exchange.answers == [(200, {"content-type": "text/plain"}, b"one two")]
    assert closed == [True]


def test_without_the_seam_the_server_is_left_as_it_is(monkeypatch, caplog) -> None:
    monkeypatch.setattr(server, "WRAPPER", "_no_such_name")
    server.answer_later_under_granian()
    assert "cannot answer later" in caplog.text
    assert not hasattr(server.mp, "_no_such_name")


def is_alive(assay: Assay) -> bool:
    try:
        return requests.get(f"{assay.url}/livez", timeout=2).status_code == 200
    except requests.RequestException:
        return False


@pytest.mark.slow
def test_under_granian_one_thread_serves_many_that_wait(tmp_path: Path) -> None:
    """Nobody publishes: with a thread for each, the first would keep the others from being heard at all."""
    assay = Assay(tmp_path, ASSAY_THREADS="1")
    assay.init()
    token = assay.issue_token("entries:write", "entries:read")
    process = assay.start("serve")
    try:
        wait_until(lambda: is_alive(assay), what="a first answer")
        with ThreadPoolExecutor(16) as callers:
            waits = [
                callers.submit(assay.request, "POST", "/v1/entries", token, APPROVAL, Prefer="wait=3")
                for _ in range(16)
            ]
            assert is_alive(assay)
            assert not any(wait.done() for wait in waits)
            assert [wait.result(PATIENCE_S).status_code for wait in waits] == [202] * 16
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
