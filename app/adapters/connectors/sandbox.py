"""The sandbox PSP: a server of ours on loopback that speaks Stripe's wire, and breaks on request.

It owns its sockets, because the faults worth testing are theirs: replies that never come, connections dropped
before or after the charge, half a body. Everything is in memory and gone when it stops.
"""

from __future__ import annotations

import json
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from app.adapters.connectors.sandbox_api import Fault, SandboxApi, make_error
from app.adapters.connectors.sandbox_wire import ApiError, Params, Reply, invalid, parse_form
from app.errors import Rejected

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost"})
BODY_BYTES_MAX: Final = 1 << 20
HOLD_S: Final = 60.0
SLOW_S: Final = 2.0
IDLE_TIMEOUT_S: Final = 75
KEY_CHARS_MAX: Final = 255
TEST_KEY: Final = "Bearer sk_test_"


class StripeSandbox:
    """A running sandbox PSP: `with StripeSandbox() as sandbox: … sandbox.url`.

    `hold_s` is how long a withheld reply keeps its connection; `slow_s` how long a slow request takes.
    """

    def __init__(
        self, *, host: str = "127.0.0.1", port: int = 0, hold_s: float = HOLD_S, slow_s: float = SLOW_S
    ) -> None:
        """Bind the port (0: any free one). Raises Rejected unless `host` is loopback."""
        if host not in LOOPBACK:
            raise Rejected("the sandbox PSP listens on 127.0.0.1 only", code="bad_sandbox_host")
        self.api = SandboxApi(now_s=lambda: int(time.time()))
        self.stopping = threading.Event()
        handler = partial(_Handler, self, hold_s=hold_s, slow_s=slow_s)
        self._server = _Server((host, port), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()  # lets every withheld reply go
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self) -> None:
        """Serve in this thread until it is interrupted."""
        try:
            self._server.serve_forever()
        finally:
            self.stopping.set()
            self._server.server_close()


def serve_sandbox(host: str, port: int) -> None:
    """Run the sandbox PSP until the process is stopped. Raises Rejected unless `host` is loopback."""
    StripeSandbox(host=host, port=port).serve_forever()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are what a sandbox for faults is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "assay-sandbox"
    sys_version = ""
    timeout = IDLE_TIMEOUT_S
    wbufsize = -1  # head and body in one packet: apart, Nagle and delayed ACK cost 40 ms

    def __init__(self, sandbox: StripeSandbox, *args: Any, hold_s: float, slow_s: float) -> None:
        self.sandbox = sandbox
        self.hold_s = hold_s
        self.slow_s = slow_s
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer, or break."""
        self._handle()

    def do_POST(self) -> None:
        """Answer, or break."""
        self._handle()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Log nothing: a request may hold whatever a tester typed."""

    def _handle(self) -> None:
        try:
            url = urlsplit(self.path)
            body = self._read_body()
            if url.path.startswith("/_sandbox/"):
                return self._send(self._control(url.path, body))
            self._check_key()
            self._serve(url.path, parse_form(body if self.command == "POST" else url.query))
        except ApiError as error:
            self._send(error.reply)
        except ConnectionError:
            self.close_connection = True

    def _serve(self, path: str, params: Params) -> None:
        api, key = self.sandbox.api, self.headers.get("Idempotency-Key")
        if key is not None and len(key) > KEY_CHARS_MAX:
            raise invalid("the idempotency key is too long")
        fault = api.pick_fault(self.command, params, key)
        if fault is not None and fault.when == "before":
            return self._break(fault, None)
        if fault is not None and fault.effect == "late":
            self._pause()  # on the way: the PSP has not seen it yet
        slow = fault is not None and fault.effect == "slow"
        reply = api.answer(self.command, path, params, key, pause=self._pause if slow else None, failing=fault)
        if fault is not None and fault.when == "after":
            return self._break(fault, reply)
        return self._send(reply)

    def _break(self, fault: Fault, reply: Reply | None) -> None:
        match fault.effect:
            case "hold":
                self.sandbox.stopping.wait(self.hold_s)
                self.close_connection = True
            case "status":
                self._send(make_error(fault.status))
            case "html":
                self._send_bytes(fault.status, b"<html><h1>Bad Gateway</h1></html>", kind="text/html")
            case "garbage":
                self._send_bytes(200, b"<<< not a payment intent >>>")
            case "half_body" if reply is not None:
                whole = reply.encode()
                self._send_bytes(reply.status, whole[: len(whole) // 2], length=len(whole))
                self.close_connection = True
            case _:  # drop
                self.close_connection = True

    def _control(self, path: str, body: str) -> Reply:
        match self.command, path:
            case "GET", "/_sandbox/charges":
                return self.sandbox.api.list_charges()
            case "POST", "/_sandbox/faults":
                return self.sandbox.api.script(_parse_order(body))
            case _:
                raise invalid("the sandbox has /_sandbox/charges and /_sandbox/faults", status=404)

    def _read_body(self) -> str:
        length = self.headers.get("Content-Length", "0")
        if not length.isascii() or not length.isdecimal() or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise invalid("a body needs a Content-Length", status=411)
        if len(length) > len(str(BODY_BYTES_MAX)) or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            raise invalid("the body is too large", status=413)
        try:
            return self.rfile.read(int(length)).decode()
        except UnicodeDecodeError:
            raise invalid("the body is not UTF-8") from None

    def _check_key(self) -> None:
        if not self.headers.get("Authorization", "").startswith(TEST_KEY):
            raise invalid("Invalid API Key provided: the sandbox takes sk_test_ keys", status=401)

    def _pause(self) -> None:
        self.sandbox.stopping.wait(self.slow_s)

    def _send(self, reply: Reply) -> None:
        self._send_bytes(reply.status, reply.encode(), headers=dict(reply.headers))

    def _send_bytes(
        self,
        status: int,
        body: bytes,
        *,
        kind: str = "application/json",
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _parse_order(body: str) -> Params:
    try:
        order = json.loads(body)
    except (ValueError, RecursionError):
        order = None
    if not isinstance(order, dict):
        raise invalid("send a JSON object")
    return order
