"""A real OPA server for tests, and what stands in its place when it is broken."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.adapters.opa_tools import OPA, find_tool, format_version
from tests.parts import report_missing_part

HOW_TO_GET_IT = f"opa >= {format_version(OPA.version)}: put it on PATH, or run `make tools` (needs Go)"


@pytest.fixture(scope="session")
def opa_program() -> Path:
    """The program `opa`."""
    program = find_tool("opa")
    if program is None:
        report_missing_part(HOW_TO_GET_IT)
    return program


@contextmanager
def answering(*parts: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """Serve these bytes to whoever connects, one part after the other; yield the address for `OpaEngine`."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            for part in parts:
                try:
                    self.request.sendall(part)
                except OSError:
                    return
                time.sleep(pause_s)

    with _serving(Handler) as address:
        yield address


@contextmanager
def _serving(handler: Callable[..., socketserver.BaseRequestHandler]) -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def http_answer(status: str, body: bytes) -> bytes:
    """Return one whole HTTP/1.1 answer."""
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )
