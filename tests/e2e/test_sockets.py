"""What only a real server and real sockets show: bodies that are not read whole, chunks, hang-ups, restarts, logs.

A client that sends its head byte by byte for ever is the server's affair, and not tested here.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.parts.assay import Assay, wait_until
from tests.parts.web import PAYMENT

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
SCOPES = ("entries:write", "entries:read", "payments:write", "payments:read", "subjects:erase")
APPROVAL = {"action": "approval.given", "data": {"what": "over a socket", "verdict": "approved"}}
PAN = "4242424242424242"
SECURITY_HEADERS = {"x-content-type-options", "referrer-policy", "strict-transport-security", "content-security-policy"}
ANSWER_LIMIT_S = 20.0
HEAD_LIMIT_BYTES = 64 * 1024


class Served:
    """A running service, a token, and sockets to it."""

    def __init__(self, assay: Assay, token: str) -> None:
        self.assay = assay
        self.token = token

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.assay.port), timeout=ANSWER_LIMIT_S)

    def head(self, method: str, path: str, *lines: str) -> bytes:
        fixed = ("Host: assay.test", f"Authorization: Bearer {self.token}", "Content-Type: application/json")
        return "\r\n".join((f"{method} {path} HTTP/1.1", *fixed, *lines, "", "")).encode()

    def send(self, data: bytes, *, half: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Send raw bytes and return status, headers and body of the first answer."""
        with self.connect() as connection:
            connection.sendall(data)
            if half:
                connection.shutdown(socket.SHUT_WR)
            return read_answer(connection)

    def post(self, body: Any, path: str = "/v1/entries", **headers: str) -> requests.Response:
        return self.assay.request("POST", path, self.token, body, **headers)

    def is_well(self) -> bool:
        return self.post(APPROVAL, Prefer="wait=20").status_code == 201


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read one answer; its body has a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        assert more, f"the connection ended after {data!r}"
        data += more
        assert len(data) < HEAD_LIMIT_BYTES
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        more = connection.recv(65536)
        if not more:
            break
        body += more
    return int(first.split()[1]), headers, body


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    assay = Assay(tmp_path_factory.mktemp("served"))
    assay.init()
    token = assay.issue_token(*SCOPES)
    with assay.up():
        yield Served(assay, token)


def _check_problem(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> None:
    got, headers, body = answer
    assert got == status, body
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["code"] == code
    assert set(headers) >= SECURITY_HEADERS


def test_10_mib_are_refused_before_they_are_read(served: Served) -> None:
    """Only the head and a first byte are sent: an answer means that nobody waited for the rest."""
    head = served.head("POST", "/v1/entries", f"Content-Length: {10 * MIB}")
    _check_problem(served.send(head + b"{"), 413, "body_too_large")
    assert served.is_well()


def test_10_mib_in_chunks_are_refused_after_the_first(served: Served) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with served.connect() as connection:
        connection.sendall(served.head("POST", "/v1/entries", "Transfer-Encoding: chunked"))
        sent = _send_until_refused(connection, chunk, times=10 * MIB // 65536)
        _check_problem(read_answer(connection), 413, "body_too_large")
    assert sent <= 10 * MIB
    assert served.is_well()


def test_a_batch_in_chunks_over_1_mib_is_refused_and_not_cut(served: Served) -> None:
    before = len(_list_entries(served))
    line = json.dumps({**APPROVAL, "ref": {"note": "x" * 128}}).encode() + b"\n"
    body = (line * 6).ljust(MIB - 7) + b"\n" + line
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = served.head("POST", "/v1/entries:batch", "Transfer-Encoding: chunked", "Connection: close")
    head = head.replace(b"application/json", b"application/x-ndjson")
    _check_problem(served.send(head + chunks), 413, "body_too_large")
    assert len(_list_entries(served)) == before


def _send_until_refused(connection: socket.socket, chunk: bytes, *, times: int) -> int:
    for number in range(times):
        try:
            connection.sendall(chunk)
        except OSError:
            return number * len(chunk)
    connection.sendall(b"0\r\n\r\n")
    return times * len(chunk)


def test_a_body_in_chunks_is_a_body(served: Served) -> None:
    body = json.dumps(APPROVAL).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:10], body[10:])) + b"0\r\n\r\n"
    head = served.head("POST", "/v1/entries", "Transfer-Encoding: chunked", "Prefer: wait=20", "Connection: close")
    status, headers, _ = served.send(head + chunks)
    assert status == 201
    assert set(headers) >= SECURITY_HEADERS


@pytest.mark.parametrize(
    "lines",
    [
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: -1",),
        ("Content-Length: x",),
        ("Transfer-Encoding: gzip, identity",),
    ],
)
def test_a_body_of_two_lengths_or_none_never_smuggles_a_second_request(served: Served, lines: tuple[str, ...]) -> None:
    smuggled = served.head("POST", "/v1/entries", "Content-Length: 0")
    before = len(_list_entries(served))
    with served.connect() as connection:
        connection.sendall(served.head("POST", "/v1/entries", *lines) + b"0\r\n\r\n" + smuggled)
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while more := connection.recv(65536):
            data += more
    assert b" 500 " not in data
    assert b" 20" not in data[:20]
    assert len(_list_entries(served)) == before
    assert served.is_well()


def _list_entries(served: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.assay.request("GET", "/v1/entries?limit=1000", served.token).json()["entries"]
    return found


@pytest.mark.parametrize("path", ["/livez", "/demo/checkpoint", "/v1/entries"])
def test_head_has_no_body_and_the_connection_goes_on(served: Served, path: str) -> None:
    with served.connect() as connection:
        connection.sendall(served.head("HEAD", path))
        data = connection.recv(65536)
        assert data.startswith(b"HTTP/1.1 200")
        assert data.endswith(b"\r\n\r\n")
        connection.sendall(served.head("GET", "/livez"))
        status, headers, body = read_answer(connection)
    assert (status, json.loads(body)) == (200, {"status": "alive"})
    assert set(headers) >= SECURITY_HEADERS


@pytest.mark.parametrize("method", ["BREW", "TRACE", "PUT", "PATCH"])
def test_an_unknown_method_is_405(served: Served, method: str) -> None:
    _check_problem(served.send(served.head(method, "/v1/entries", "Content-Length: 0")), 405, "method_not_allowed")


def test_304_has_the_security_headers_and_no_body(served: Served) -> None:
    _, headers, _ = served.send(served.head("GET", "/demo/tile/0/000.p/1"))
    asked = served.head("GET", "/demo/tile/0/000.p/1", f"If-None-Match: {headers['etag']}")
    status, again, body = served.send(asked)
    assert (status, body) == (304, b"")
    assert again["etag"] == headers["etag"]
    assert set(again) >= SECURITY_HEADERS


def test_garbage_instead_of_http_harms_nobody(served: Served) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 1000,
        b"GET\r\n\r\n",
        b"A" * 100_000 + b"\r\n",
    ):
        with served.connect() as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
            except OSError:
                continue
            assert not answer.startswith(b"HTTP/1.1 5")
    assert served.is_well()


def test_clients_that_hang_up_while_they_wait_lose_nothing(served: Served) -> None:
    keys = [f"hang-up-{number}" for number in range(20)]
    body = json.dumps(APPROVAL).encode()
    for key in keys:
        lines = (f"Content-Length: {len(body)}", "Prefer: wait=20", f"Idempotency-Key: {key}")
        with served.connect() as connection:
            connection.sendall(served.head("POST", "/v1/entries", *lines) + body)
    assert served.is_well()
    wait_until(lambda: all(_is_replayed(served, key) for key in keys), what="every entry of those who hung up")


def _is_replayed(served: Served, key: str) -> bool:
    answer = served.post(APPROVAL, **{"Idempotency-Key": key, "Prefer": "wait=20"})
    assert answer.status_code == 201
    return answer.headers.get("Idempotency-Replayed") == "true"


def test_a_body_that_never_comes_whole_is_no_entry(served: Served) -> None:
    before = len(_list_entries(served))
    with served.connect() as connection:
        connection.sendall(served.head("POST", "/v1/entries", "Content-Length: 100") + b'{"action":"approval')
    assert served.is_well()
    assert len(_list_entries(served)) == before + 1


def test_a_client_that_is_slow_hinders_nobody(served: Served) -> None:
    with served.connect() as slow:
        slow.sendall(b"POST /v1/entries HTTP/1.1\r\nHost: x\r\n")
        started_s = time.monotonic()
        assert served.is_well()
        assert time.monotonic() - started_s < 5


def test_a_payment_over_the_wire_is_charged_once_for_32_clients(served: Served) -> None:
    start = threading.Barrier(32)

    def pay(_: int) -> requests.Response:
        start.wait()
        return served.post(PAYMENT, "/v1/payments", **{"Idempotency-Key": "over-the-wire", "Prefer": "wait=20"})

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(pay, range(32)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    [payment] = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    charges = requests.get(f"{served.assay.environment['ASSAY_STRIPE_API_BASE']}/_sandbox/charges", timeout=5).json()
    assert {name: len(each) for name, each in charges.items()} == {payment: 1}


def test_what_the_service_prints_holds_no_secret(tmp_path: Path) -> None:
    assay = Assay(tmp_path)
    assay.init()
    token = assay.issue_token(*SCOPES)
    process = assay.start("up")
    assay.wait_until_ready(process)
    key = "a-key-of-a-merchant"
    headers = {"Idempotency-Key": key, "X-Request-Id": PAN}
    statuses = [
        assay.request("POST", "/v1/entries", token, {**APPROVAL, "ref": {"card": PAN}}, **headers).status_code,
        assay.request("POST", "/v1/entries", token, APPROVAL, **headers).status_code,
        assay.request("POST", "/v1/payments", token, PAYMENT, **headers).status_code,
        assay.request("GET", f"/v1/entries?ref={PAN}", token).status_code,
        assay.request("GET", "/v1/entries", token + "x").status_code,
    ]
    process.terminate()
    printed, _ = process.communicate(timeout=40)
    assert statuses == [422, 202, 201, 200, 401]
    assert process.returncode == 0, printed
    for secret in (token, key, PAN, "Ada Example", "sk_test_sandbox"):
        assert secret not in printed
    assert not _list_files_with(tmp_path, PAN)
    assert not _list_files_with(tmp_path, token)


def _list_files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]
