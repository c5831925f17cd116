"""The outermost layer: a request id for every request, and the same headers on every answer.

Plain WSGI around Flask, because it runs for each request: these few headers cost less here than in a response hook.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any
from uuid import uuid4
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from app.errors import Rejected
from app.ledger.card import refuse_card_numbers

REQUEST_ID = "assay.request_id"
"""Where the WSGI environment holds the id of the request."""
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_ALWAYS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Strict-Transport-Security", "max-age=31536000"),
]
_NOT_CACHED = ("Cache-Control", "no-store")
_NOTHING_LOADS = [*_ALWAYS, ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")]
_DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_DOCS_LOAD_OWN = [*_ALWAYS, ("Content-Security-Policy", _DOCS_POLICY)]


class Edge:
    """Wraps a WSGI application."""

    def __init__(self, application: WSGIApplication) -> None:
        """Ids are unique by a random part of the process and a count."""
        self._application = application
        self._process = f"req_{uuid4().hex[:20]}"
        self._numbers = itertools.count()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        given = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = given if given and _may_repeat(given) else f"{self._process}{next(self._numbers):012x}"
        environ[REQUEST_ID] = request_id
        always = _DOCS_LOAD_OWN if environ.get("PATH_INFO", "").startswith("/docs") else _NOTHING_LOADS

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            whole = [*headers, *always, ("X-Request-Id", request_id)]
            if "Cache-Control" not in dict(headers):
                whole.append(_NOT_CACHED)
            return start_response(status, whole, *rest)

        return self._application(environ, start)


def _may_repeat(given_id: str) -> bool:
    """Say whether a caller's own request id may stand in answers and logs."""
    if not _GIVEN_ID.fullmatch(given_id):
        return False
    try:
        refuse_card_numbers(given_id)
    except Rejected:
        return False
    return True
