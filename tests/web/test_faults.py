"""Faults: database gone and back, disk full, queues full, a clock that steps back. Never a 500, nothing lost."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from werkzeug.test import TestResponse

from app.ledger import group, wait
from app.web.app import create_app
from tests.parts.assay import wait_until
from tests.parts.postgres import PostgresServer, running_postgres
from tests.parts.web import APPROVAL, WAIT, WebPart, open_web, publishing
from tests.web.problem import read_problem

PAYMENT_ID = "pi_" + "0" * 32
READS = ["/v1/entries", "/v1/entries/ent_01a20994cc90715490c6ae3748cc1e29", f"/v1/payments/{PAYMENT_ID}"]
READS += ["/acme/checkpoint", "/acme/tile/0/000.p/1", "/acme/keys", "/v1/proofs/inclusion?index=0"]


def _is_busy(answer: TestResponse, code: str) -> None:
    problem = read_problem(answer, 503, code)
    assert problem["retryable"] is True
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.fixture(scope="module")
def own_postgres(postgres_bin: Path) -> Iterator[PostgresServer]:
    """Return a server that these tests may stop."""
    with running_postgres(bin_dir=postgres_bin) as server:
        yield server


@pytest.mark.slow
def test_while_the_database_is_away_all_is_503_and_then_all_works(own_postgres: PostgresServer, tmp_path: Path) -> None:
    url = own_postgres.create_database()
    with open_web(tmp_path, database_url=url) as web:
        first = web.append(key="before")
        own_postgres.stop()
        try:
            for path in READS:
                _is_busy(web.get(path), "store_unavailable")
            _is_busy(web.append(key="during"), "store_unavailable")
            _is_busy(web.post("/v1/entries", json=APPROVAL), "store_unavailable")
            _is_busy(web.call("DELETE", "/v1/subjects/sub_ada"), "store_unavailable")
            assert web.get("/livez").status_code == 200
            wait_until(lambda: web.get("/readyz").status_code == 503, what="not being ready")
        finally:
            own_postgres.start()
        wait_until(lambda: web.append(key="during").status_code == 201, what="an append")
        assert web.append(key="before").json["index"] == first.json["index"]
        assert web.append(key="during").headers["Idempotency-Replayed"] == "true"
        wait_until(lambda: web.get("/readyz").status_code == 200, what="being ready")


@pytest.mark.slow
def test_a_database_that_goes_while_a_write_waits_does_not_hide_what_it_wrote(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    url = own_postgres.create_database()
    with open_web(tmp_path, database_url=url) as web:
        web.append()
        answers: list[TestResponse] = []
        clients = [threading.Thread(target=lambda n=n: answers.append(web.append(key=f"cut-{n}"))) for n in range(16)]
        for client in clients:
            client.start()
        own_postgres.stop()
        own_postgres.start()
        for client in clients:
            client.join()
        assert {answer.status_code for answer in answers} <= {201, 202, 503}
        for number in range(16):
            wait_until(lambda key=f"cut-{number}": web.append(key=key).status_code == 201, what="an append")
        indexes = [web.append(key=f"cut-{number}").json["index"] for number in range(16)]
        assert len(set(indexes)) == 16
        assert len(web.list_entries("&action=approval.given")) == 17


@pytest.mark.slow
def test_a_nul_is_refused_over_postgresql_too(own_postgres: PostgresServer, tmp_path: Path) -> None:
    with open_web(tmp_path, database_url=own_postgres.create_database()) as web:
        for path in ("/v1/entries?ref=%00", "/%00/checkpoint", "/v1/payments/%00", "/v1/entries?action=a%00"):
            read_problem(web.get(path), 422, "request_invalid")
        for body in ({**APPROVAL, "subject": "sub_\0"}, {**APPROVAL, "ref": {"a": "\0"}}, {"action": "\0"}):
            assert web.post("/v1/entries", json=body).status_code == 422


def test_a_full_disk_is_503_and_reads_go_on(tmp_path: Path) -> None:
    with open_web(tmp_path) as web:
        first = web.append(key="before")
        with _full_disk(web):
            body = {**APPROVAL, "data": {"what": "a" * 128, "verdict": "approved"}, "ref": {"a": "b" * 128}}
            answers = [web.post("/v1/entries", json=body) for _ in range(40)]
            full = [answer for answer in answers if answer.status_code != 202]
            assert full
            for answer in full:
                _is_busy(answer, "store_unavailable")
            assert web.get(f"/v1/entries/{first.json['id']}").status_code == 200
        assert web.append(key="after").status_code == 201
        assert web.append(key="before").json["index"] == first.json["index"]


class _full_disk:  # noqa: N801 -- used as a context manager
    """No page more for the database; SQLite counts pages for each connection."""

    def __init__(self, web: WebPart) -> None:
        self._engine: sa.Engine = web.installation.engine

    def __enter__(self) -> None:
        self._engine.dispose()
        event.listen(self._engine, "connect", self._limit)

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "connect", self._limit)
        self._engine.dispose()

    @staticmethod
    def _limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1").fetchone()  # at least what there is


def test_a_locked_database_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.adapters.sql.engine.SQLITE_BUSY_TIMEOUT_MS", 100)
    with open_web(tmp_path) as web:
        web.append()
        other = sqlite3.connect(web.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            _is_busy(web.post("/v1/entries", json=APPROVAL), "store_unavailable")
            assert web.get("/v1/entries").status_code == 200
            read_problem(web.get(f"/v1/payments/pi_{0:032x}"), 404, "payment_unknown")
        finally:
            other.close()
        assert web.append().status_code == 201


def test_a_full_queue_of_writes_is_503(web: WebPart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "QUEUE_LIMIT", 0)
    _is_busy(web.post("/v1/entries", json=APPROVAL), "overloaded")
    batch = web.post(
        "/v1/entries:batch",
        data=b'{"action":"approval.given","data":{"what":"x","verdict":"approved"}}',
        content_type="application/x-ndjson",
    )
    _is_busy(batch, "overloaded")
    monkeypatch.undo()
    assert web.append().status_code == 201


def test_too_many_who_wait_is_503_and_a_write_that_does_not_wait_is_taken(
    web: WebPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "WAITERS_LIMIT", 0)
    _is_busy(web.post("/v1/entries", json=APPROVAL, headers=WAIT), "overloaded")
    assert web.post("/v1/entries", json=APPROVAL).status_code == 202


def test_a_wait_that_is_too_short_is_202_with_the_place_of_the_receipt(tmp_path: Path) -> None:
    with open_web(tmp_path, published=False) as web:
        answer = web.append(headers={"Prefer": "wait=1"}, key="patient")
        assert answer.status_code == 202
        assert answer.json["status"] == "appended"
        read_problem(web.get(answer.json["receipt"]), 404, "not_in_the_log_yet")
        read_problem(web.get("/acme/checkpoint"), 404, "not_in_the_log_yet")
        assert web.list_entries() == []
        assert web.get(f"/v1/entries/{answer.json['id']}").json["index"] is None
        with publishing(web.installation):
            again = web.append(key="patient")
        assert (again.status_code, again.json["id"]) == (201, answer.json["id"])
        assert web.get(answer.json["receipt"]).text == again.json["receipt"]


def test_a_clock_that_steps_back_breaks_nothing(tmp_path: Path) -> None:
    hour_ms = 3_600_000
    with open_web(tmp_path) as web:
        before = web.append(key="before-the-step")
        behind = replace(
            web.services,
            now_ms=lambda: web.services.now_ms() - hour_ms,
            new_entry_id=lambda: UUID(int=web.services.new_entry_id().int - (hour_ms << 80)),
        )
        client = create_app(behind).test_client()
        headers = {"Authorization": f"Bearer {web.token}", **WAIT, "Accept": "application/json"}
        after = client.post("/v1/entries", json=APPROVAL, headers=headers)
        assert after.status_code == 201
        assert after.json["index"] == before.json["index"] + 1
        assert web.append(key="before-the-step").json["index"] == before.json["index"]
        entries = web.list_entries()
        assert [entry["index"] for entry in entries] == list(range(len(entries)))
        assert entries[-1]["entry"]["time"] < entries[-2]["entry"]["time"]
