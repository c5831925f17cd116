"""Requests and responses of the API: strict on the way in, lean on the way out."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Request, Response
from werkzeug.datastructures import Headers, MultiDict

from app.errors import Malformed, TooLarge
from app.ledger.canonical import parse_json

BODY_LIMIT_BYTES = 1024 * 1024
JSON: Final = "application/json"

_NOTHING = object()
_WITHOUT_LENGTH = {204, 304}


class StrictRequest(Request):
    """A request whose JSON is parsed strictly: no duplicate keys, no NaN, no deep nesting, no floats."""

    max_content_length = BODY_LIMIT_BYTES + 1
    """One byte more than we take: a longer body in chunks is cut here without a word, and seen to be too long."""
    _parsed: Any = _NOTHING

    @property
    def args(self) -> MultiDict[str, str]:
        """Return the query. Raises Malformed if a parameter is repeated: one value would be taken, and which?"""
        args = super().args
        for name, values in args.lists():
            if len(values) > 1:
                raise Malformed("this parameter is given more than once", code="parameter_repeated", pointer=f"/{name}")
        return args

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Return the body whatever the flags say. Raises TooLarge."""
        del cache, as_text, parse_form_data
        data = super().get_data()
        if len(data) >= self.max_content_length:
            raise TooLarge(f"the body has more than {self.max_content_length - 1:,} bytes", code="body_too_large")
        return data

    def read_file(self, limit_bytes: int) -> bytes:
        """Return the body of a request that carries a file, larger than a body of JSON may be. Raises TooLarge."""
        self.max_content_length = limit_bytes + 1
        data: bytes = self.get_data()
        return data

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: FBT001, FBT002
        """Return the body as JSON whatever the flags say. Raises Malformed or TooLarge."""
        del force, silent, cache
        if self._parsed is _NOTHING:
            if self.environ.get("CONTENT_TYPE") != JSON and self.mimetype != JSON:
                raise Malformed("send Content-Type: application/json", code="content_type")
            parsed = parse_json(self.get_data(), limit_bytes=BODY_LIMIT_BYTES)
            if not isinstance(parsed, dict):  # the framework would parse a string once more, and not strictly
                raise Malformed("the body is a JSON object", code="json_malformed")
            self._parsed = parsed
        return self._parsed


class Answer(Response):
    """A response whose headers are complete as the view made them: no URL of ours needs rewriting."""

    def get_app_iter(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Return the body; if it is whole, as the list it is, which the server sends in one piece."""
        if type(self.response) is list and self._may_have_body(environ) and not self._on_close:
            return self.response
        return super().get_app_iter(environ)

    def _may_have_body(self, environ: WSGIEnvironment) -> bool:
        return environ["REQUEST_METHOD"] != "HEAD" and self.status_code not in _WITHOUT_LENGTH

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """Return the headers; a body of bytes has set the length already."""
        if self.status_code in _WITHOUT_LENGTH or "Content-Length" not in self.headers:
            return super().get_wsgi_headers(environ)
        return self.headers


class Whole(Answer):
    """An answer that is whole when it is made: nobody looks at its headers again before they are sent."""

    def __init__(
        self, body: bytes, status: HTTPStatus, headers: Iterable[tuple[str, str]] = (), *, content_type: str = JSON
    ) -> None:
        """`headers` are ours: what a caller has sent is in none of them."""
        self._status_line = f"{status.value} {status.phrase}"
        self._head = [("Content-Type", content_type), ("Content-Length", str(len(body))), *headers]
        self._body = body

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send it."""
        start_response(self._status_line, self._head)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self._body]
