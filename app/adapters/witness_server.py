"""A witness over HTTP: a small WSGI application and its server (C2SP tlog-witness; FORMATS.md, 1.6).

    POST /add-checkpoint                               app.ledger.witness; the bodies and statuses are the protocol's
    GET  /<hex SHA-256 of the origin>/checkpoint       the last cosigned checkpoint, for monitors

Plain HTTP on a loopback address by default: to be reached from elsewhere it needs a TLS proxy in front.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from granian import Granian
from granian.constants import Interfaces

from app.errors import AssayError, Broken, Malformed, NotFound, Rejected, Unavailable
from app.ledger.ports import WitnessConflictError
from app.ledger.witness import MAX_BODY_BYTES, Witness
from app.tlog.note import SignatureError
from app.tlog.proof import ProofError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

log = logging.getLogger("assay.witness")

DEFAULT_ADDRESS = "127.0.0.1"
THREADS = 16  # requests at work at once; each holds its origin's lock for about one fsync
BACKLOG = 128  # connections
SUBMISSION_PATH = "/add-checkpoint"
TEXT = "text/plain; charset=utf-8"
SIZE_TYPE = "text/x.tlog.size"
STATUSES: tuple[tuple[type[AssayError], HTTPStatus], ...] = (  # the first that fits
    (WitnessConflictError, HTTPStatus.CONFLICT),
    (ProofError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (SignatureError, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Rejected, HTTPStatus.BAD_REQUEST),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)

Answer = tuple[HTTPStatus, str, bytes]
Application = Callable[["WSGIEnvironment", "StartResponse"], Iterable[bytes]]


def make_app(witness: Witness) -> Application:
    """Return the WSGI application of a witness."""
    paths = {f"/{sha256(origin.encode()).hexdigest()}/checkpoint": origin for origin in witness.origins}

    def answer(environ: WSGIEnvironment) -> Answer:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path == SUBMISSION_PATH:
            return _add_checkpoint(witness, environ) if method == "POST" else _refuse_method()
        if path in paths:
            return _read_checkpoint(witness, paths[path]) if method in {"GET", "HEAD"} else _refuse_method()
        return HTTPStatus.NOT_FOUND, TEXT, b"not found\n"

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            status, content_type, body = answer(environ)
        except AssayError as error:
            status, content_type, body = _explain(error)
        except Exception:
            log.exception("a request failed")
            status, content_type, body = HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, b"internal error\n"
        start_response(f"{status.value} {status.phrase}", _headers(status, content_type, body))
        return [body] if environ["REQUEST_METHOD"] != "HEAD" else []

    return app


def serve_witness(load: Callable[[], Witness], *, port: int, address: str = DEFAULT_ADDRESS) -> None:
    """Serve until SIGTERM or SIGINT, by one worker process that makes its witness with `load`.

    `load` must be picklable, a function of a module or a `partial` of one: the worker is a process of its own. Call
    it once before, so that a wrong key or file is reported to whoever started us.
    """
    server = Granian(
        "witness",
        address=address,
        port=port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=THREADS,
        backlog=BACKLOG,
        websockets=False,
        respawn_failed_workers=True,
    )
    server.serve(target_loader=partial(_load_app, load), wrap_loader=False)


def _load_app(load: Callable[[], Witness], *_: Any, **__: Any) -> Application:
    return make_app(load())


def _add_checkpoint(witness: Witness, environ: WSGIEnvironment) -> Answer:
    body = _read_body(environ)
    return HTTPStatus.OK, TEXT, witness.add_checkpoint(body)


def _read_checkpoint(witness: Witness, origin: str) -> Answer:
    checkpoint = witness.find_checkpoint(origin)
    if checkpoint is None:
        return HTTPStatus.NOT_FOUND, TEXT, b"nothing was cosigned yet\n"
    return HTTPStatus.OK, TEXT, checkpoint


def _read_body(environ: WSGIEnvironment) -> bytes:
    """Return the request's body, read no further than the bound. Without a length it must be chunked."""
    length = environ.get("CONTENT_LENGTH", "")
    if not length and "HTTP_TRANSFER_ENCODING" not in environ:
        return b""
    if length and not (length.isascii() and length.isdigit()):
        raise Malformed("invalid input: Content-Length")
    limit = min(int(length), MAX_BODY_BYTES + 1) if length else MAX_BODY_BYTES + 1
    return bytes(environ["wsgi.input"].read(limit))


def _explain(error: AssayError) -> Answer:
    """Return the protocol's answer; of what is our own fault only that it failed, the rest is logged."""
    if isinstance(error, WitnessConflictError):
        return HTTPStatus.CONFLICT, SIZE_TYPE, f"{error.size}\n".encode()
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    if isinstance(error, Broken | Unavailable):
        log.error("not cosigned: %s", error)
        return status, TEXT, f"{status.phrase.lower()}\n".encode()
    if status in {HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.FORBIDDEN}:
        log.warning("not cosigned: %s", json.dumps(str(error)))
    return status, TEXT, f"{error}\n".encode(errors="replace")


def _headers(status: HTTPStatus, content_type: str, body: bytes) -> list[tuple[str, str]]:
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", "1"))
    return headers


def _refuse_method() -> Answer:
    return HTTPStatus.METHOD_NOT_ALLOWED, TEXT, b"method not allowed\n"
