"""Answers that come later: a request that waits, for a commit or a publication, holds no thread (ADR 17).

A server that can answer after the application has returned says so in the environment. Then a view's `answer_later`
returns at once, and whoever knows the outcome makes the response and sends it, by a thread of its own. Under any
other server the request's thread waits; views, errors and headers are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, Protocol, TypeVar
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Response, current_app, request

from app.ledger.wait import Done, Waiter
from app.web.wire import Answer

LATER: Final = "assay.later"
"""Where the WSGI environment holds the server's `Later`, if it has one."""
PENDING: Final[list[bytes]] = []
"""What the application returns in place of a body that it sends later."""

Outcome = TypeVar("Outcome")


class Later(Protocol):
    """The server's side of a request that may be answered later."""

    def send(self, body: Iterable[bytes]) -> None:
        """Send what `start_response` was told, and the body; once, by any thread. Never raises."""
        ...


def answer_later(begin: Callable[[Done[Outcome]], None], make: Callable[[Outcome], Response]) -> Response:
    """Return the response that `make` makes of what `begin` leads to, or a promise of it.

    `begin` gets who is to be told the outcome, once; if it raises, nobody is told. `make` may be called after the
    request: it must not need Flask's. What either raises is answered as if a view had raised it.
    """
    if LATER in request.environ:
        return Promise(current_app._get_current_object(), begin, make)  # type: ignore[attr-defined]  # noqa: SLF001
    waiter: Waiter[Outcome] = Waiter()
    begin(waiter)
    return make(waiter.wait())


class Promise(Answer, Generic[Outcome]):
    """The response of a request that is answered later, and `Done` of what it waits for."""

    def __init__(self, app: Flask, begin: Callable[[Done[Outcome]], None], make: Callable[[Outcome], Response]) -> None:
        """Nothing begins before Flask is done with the request."""
        self._app = app
        self._begin = begin
        self._make = make

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Begin."""
        self._environ = environ
        self._start_response = start_response
        try:
            self._begin(self)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the caller is answered
            self.fail(error)
        return PENDING

    def give(self, answer: Outcome) -> None:
        """Send the response."""
        try:
            response = self._make(answer)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the caller is answered
            self.fail(error)
        else:
            self._send(response)

    def fail(self, error: BaseException) -> None:
        """Send the problem, as the application's error handlers describe it."""
        with self._app.request_context(self._environ):
            response = self._app.make_response(self._app.handle_user_exception(error))  # type: ignore[arg-type]
        self._send(response)

    def _send(self, response: Response) -> None:
        later: Later = self._environ[LATER]
        later.send(response(self._environ, self._start_response))
