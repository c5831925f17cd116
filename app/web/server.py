"""The seam to granian: its requests may be answered after the application has returned (ADR 17).

granian answers a WSGI request through an object that it drops when the application returns. Whoever keeps it may
answer later, from any thread. `wrap` stands in for granian's own wrapper of the application and hands that object on,
as `app.web.later` wants it. tests/web/test_later.py fails if another version of granian does this in another way.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol
from wsgiref.types import WSGIApplication

from granian.server import mp
from granian.wsgi import ResponseIterWrap

from app.web.later import LATER, PENDING

log = logging.getLogger("assay.web")

WRAPPER: Final = "_wsgi_call_wrap"
"""The name in `granian.server.mp` under which a worker finds the wrapper."""
_ENVIRONMENT: Final[dict[str, Any]] = {
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SCRIPT_NAME": "",
    "SERVER_SOFTWARE": "granian",
    "wsgi.errors": sys.stderr,
    "wsgi.input_terminated": True,  # Werkzeug's: the server ends a body of unknown length
    "wsgi.multiprocess": True,
    "wsgi.multithread": True,
    "wsgi.run_once": False,
    "wsgi.version": (1, 0),
}


class Exchange(Protocol):
    """granian's side of one request."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer with a whole body."""
        ...

    def response_iter(self, status: int, headers: list[tuple[str, str]], body: ResponseIterWrap) -> None:
        """Answer with the parts of a body as they come."""
        ...


class _Answer:
    """`start_response` of one request, and its `Later`."""

    __slots__ = ("_exchange", "_headers", "_status")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._headers: list[tuple[str, str]] = []
        self._status = 0

    def __call__(self, status: str, headers: list[tuple[str, str]], _error: Any = None) -> Callable[[bytes], object]:
        self._status = int(status[:3])
        self._headers = headers
        return _write_nothing

    def send(self, body: Iterable[bytes]) -> None:
        """Send it; of a caller that has gone away nothing is heard."""
        if isinstance(body, list | tuple):
            self._exchange.response_bytes(self._status, self._headers, b"".join(body))
        else:
            self._exchange.response_iter(self._status, self._headers, ResponseIterWrap(body))  # type: ignore[no-untyped-call]


def _write_nothing(_data: bytes) -> None:
    raise NotImplementedError("the body is what the application returns or sends later")


def wrap(application: WSGIApplication, _scope: Any = None, _log_format: Any = None) -> Callable[..., None]:
    """Return what granian calls for each request, in place of its own wrapper; no path prefix, no access log."""

    def run(exchange: Exchange, scope: dict[str, Any]) -> None:
        answer = _Answer(exchange)
        body = application(_ENVIRONMENT | scope | {LATER: answer}, answer)
        if body is not PENDING:
            answer.send(body)

    return run


def answer_later_under_granian() -> None:
    """Let the workers of this process answer later; without the seam they go on with a waiting thread each."""
    if hasattr(mp, WRAPPER):
        setattr(mp, WRAPPER, wrap)
    else:
        log.warning("this version of granian cannot answer later: a request that waits holds a thread")
